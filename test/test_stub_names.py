"""Names of the stubs of the procedure linkage table (plt_symbols.c): objdump knows them."""
import glob
import os
import re
import shutil
import subprocess
import tempfile

import harness
from symbol_driver import resolve, run


AT_ONCE = 100000  # addresses: what is known of more does not fit into the budget of one request


def stub_sections(path):
    """{name: (address, size)} of the sections that hold stubs."""
    found = {}
    for line in run(["readelf", "-SW", path]).splitlines():
        match = re.match(
            r"\s*\[ *\d+\] (\.i?plt\S*)\s+PROGBITS\s+([0-9a-f]+) [0-9a-f]+ ([0-9a-f]+)", line
        )
        if match:
            found[match.group(1)] = (int(match.group(2), 16), int(match.group(3), 16))
    return found


def objdump_stubs(path):
    """{address: FUNCTION@plt} as objdump labels them, its versions left out."""
    sections = [option for name in stub_sections(path) for option in ("-j", name)]
    labels = re.findall(
        r"^([0-9a-f]+) <(.*)@plt>:$", run(["objdump", "-d"] + sections + [path]), re.MULTILINE
    )
    return {int(address, 16): name.split("@")[0] + "@plt" for address, name in labels}


def names_at(path, address):
    """Raw names of .dynsym and .symtab at an address."""
    text = run(["nm", "-D", path]) + (
        run(["nm", path])
        if "no symbols" not in run(["sh", "-c", "nm %s 2>&1 || true" % path])
        else ""
    )
    return {
        line.split()[2].split("@")[0]
        for line in text.splitlines()
        if len(line.split()) == 3 and int(line.split()[0], 16) == address
    }


def compare_stubs(path):
    """Every byte of every stub bears the name that objdump gives it, and nothing else in those
    sections has a name."""
    expected = objdump_stubs(path)
    assert expected, path
    sections, every = stub_sections(path), set()
    for start, size in sections.values():
        every.update(range(start, start + size))
    found, every = {}, sorted(every)
    for at in range(0, len(every), AT_ONCE):
        some, counters = resolve(path, every[at : at + AT_ONCE])
        assert (
            not counters["symbols_files_malformed"] and not counters["symbols_memory_limit"]
        ), path
        found.update(some)
    stubs = {}
    for address, (start, frames) in found.items():
        if frames:
            assert (
                len(frames) == 1 and frames[0][2:] == ("?", 0) and frames[0][1].endswith("@plt")
            ), (path, hex(address), frames)
            assert start <= address < start + 24 and found[start] == (start, frames), (
                path,
                hex(address),
                hex(start),
            )
            stubs[start] = frames[0]
    for address, name in expected.items():
        resolver = re.fullmatch(r"\*ABS\*\+0x([0-9a-f]+)@plt", name)
        if resolver and stubs[address][1] != name:
            assert stubs[address][1][: -len("@plt")] in names_at(
                path, int(resolver.group(1), 16)
            ), (name, stubs[address])
        else:
            assert stubs.get(address, ("", ""))[1] == name, (
                path,
                hex(address),
                name,
                stubs.get(address),
            )
    in_lazy = {
        address
        for address in stubs
        if ".plt.sec" in sections and sections[".plt"][0] <= address < sum(sections[".plt"])
    }
    in_iplt = {
        address
        for address in stubs
        if ".iplt" in sections and sections[".iplt"][0] <= address < sum(sections[".iplt"])
    }
    unknown = set(stubs) - in_lazy - in_iplt - set(expected)  # of .iplt objdump knows nothing
    assert not unknown, [(path, hex(address), stubs[address]) for address in unknown]
    # lazy stubs in front of .plt.sec have no label in objdump: each leads to the same function as
    # one there
    second = {frame for address, frame in stubs.items() if address not in in_lazy}
    assert all(stubs[address] in second for address in in_lazy)
    assert ".plt.sec" not in sections or in_lazy or sections[".plt"][1] <= 16, sections
    return len(stubs)


def test_stubs_of_packaged_programs():
    """Stripped, linked by the distribution: objdump is the truth."""
    paths = [
        "/bin/bash",
        "/usr/bin/python3",
        "/usr/bin/redis-server",
        "/usr/sbin/nginx",
        "/usr/bin/curl",
        "/usr/bin/perl",
        "/usr/bin/gcc",
    ]
    for name in ("libstdc++.so.6", "libc.so.6", "libcrypto.so.3"):
        paths.append(os.path.join(harness.LIBRARIES, name))
    # node: one large program, or a few stubs in front of a large library, as the packager likes
    paths += ["/usr/bin/node"] + glob.glob(os.path.join(harness.LIBRARIES, "libnode.so.*"))
    total = 0
    for path in paths:
        if os.path.exists(path):
            total += compare_stubs(path)
    assert total > 500, total
    harness.note("%d stubs" % total)


def test_stub_names_are_readable():
    path = os.path.join(harness.LIBRARIES, "libstdc++.so.6")
    stubs = {name: address for address, name in objdump_stubs(path).items()}
    found = resolve(path, stubs.values())[0]
    assert found[stubs["_Znwm@plt"]][1] == [
        ("operator new(unsigned long)@plt", "_Znwm@plt", "?", 0)
    ], found[stubs["_Znwm@plt"]]
    libc = os.path.join(harness.LIBRARIES, "libc.so.6")
    names = {frames[0][0] for _, frames in resolve(libc, objdump_stubs(libc))[0].values()}
    assert {
        "strlen@plt",
        "memset@plt",
        "free@plt",
    } <= names, names  # the first two are IFUNCs of libc's own


def test_stubs_of_linkers():
    """ld, gold and lld; lazy and bound now; with and without endbr64; with IFUNCs; stripped or not;
    the section headers gone."""
    with tempfile.TemporaryDirectory() as directory:
        source = os.path.join(directory, "stubs.c")
        with open(source, "w") as file:
            file.write(
                "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <math.h>\n"
                "static int one(int x) { return x + 1; }\n"
                "static int (*choose(void))(int) { return one; }\n"
                "static int chosen(int) __attribute__((ifunc(\"choose\")));\n"
                "void *volatile kept = (void *)fputs;\nvoid *address_of_puts(void) { return (void "
                "*)puts; }\n"
                "int main(int count, char **words) {\n"
                "  if (count > 90) { puts(words[1]); printf(\"%f\", cos(count)); qsort(words, 1, "
                "1, 0); abort(); }\n"
                "  return chosen(count) + (getenv(\"X\") != 0) + (int)strtol(words[0], 0, 0); }\n"
            )
        made = 0
        for compiler in ("gcc", "gcc -fuse-ld=gold", "clang -fuse-ld=lld"):
            if shutil.which(compiler.split()[0]) is None or (
                compiler.split()[-1][9:] not in ("", "gcc")
                and shutil.which("ld." + compiler.split("=")[1]) is None
            ):
                continue
            for flags in (
                "-Wl,-z,lazy",
                "-Wl,-z,now",
                "-no-pie -fno-pic",
                "-fcf-protection=full -Wl,-z,force-ibt -Wl,-z,lazy",
                "-fcf-protection=full -Wl,-z,ibtplt",
                "-shared -fPIC -Wl,-z,lazy",
                "-fno-plt",
                "-s -Wl,-z,lazy",
            ):
                path = os.path.join(directory, "stubs%d" % made)
                done = subprocess.run(
                    compiler.split() + ["-O1"] + flags.split() + ["-o", path, source, "-lm"],
                    capture_output=True,
                    text=True,
                )
                if done.returncode or not objdump_stubs(path):
                    continue
                compare_stubs(path)
                made += 1
                names = {
                    frames[0][0] for _, frames in resolve(path, objdump_stubs(path))[0].values()
                }
                assert "-fno-plt" in flags or {"puts@plt", "qsort@plt"} <= names, (
                    compiler,
                    flags,
                    names,
                )
                if "-s" not in flags.split() and "-fno-plt" not in flags:
                    start, size = next(
                        (part for name, part in stub_sections(path).items() if name == ".iplt"),
                        stub_sections(path)[".plt"],
                    )
                    named = {
                        frames[0][0]
                        for _, frames in resolve(path, range(start, start + size))[0].values()
                        if frames
                    }
                    assert "chosen@plt" in named, (compiler, flags, named)
        assert made >= 6, made
        bare = os.path.join(directory, "stubs0")
        addresses = sorted(objdump_stubs(bare))
        with open(bare, "r+b") as file:  # e_shoff, e_shnum, e_shstrndx
            file.seek(40)
            file.write(bytes(8))
            file.seek(60)
            file.write(bytes(4))
        assert all(
            not frames for _, frames in resolve(bare, addresses, build_id_of=bare)[0].values()
        )
