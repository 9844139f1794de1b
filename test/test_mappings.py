"""Which object an address belongs to, where /proc/self/maps alone does not tell: text that was
moved to other memory, plugins that were replaced."""
import os
import re
import shutil
import subprocess

import harness

FLAGS = ("-O1", "-fno-optimize-sibling-calls", "-Wl,--build-id")
ALLOCATIONS = {100001: "head", 100002: "hot", 100003: "hot_static", 100004: "tail"}


def build_id(path):
    notes = subprocess.run(
        [harness.need("readelf"), "-n", path], capture_output=True, text=True, check=True
    ).stdout
    return re.search("Build ID: ([0-9a-f]+)", notes)[1]


def allocations(profile):
    return {
        sample.labels["bytes"]: sample.frames
        for sample in profile.samples
        if sample.labels.get("bytes", 0) >= 100000
    }


def check_text(program, *arguments, extra=()):
    host = harness.Host([program, *arguments], rate=1)
    host.ready()
    profile = host.profile("heap")
    found, own = allocations(profile), build_id(program)
    assert sorted(found) == sorted(list(ALLOCATIONS) + list(extra)), (arguments, sorted(found))
    for size, name in ALLOCATIONS.items():
        frames = found[size]
        assert [frame.function for frame in frames[:2]] == [name, "main"], (arguments, size, frames)
        for frame in frames[:2]:
            assert frame.line > 0 and frame.filename.endswith("text_remap.c"), (arguments, frame)
            assert (frame.mapping.filename, frame.mapping.build_id) == (program, own), (
                arguments,
                frame.mapping,
            )
            assert frame.mapping.start <= frame.address < frame.mapping.limit
    for mapping in profile.mappings:
        assert (mapping.filename == program) == (mapping.build_id == own), (arguments, mapping)
    assert profile.mappings[0].filename == program
    assert "tail" in host.text("heap?debug=1") and "main(...)" in host.text("goroutine?debug=2")
    return host, found


def test_text_that_was_moved_keeps_its_names():
    program = harness.build("text_remap.c", *FLAGS)
    check_text(program, "none", "anonymous")
    for part in ("begin", "middle", "end", "whole"):
        for kind in ("anonymous", "named", "memfd", "file", "split"):
            check_text(program, part, kind)


def test_text_with_its_headers_was_moved():
    """The text segment is the first one: all that says what file it was has moved with it."""
    program = harness.build(
        "text_remap.c", *FLAGS, "-Wl,-z,noseparate-code", name="text_remap_noseparate"
    )
    for part in ("begin", "middle", "whole"):
        for kind in ("anonymous", "memfd", "file"):
            check_text(program, part, kind)


def test_text_of_a_library_was_moved_with_its_headers():
    """Without a build-id only the data behind the text still shows which file the library is."""
    library = harness.build(
        "text_remap.c",
        "-O1",
        "-fno-optimize-sibling-calls",
        "-Wl,-z,noseparate-code",
        "-Wl,--build-id=none",
        name="text_remap_library",
        shared=True,
    )
    script = (
        "import ctypes, sys; a = [x.encode() for x in sys.argv[1:]]; "
        "ctypes.CDLL(sys.argv[1]).main(3, (ctypes.c_char_p * 4)(*a, None))"
    )
    for kind in ("anonymous", "memfd", "file"):
        host = harness.Host(["python3", "-c", script, library, "whole", kind], rate=1)
        host.ready()
        frame = allocations(host.profile("heap"))[100003][0]
        assert (frame.function, frame.mapping.filename) == ("hot_static", library), (kind, frame)
        assert frame.filename.endswith("text_remap.c") and frame.line > 0, (kind, frame)


def test_code_beside_moved_text_is_not_the_program():
    program = harness.build(
        "text_remap.c", *FLAGS, "-Wl,-z,noseparate-code", name="text_remap_noseparate"
    )
    host, found = check_text(program, "whole", "anonymous", "neighbour", extra=[100005])
    frame, own = found[100005][0], found[100001][0]
    with open("/proc/%d/maps" % host.pid) as file:
        lines = [[int(word, 16) for word in line.split()[0].split("-")] for line in file]
    assert [line for line in lines if line[0] <= frame.address < line[1]] == [
        line for line in lines if line[0] <= own.address < line[1]
    ]
    assert frame.function == "", frame
    assert (frame.mapping.filename, frame.mapping.build_id) == ("//anon", ""), frame
    assert host.text("symbol?%#x" % frame.address) == "num_symbols: 1\n"


def plugin(first, second, *flags):
    name = "plugin_replaced_%s_%s" % (first, second) + "".join(
        re.sub(r"\W", "_", flag) for flag in flags
    )
    return harness.build(
        "plugin_replaced.c",
        "-O1",
        "-fno-optimize-sibling-calls",
        "-DFIRST=" + first,
        "-DSECOND=" + second,
        *flags,
        name=name,
        shared=True
    )


def names_after(how, old, new):
    """What the blocks of the old plugin and those of the new one are called."""
    directory = harness.scratch()
    paths = [os.path.join(directory, "plugin.so"), os.path.join(directory, "new.so")]
    for source, path in zip((old, new), paths):
        shutil.copy(source, path)
    host = harness.Host(
        [harness.build("plugin_replaced.c", "-O1", name="plugin_replaced"), *paths, how], rate=1
    )
    base = host.ready()
    host.profile("heap")  # the names are in the cache, as far as there are any
    host.go_on()
    assert host.ready() == base, "the new plugin is at another place"
    found = allocations(host.profile("heap"))
    for size in (100001, 100002):
        assert found[size][0].mapping.filename == paths[0]
    return [found[size][0].function for size in (100001, 100002, 200001, 200002)]


def test_plugin_that_was_replaced():
    """Old stacks never get the new file's names; where nothing has changed they have theirs."""
    old, new = plugin("alpha", "beta", "-Wl,--build-id=none"), plugin(
        "gamma_", "delta_", "-DPADDING", "-Wl,--build-id=none"
    )
    for how in ("rename", "rewrite"):
        assert names_after(how, old, new) == ["", "", "gamma_", "delta_"], how
    assert names_after("same", old, new) == ["alpha", "beta", "alpha", "beta"]
    same_layout = plugin(
        "omega", "zeta", "-Wl,--build-id=none"
    )  # as long in every part, but for its names
    assert os.path.getsize(same_layout) == os.path.getsize(old)
    for how in ("rename", "rewrite"):
        assert names_after(how, old, same_layout) == ["", "", "omega", "zeta"], how
    identified = plugin("alpha", "beta", "-Wl,--build-id")
    # asked for while the file was still there, by its build-id
    assert names_after("rename", identified, plugin("gamma_", "delta_", "-Wl,--build-id")) == [
        "alpha",
        "beta",
        "gamma_",
        "delta_",
    ]
    assert names_after("same", identified, identified) == ["alpha", "beta", "alpha", "beta"]
