"""Names of addresses: symbolizer.c in test/workloads/symbols_driver.c, against llvm-symbolizer and
by construction."""
import json
import os
import re
import shutil
import subprocess
import tempfile

import harness

AGENT_FILES = (
    "symbolizer symbol_cache symbol_table object_symbols plt_symbols dwarf_names "
    "debug_files elf_file memory_image perf_map jit_names demangle large_stack "
    "libbacktrace_region mappings agent_memory memory_headroom process_info "
    "split_dwarf fde_ranges symbol_versions loaded_code module_identity "
    "mapped_file trusted_path unmapped_user "
    "own_memory allowed_calls section_windows shared_objects symbol_memory "
    "table_memory confinement"
).split()
THIRD_PARTY = (
    "libbacktrace_dwarf libbacktrace_elf libbacktrace_sort "
    "libiberty_cp-demangle libiberty_rust-demangle"
).split()
CACHED_FUNCTIONS = {}


def driver():
    if "driver" not in CACHED_FUNCTIONS:
        output = os.path.join(harness.BUILD, "test", "symbols_driver")
        os.makedirs(os.path.dirname(output), exist_ok=True)
        sources = [os.path.join(harness.WORKLOADS, "symbols_driver.c")]
        sources += [
            os.path.join(harness.TEST_DIRECTORY, stub + ".c")
            for stub in ("stub_module_registry", "stub_announced_code")
        ]
        sources += [harness.source(name + ".c") for name in AGENT_FILES]
        deps = os.path.join(harness.BUILD, "deps")
        objects = [os.path.join(deps, name + ".o") for name in THIRD_PARTY]
        objects += [os.path.join(deps, archive) for archive in ("libz.a", "libzstd.a")]
        include = ["-I" + harness.ROOT, "-I" + os.path.join(deps, "src/gdb/libbacktrace")]
        compile_it = ["gcc", "-std=gnu11", "-D_GNU_SOURCE=", "-O1", "-g", "-o", output]
        run(compile_it + include + sources + objects)
        CACHED_FUNCTIONS["driver"] = output
    return CACHED_FUNCTIONS["driver"]


def run(argv, cwd=None, text_input=None):
    done = subprocess.run(
        argv, cwd=cwd, input=text_input, capture_output=True, text=True, timeout=harness.DEADLINE
    )
    assert done.returncode == 0, "%s: %d\n%s%s" % (
        " ".join(argv),
        done.returncode,
        done.stdout,
        done.stderr,
    )
    return done.stdout


def parse(output):
    """{address: (symbol_start, [(function, system name, file, line), ...])} and the counters after
    the last address."""
    found, counters, frames = {}, {}, None
    for line in output.splitlines():
        if line.startswith("\t"):
            function, system_name, file_name, number = line[1:].split("\t")
            frames.append((function, system_name, file_name, int(number)))
        elif re.fullmatch(r"[0-9a-f]+ [0-9a-f]+", line):
            address, start = line.split()
            frames = []
            found[int(address, 16)] = (int(start, 16), frames)
        elif not counters and "symbols_unnamed=" in line:
            counters = {name: float(value) for name, value in re.findall(r"(\w+)=([0-9.]+)", line)}
    return found, counters


def resolve(path, addresses, build_id_of=None):
    output = run(
        [driver(), path, build_id(build_id_of or path)],
        text_input="\n".join("%x" % address for address in addresses),
    )
    return parse(output)


def build_id(path):
    match = re.search(r"Build ID: ([0-9a-f]+)", run(["readelf", "-n", path]))
    return match.group(1) if match else ""


def functions(path):
    """{name: (address, size)} of .symtab."""
    found = {}
    for line in run(["nm", "-S", path]).splitlines():
        fields = line.split()
        if len(fields) == 4 and fields[2] in "tTwWi":
            found[fields[3]] = (int(fields[0], 16), int(fields[1], 16))
    return found


def every_address(path, step=1):
    return sorted(
        {start + at for start, size in functions(path).values() for at in range(0, size, step)}
    )


def compile_cplusplus(directory, *flags, compiler="g++", name="inlined"):
    source = os.path.join(harness.WORKLOADS, "symbols_inlined.cc")
    output = os.path.join(directory, name)
    run([harness.need(compiler), "-o", output, source] + list(flags))
    return output


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


def split_debug(path):
    """Leaves path without symbols; returns the file that has them."""
    debug = path + ".debug"
    run(["objcopy", "--only-keep-debug", path, debug])
    run(["strip", "--strip-all", path])
    return debug


def test_debug_file_by_debuglink():
    with tempfile.TemporaryDirectory() as directory:
        path = compile_cplusplus(directory, "-O2", "-g")
        addresses = every_address(path, 5)
        expected = resolve(path, addresses)[0]
        debug = split_debug(path)
        run(["objcopy", "--add-gnu-debuglink=" + debug, path])
        assert resolve(path, addresses)[0] == expected
        os.mkdir(os.path.join(directory, ".debug"))
        os.rename(debug, os.path.join(directory, ".debug", os.path.basename(debug)))
        assert resolve(path, addresses)[0] == expected
        # another program's debug file under the right name is refused
        other = compile_cplusplus(
            directory, "-O1", "-g", "-DOTHER", "-Wl,--build-id=0x1234567890", name="other"
        )
        run(
            [
                "objcopy",
                "--only-keep-debug",
                other,
                os.path.join(directory, ".debug", os.path.basename(debug)),
            ]
        )
        assert all(
            len(frames) == 0 or frames[0][3] == 0
            for _, frames in resolve(path, addresses)[0].values()
        )


def test_debug_file_by_debuglink_checksum_without_build_id():
    with tempfile.TemporaryDirectory() as directory:
        path = compile_cplusplus(directory, "-O2", "-g", "-Wl,--build-id=none")
        addresses = every_address(path, 5)
        expected = resolve(path, addresses)[0]
        debug = split_debug(path)
        run(["objcopy", "--add-gnu-debuglink=" + debug, path])
        assert resolve(path, addresses)[0] == expected
        with open(debug, "ab") as file:
            file.write(b"changed")
        assert all(
            not frames or frames[0][3] == 0 for _, frames in resolve(path, addresses)[0].values()
        )


def test_debug_file_by_build_id():
    with tempfile.TemporaryDirectory() as directory:
        path = compile_cplusplus(directory, "-O2", "-g")
        addresses = every_address(path, 5)
        expected = resolve(path, addresses)[0]
        debug, identity = split_debug(path), build_id(path)
        place = "/usr/lib/debug/.build-id/%s/%s.debug" % (identity[:2], identity[2:])
        made = not os.path.isdir(os.path.dirname(place))
        try:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            shutil.copy(debug, place)
        except PermissionError:
            raise harness.Skip("/usr/lib/debug cannot be written")
        try:
            assert resolve(path, addresses)[0] == expected
        finally:
            os.unlink(place)
            if made:
                os.rmdir(os.path.dirname(place))
        assert resolve(path, addresses)[0] != expected


def test_dwz_alternate_file():
    dwz = harness.need("dwz")
    with tempfile.TemporaryDirectory() as directory:
        first = compile_cplusplus(directory, "-O2", "-g", "-gdwarf-4", name="first")
        second = compile_cplusplus(directory, "-O1", "-g", "-gdwarf-4", name="second")
        addresses = every_address(first, 5)
        expected = resolve(first, addresses)[0]
        run([dwz, "-m", os.path.join(directory, "common"), first, second])
        assert "debugaltlink" in run(["readelf", "-SW", first])
        assert resolve(first, addresses)[0] == expected


def test_mini_debug_info():
    harness.need("xz")
    for threads in ("-T1", "-T2"):  # the latter's blocks have larger headers
        check_mini_debug_info(threads)


def check_mini_debug_info(threads):
    with tempfile.TemporaryDirectory() as directory:
        path = compile_cplusplus(directory, "-O2")
        names = functions(path)
        mini = path + ".mini"
        run(["objcopy", "-S", "--keep-symbol=main", path, mini + "0"])
        run(["objcopy", "--only-keep-debug", path, mini])
        run(
            ["objcopy", "-S", "--remove-section", ".comment"]
            + ["--keep-symbol=" + name for name in names]
            + [mini, mini + "1"]
        )
        run(["xz", threads, "-k", mini + "1"])
        run(["strip", "--strip-all", path])
        run(["objcopy", "--add-section", ".gnu_debugdata=%s1.xz" % mini, path])
        start, size = names.get("_ZN4deep12_GLOBAL__N_16hiddenEi") or names["c_function"]
        found, counters = resolve(path, [start, start + size - 1, start + size])
        assert found[start][1][0][0] in (
            "deep::(anonymous namespace)::hidden(int)",
            "c_function",
        ), found
        assert found[start][0] == start and found[start + size - 1][0] == start
        assert counters["symbols_files_malformed"] == 0


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


def compile_library(directory, *flags, name="library.so"):
    output = os.path.join(directory, name)
    run(
        [
            "gcc",
            "-shared",
            "-fPIC",
            "-O1",
            "-o",
            output,
            os.path.join(harness.WORKLOADS, "symbols_library.c"),
        ]
        + list(flags)
    )
    return output


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


def self_resolve(*words, text_input="", program=None):
    done = subprocess.run(
        [program or driver(), "--self"] + list(words),
        input=text_input,
        capture_output=True,
        text=True,
        timeout=harness.DEADLINE,
    )
    if done.returncode == 77:
        raise harness.Skip(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    maps = re.findall(
        r"^map (\S*) kind=(-?\d) deleted=(\d) unloaded=(\d) build_id=(\w*) main=(\S*)$",
        done.stdout,
        re.MULTILINE,
    )
    found, counters = parse(done.stdout)
    return maps, [frames for _, frames in found.values()], counters


def test_own_program_and_main_mapping():
    maps, frames, _ = self_resolve("main")
    assert maps[0][0] == maps[0][5] == os.path.realpath(driver()) and maps[0][4] == build_id(
        driver()
    ), maps
    assert (
        frames[0][0][0] == "own_function"
        and frames[0][0][2].endswith("symbols_driver.c")
        and frames[0][0][3] > 0
    ), frames


def test_unlinked_program_is_read_through_proc():
    with tempfile.TemporaryDirectory() as directory:
        copy = os.path.join(directory, "program")
        shutil.copy(driver(), copy)
        maps, frames, _ = self_resolve("main", copy, program=copy)
        assert maps[0][0] == copy and maps[0][2] == "1", maps
        assert frames[0][0][0] == "own_function" and frames[0][0][3] > 0, frames


def test_vdso():
    maps, frames, _ = self_resolve("vdso")
    assert maps[0][0] == "[vdso]" and maps[0][1] == "1", maps
    assert frames[0][0][0] in ("__vdso_clock_gettime", "clock_gettime"), frames


def test_dlopened_library():
    with tempfile.TemporaryDirectory() as directory:
        path = compile_library(directory, "-g")
        maps, frames, _ = self_resolve("library", path, "library_exported")
        assert maps[0][0] == path and maps[0][4] == build_id(path)
        assert (
            frames[0][0][0] == "library_exported"
            and frames[0][0][2].endswith("symbols_library.c")
            and frames[0][0][3] > 0
        )


def test_dlclosed_library_keeps_its_names():
    with tempfile.TemporaryDirectory() as directory:
        path = compile_library(directory, "-g")
        maps, frames, _ = self_resolve("library", path, "library_exported", "note", "close")
        assert maps[0][0] == path and maps[0][3] == "1", maps
        assert frames[0][0][0] == "library_exported" and frames[0][0][3] > 0


def test_dlclosed_and_replaced_library_has_no_names():
    with tempfile.TemporaryDirectory() as directory:
        path = compile_library(directory, "-g")
        other = compile_library(directory, "-g", "-DVERSION=2", name="other.so")
        _, frames, counters = self_resolve(
            "library", path, "library_exported", "note", "close", "replace=" + other
        )
        assert frames == [[]] and counters["symbols_files_missing"] == 1, frames


def test_deleted_library():
    with tempfile.TemporaryDirectory() as directory:
        path = compile_library(directory, "-g")
        maps, frames, _ = self_resolve("library", path, "library_exported", "unlink")
        assert maps[0][0] == path and maps[0][2] == "1", maps
        # by /proc/self/map_files where allowed, else by the symbols in memory
        assert frames[0][0][0] == "library_exported", frames


def test_replaced_library_is_not_named_by_the_new_file():
    with tempfile.TemporaryDirectory() as directory:
        path = compile_library(directory, "-g")
        other = compile_library(directory, "-g", "-DVERSION=2", name="other.so")
        maps, frames, _ = self_resolve("library", path, "library_exported", "replace=" + other)
        assert maps[0][2] == "1" and frames[0][0][0] == "library_exported", (maps, frames)


def test_replaced_library_without_privilege_is_named_from_memory():
    setpriv = harness.need("setpriv")
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o777)
        path = compile_library(directory, "-g")
        other = compile_library(directory, "-g", "-DVERSION=2", name="other.so")
        program = os.path.join(directory, "driver")
        shutil.copy(driver(), program)
        done = subprocess.run(
            [
                setpriv,
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                program,
                "--self",
                "library",
                path,
                "library_exported",
                "replace=" + other,
            ],
            capture_output=True,
            text=True,
            timeout=harness.DEADLINE,
        )
        if "setpriv" in done.stderr:
            raise harness.Skip(done.stderr)
        found, counters = parse(done.stdout)
        assert [frames for _, frames in found.values()] == [
            [("library_exported", "library_exported", "?", 0)]
        ], done.stdout
        assert counters["symbols_files_missing"] == 1


def test_jit_code_by_perf_map():
    lines = [
        "200000000000 20 first function(int)\n",
        "nonsense\n",
        "20000000zz 1 x\n",
        "200000000020 0 empty\n",
        "200000000100 10\n",
        "0x200000000040 0x10 with prefix\n",
        "200000000000 10 rewritten\n",
        "200000000060 10 unfinished line",
    ]
    _, frames, _ = self_resolve(
        "jit", "0", "18", "20", "45", "60", "100", text_input="".join(lines)
    )
    assert [frame[0][0] if frame else None for frame in frames] == [
        "rewritten",
        None,
        None,
        "with prefix",
        None,
        None,
    ], frames


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


def functions_of_dynamic(path):
    fields = [line.split() for line in run(["nm", "-D", "-S", "--defined-only", path]).splitlines()]
    return sorted(
        {
            (int(field[0], 16), int(field[1], 16))
            for field in fields
            if len(field) == 4 and field[2] in "TWi"
        }
    )
