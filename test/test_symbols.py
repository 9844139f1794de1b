"""Names of addresses in programs and libraries of every kind: symbolizer.c, in
test/workloads/symbols_driver.c, against llvm-symbolizer and by construction."""
import json
import os
import re
import shutil
import subprocess
import tempfile

import harness
from symbol_driver import (
    build_id,
    compile_cplusplus,
    compile_library,
    driver,
    every_address,
    functions,
    functions_of_dynamic,
    parse,
    resolve,
    run,
)


def oracle(path, addresses):
    """{address: [(raw name, file, line), ...]} by llvm-symbolizer (addr2line 2.40 gets some files
    of DWARF 5 wrong)."""
    tool = shutil.which("llvm-symbolizer") or shutil.which("llvm-symbolizer-14")
    if tool is None:
        raise harness.Skip("llvm-symbolizer is not installed")
    output = run(
        [tool, "--output-style=JSON", "--no-demangle", "--inlines", "--obj=" + path],
        text_input="\n".join("0x%x" % address for address in addresses),
    )
    expected = {}
    for line in output.splitlines():
        for entry in (
            json.loads(line) if line.startswith("[") else [json.loads(line)] if line else []
        ):
            frames = [
                (frame["FunctionName"], frame["FileName"], frame["Line"])
                for frame in entry.get("Symbol", [])
            ]
            expected[int(entry["Address"], 16)] = [
                frame for frame in frames if frame[0] or frame[1]
            ]
    return expected


def same_name(ours, theirs):
    """gcc writes C1 constructors as aliases of C2; clones have a suffix in the symbol table
    only."""
    return re.sub(r"([CD])[1-5](?=[EI])", r"\1", ours) == re.sub(
        r"([CD])[1-5](?=[EI])", r"\1", re.sub(r"\.[a-z].*", "", theirs)
    )


def compare_with_oracle(path, step=1):
    addresses = every_address(path, step)
    found, counters = resolve(path, addresses)
    expected = oracle(path, addresses)
    wrong = []
    for address in addresses:
        ours, theirs = found[address][1], expected[address]
        good = len(ours) == len(theirs)
        for (_, system_name, file_name, line), (name, their_file, their_line) in zip(ours, theirs):
            named_by_dwarf_only = not system_name.startswith(
                "_Z"
            )  # llvm-symbolizer leaves out their namespaces
            good = (
                good
                and (named_by_dwarf_only or same_name(system_name, name))
                and line == their_line
            )
            good = good and os.path.normpath(
                file_name if file_name != "?" else "."
            ) == os.path.normpath(their_file or ".")
        if not good:
            wrong.append("%x: %s instead of %s" % (address, ours, theirs))
    # gcc's ranges of a few inlined functions overlap: either reading is right
    assert len(wrong) <= len(addresses) // 500, "%d of %d differ:\n%s" % (
        len(wrong),
        len(addresses),
        "\n".join(wrong[:10]),
    )
    assert counters["symbols_files_malformed"] == 0
    return len(addresses)


def check_inline_chain(path, found):
    """What the source says, whatever the tools: malloc's caller is innermost <- middle <- (lambda)
    <- c_function."""
    start, size = functions(path)["c_function"]
    chains = [[frame[0] for frame in found[address][1]] for address in range(start, start + size)]
    full = [
        chain
        for chain in chains
        if chain[:2] == ["innermost(int)", "middle(int)"] or chain[:2] == ["innermost", "middle"]
    ]
    assert full and all(
        chain[2:] == ["<lambda>::operator()", "c_function"] for chain in full
    ), chains[:40]


def test_dwarf_5_with_inlined_functions():
    with tempfile.TemporaryDirectory() as directory:
        path = compile_cplusplus(directory, "-O2", "-g", "-gdwarf-5")
        harness.note("%d addresses" % compare_with_oracle(path))
        check_inline_chain(path, resolve(path, every_address(path))[0])


def test_static_functions_and_anonymous_namespaces_are_qualified():
    with tempfile.TemporaryDirectory() as directory:
        for flags in (["-gdwarf-5", "-O2"], ["-gdwarf-4", "-O2"], ["-g", "-O0"]):
            path = compile_cplusplus(directory, *flags)
            names = {
                frame[0]
                for _, frames in resolve(path, every_address(path, 2))[0].values()
                for frame in frames
            }
            assert {
                "deep::(anonymous namespace)::hidden(int)",
                "deep::(anonymous namespace)::Node::fill(int)",
            } <= names, names
            assert names & {
                "deep::(anonymous namespace)::Node::~Node",
                "deep::(anonymous namespace)::Node::~Node()",
            }, names
            assert not names & {"hidden", "fill", "Node::fill", "operator()", "~Node"}, names


def test_dwarf_4_with_inlined_functions():
    with tempfile.TemporaryDirectory() as directory:
        path = compile_cplusplus(directory, "-O2", "-g", "-gdwarf-4")
        compare_with_oracle(path)
        check_inline_chain(path, resolve(path, every_address(path))[0])


def test_dwarf_without_optimisation_and_in_sections():
    with tempfile.TemporaryDirectory() as directory:
        compare_with_oracle(compile_cplusplus(directory, "-O0", "-g"), step=3)
        compare_with_oracle(
            compile_cplusplus(directory, "-O2", "-g", "-ffunction-sections", "-Wl,--gc-sections"),
            step=3,
        )
        compare_with_oracle(compile_cplusplus(directory, "-O2", "-g", "-no-pie"), step=3)


def test_clang():
    harness.need("clang++")
    with tempfile.TemporaryDirectory() as directory:
        for version in ("-gdwarf-4", "-gdwarf-5"):
            compare_with_oracle(
                compile_cplusplus(directory, "-O2", "-g", version, compiler="clang++"), step=2
            )


def test_compressed_debug_sections():
    with tempfile.TemporaryDirectory() as directory:
        plain = compile_cplusplus(directory, "-O2", "-g")
        addresses = every_address(plain, 5)
        expected = resolve(plain, addresses)[0]
        for kind in ("zlib", "zlib-gnu", "zstd"):
            packed = plain + "." + kind
            run(["objcopy", "--compress-debug-sections=" + kind, plain, packed])
            assert resolve(packed, addresses)[0] == expected, kind


def test_symbol_table_only():
    with tempfile.TemporaryDirectory() as directory:
        path = compile_cplusplus(directory, "-O2")
        for name, (start, size) in functions(path).items():
            if size == 0 or name.startswith("_fini") or name.startswith("_init"):
                continue
            found = resolve(path, [start, start + size - 1])[0]
            for address, (symbol_start, frames) in found.items():
                assert symbol_start == start and len(frames) == 1 and frames[0][2:] == ("?", 0), (
                    name,
                    found,
                )
            if name == "_ZN4deep12_GLOBAL__N_14Node4fillEi":
                assert frames[0][:2] == ("deep::(anonymous namespace)::Node::fill(int)", name)


def test_dynamic_symbols_only_do_not_name_static_functions():
    with tempfile.TemporaryDirectory() as directory:
        path = compile_library(directory)
        static_start, exported_start = (
            functions(path)["library_static"][0],
            functions(path)["library_exported"][0],
        )
        run(["strip", "--strip-all", path])
        found, counters = resolve(path, [static_start + 1, exported_start + 1])
        assert found[static_start + 1] == (0, []), found
        assert found[exported_start + 1][1] == [("library_exported", "library_exported", "?", 0)]
        assert counters["symbols_unnamed"] == 1


def test_assembly_without_sizes():
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "asm")
        run(["gcc", "-o", path, os.path.join(harness.WORKLOADS, "symbols_asm.s")])
        starts = {
            line.split()[2]: int(line.split()[0], 16)
            for line in run(["nm", path]).splitlines()
            if len(line.split()) == 3
        }
        first, following = starts["asm_without_size"], starts["asm_next"]
        found = resolve(
            path, [first, following - 1, following, starts["main"], starts["_start"] + 3]
        )[0]
        names = [
            found[address][1][0][0]
            for address in (first, following - 1, following, starts["main"], starts["_start"] + 3)
        ]
        assert names == [
            "asm_without_size",
            "asm_without_size",
            "asm_next",
            "main",
            "_start",
        ], names


def test_symbol_versions_are_not_part_of_names():
    with tempfile.TemporaryDirectory() as directory:
        script = os.path.join(directory, "versions")
        with open(script, "w") as file:
            file.write("V1 { global: library_exported; };\n")
        path = compile_library(directory, "-Wl,--version-script=" + script)
        start = [
            int(line.split()[0], 16)
            for line in run(["nm", path]).splitlines()
            if "library_exported" in line
        ][0]
        assert resolve(path, [start])[0][start][1][0][:2] == (
            "library_exported",
            "library_exported",
        )


def test_rust_legacy_and_v0_names():
    rustc = shutil.which("rustc")
    if rustc is None:
        raise harness.Skip("rustc is not installed")
    with tempfile.TemporaryDirectory() as directory:
        for mangling in ("legacy", "v0"):
            path = os.path.join(directory, mangling)
            flags = [
                "-g",
                "-O",
                "-C",
                "symbol-mangling-version=" + mangling,
                "-Z",
                "unstable-options",
            ]
            done = subprocess.run(
                ["env", "RUSTC_BOOTSTRAP=1", rustc, "--edition", "2021", "-o", path]
                + flags
                + [os.path.join(harness.WORKLOADS, "symbols_rust.rs")],
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
            raw, (start, size) = next(
                item
                for item in functions(path).items()
                if "fill_shelf" in item[0] and item[1][1] > 0
            )
            found = resolve(path, range(start, start + size))[0]
            names = {frame[0] for _, frames in found.values() for frame in frames}
            crate = (
                "symbols_rust"
                if any(name.startswith("symbols_rust::") for name in names)
                else mangling
            )
            assert {frames[-1][0] for _, frames in found.values()} == {
                crate + "::fill_shelf"
            }, names
            assert {frames[-1][1] for _, frames in found.values()} == {raw}
            assert any("for_each" in name for name in names), names  # inlined
            stores = [
                name
                for name, place in functions(path).items()
                if "Shelf" in name and "store" in name and place[1] > 0
            ]
            readable = resolve(path, [functions(path)[stores[0]][0]])[0][
                functions(path)[stores[0]][0]
            ][1][-1][0]
            assert (
                readable.endswith("::store")
                and "Shelf" in readable
                and not re.search(r"h[0-9a-f]{16}", readable)
            ), readable


def test_addresses_beyond_the_memory_are_counted_as_such():
    """Each has a name, is in no symbol, or found no memory: of every byte of a large library."""
    path = harness.need_library("libstdc++.so.6")
    start, size = next(
        (int(match[1], 16), int(match[2], 16))
        for match in re.finditer(
            r"\.text\s+PROGBITS\s+(\w+) \w+ (\w+)", run(["readelf", "-SW", path])
        )
    )
    found, counters = resolve(path, range(start, start + size))
    nameless = sum(not frames or not frames[-1][1] for _, frames in found.values())
    assert len(found) == size > 500000, (len(found), size)
    assert nameless == counters["symbols_unnamed"] + counters["symbols_no_memory"], counters
    assert size / 10 < counters["symbols_no_memory"] < size, counters


def test_what_is_no_object_file_costs_a_name_only():
    with tempfile.TemporaryDirectory() as directory:
        fifo, empty, text, huge = (
            os.path.join(directory, name) for name in ("fifo", "empty", "text", "huge")
        )
        os.mkfifo(fifo)
        open(empty, "w").close()
        with open(text, "w") as file:
            file.write("#!/bin/sh\n" * 100)
        shutil.copy(driver(), huge)
        os.truncate(huge, 1 << 40)  # sparse
        truncated = os.path.join(directory, "truncated")
        shutil.copy(driver(), truncated)
        os.truncate(truncated, os.path.getsize(truncated) // 2)
        for path in (
            fifo,
            empty,
            text,
            "/dev/zero",
            "/dev/tty",
            directory,
            truncated,
            os.path.join(directory, "absent"),
        ):
            output = run([driver(), path, ""], text_input="1000\n2000\n")
            found, counters = parse(output)
            assert all(not frames for _, frames in found.values()), (path, output)
            assert counters["symbols_files_missing"] + counters["symbols_files_malformed"] >= (
                path != truncated
            ), (path, output)
        own = functions(driver())["own_function"][0]
        assert resolve(huge, [own])[0][own][1][0][0] == "own_function"


def test_speed_and_memory_on_a_large_library():
    libc = harness.need_library("libc.so.6")
    identity = build_id(libc)
    addresses = [start for start, size in functions_of_dynamic(libc)]
    output = run(
        [driver(), libc, identity],
        text_input="\n".join("%x" % address for address in addresses * 2),
    )
    found, counters = parse(output)
    named = sum(bool(frames) for _, frames in found.values())
    assert named == len(found), "%d of %d named" % (named, len(found))
    after = int(re.search(r"after close: .*agent_bytes=(\d+)", output).group(1))
    assert counters["seconds"] < 2 and after < (20 << 20), output.splitlines()[-2:]
    has_debug = os.path.exists(
        "/usr/lib/debug/.build-id/%s/%s.debug" % (identity[:2], identity[2:])
    )
    harness.note(
        "libc, %d addresses, debug file %s: %.0f ms, %.1f MiB while open, %.1f MiB after"
        % (
            len(addresses),
            "yes" if has_debug else "no",
            counters["seconds"] * 1000,
            counters["agent_bytes"] / 2**20,
            after / 2**20,
        )
    )
