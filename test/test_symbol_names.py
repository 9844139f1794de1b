"""Which name an address gets: of many languages, versions, marks, aliases, in stripped objects."""
import os
import re
import shutil
import subprocess
import tempfile

import harness
from symbol_driver import build_id, functions, resolve, run, self_resolve

CRYSTAL = "*Shelf@Store(T)#fill<Int32>:Nil"
STRIPPED = ("stripped_function", "stripped_bare_function")
EM_AARCH64, EM_RISCV = 183, 243


def compile_names(directory, *flags, name="names", strip=STRIPPED):
    source, output = os.path.join(directory, "main.c"), os.path.join(directory, name)
    with open(source, "w") as file:
        file.write("int main(void) { return 0; }\n")
    assembly = os.path.join(harness.WORKLOADS, "symbol_names.s")
    run(["gcc", "-o", output, source, assembly] + list(flags))
    starts = all_starts(output)
    if strip:
        run(["objcopy"] + ["--strip-symbol=" + symbol for symbol in strip] + [output])
    return output, starts


def all_starts(path):
    """{name: address} of .symtab, names as they are there."""
    found = {}
    for line in run(["nm", "--without-symbol-versions", path]).splitlines():
        fields = line.split(" ", 2)
        if len(fields) == 3 and len(fields[0]) == 16:
            found[fields[2]] = int(fields[0], 16)
    return found


def start_of(starts, name):
    """nm may show a name up to its @ only."""
    return starts[name] if name in starts else starts[name.split("@")[0]]


def names_at(path, addresses):
    found, _ = resolve(path, addresses)
    return [found[address][1][-1][:2] if found[address][1] else None for address in addresses]


def twice(*names):
    return [(name, name) for name in names]


def test_jit_names_keep_their_at_signs():
    names = [
        "JS:*handler /app/node_modules/@babel/core@7.1/index.js:10:5",
        "py::run:/srv/a@b/app.py",
        "block in foo@/srv/app.rb:12",
        "Program/main@15::Invoke()",
        "@leading",
        "trailing@",
        "f@@V1",
        "read@plt",
    ]
    lines = ["2000000000%02x 10 %s\n" % (16 * at, name) for at, name in enumerate(names)]
    places = ["%x" % (16 * at) for at in range(len(names))]
    _, frames, _ = self_resolve("jit", *places, text_input="".join(lines))
    assert [frame[0][:2] for frame in frames] == twice(*names), frames


def test_crystal_names_are_whole_in_every_table():
    """A linker takes what follows the @ of an exported name for its version."""
    with tempfile.TemporaryDirectory() as directory:
        for linker in ("bfd", "gold"):
            if shutil.which("ld." + linker) is None:
                continue
            for flags in ([], ["-rdynamic"]):
                path, starts = compile_names(directory, "-fuse-ld=" + linker, *flags)
                address = start_of(starts, CRYSTAL)
                if linker == "bfd" or flags:  # gold's .symtab has the cut name only
                    assert names_at(path, [address]) == twice(CRYSTAL), (linker, flags)
                if flags:
                    run(["strip", "--strip-all", path])
                    assert names_at(path, [address]) == twice(CRYSTAL), (linker, "stripped")


def test_a_plain_name_in_dwarf_gets_what_the_symbol_says_more():
    names = {CRYSTAL: CRYSTAL, "fill.part.0": "fill", "prefix_fill": "fill", "x.fill": "fill"}
    with tempfile.TemporaryDirectory() as directory:
        for symbol, expected in names.items():
            source, path = os.path.join(directory, "fill.c"), os.path.join(directory, "fill")
            with open(source, "w") as file:
                file.write(
                    "int fill(int n) {\n  return n + 1;\n}\n"
                    "int main(int n, char **v) { return fill(n); }\n"
                )
            run(["gcc", "-g", "-c", "-o", path + ".o", source])
            run(["objcopy", "--redefine-sym", "fill=" + symbol, path + ".o"])
            run(["gcc", "-o", path, path + ".o"])
            ((_, frames),) = resolve(path, [start_of(all_starts(path), symbol)])[0].values()
            assert frames[0][0] == expected and frames[0][3] == 1, (symbol, frames)


def test_only_versions_that_the_object_defines_are_cut():
    with tempfile.TemporaryDirectory() as directory:
        path, starts = compile_names(directory)
        assert names_at(path, [start_of(starts, "plain@OTHER_1")]) == twice("plain@OTHER_1")
        source, script = os.path.join(directory, "v.c"), os.path.join(directory, "v.map")
        library = os.path.join(directory, "v.so")
        with open(source, "w") as file:
            file.write(
                'int old_code(void) { return 1; }\n'
                '__asm__(".symver old_code, renamed@VERS_1.0");\n'
                'int new_code(void) { return 2; }\n'
                '__asm__(".symver new_code, renamed@@VERS_2.0");\n'
            )
        with open(script, "w") as file:
            file.write("VERS_1.0 { local: old_code; new_code; };\nVERS_2.0 { } VERS_1.0;\n")
        run(["gcc", "-shared", "-fPIC", "-o", library, source, "-Wl,--version-script", script])
        raw = run(["readelf", "-sW", library])
        assert "renamed@VERS_1.0" in raw, raw
        places = [
            int(line.split()[1], 16)
            for line in raw.splitlines()
            if re.search(r" (old|new)_code$", line)
        ]
        assert len(places) == 2, raw
        assert names_at(library, places) == twice("renamed", "renamed")
        debug = library + ".debug"  # has the symbols, but not what defines the versions
        run(["objcopy", "--only-keep-debug", library, debug])
        run(["strip", "--strip-all", library])
        run(["objcopy", "--add-gnu-debuglink=" + debug, library])
        assert names_at(library, places) == twice("renamed", "renamed")
        assert names_at(debug, places) == twice("renamed", "renamed")


def test_dollar_names_are_names_and_marks_are_not():
    with tempfile.TemporaryDirectory() as directory:
        path, starts = compile_names(directory)
        swift, bare = "$s4main3fooyyF", starts["bare_function"]
        assert names_at(path, [starts[swift]]) == twice(swift)
        names = twice("bare_function", "$d.1", "$xrv64gc")
        assert names_at(path, [bare + 1, bare + 2, bare + 4]) == names
        with open(path, "r+b") as file:
            for machine, names in (
                (EM_AARCH64, ("bare_function", "$xrv64gc")),
                (EM_RISCV, ("bare_function", "bare_function")),
            ):
                file.seek(18)
                file.write(machine.to_bytes(2, "little"))
                file.flush()
                got = names_at(path, [starts[swift], bare + 2, bare + 4])
                assert got == twice(swift, *names), machine


def test_a_partial_symtab_does_not_hide_the_dynamic_symbols():
    source = os.path.join(harness.WORKLOADS, "symbols_library.c")
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "library.so")
        run(["gcc", "-shared", "-fPIC", "-O1", "-o", path, source])
        places = [functions(path)[name][0] for name in ("library_static", "library_exported")]
        for kept, static in (("_init", None), ("library_static", ("library_static",) * 2)):
            partial = path + "." + kept
            run(["strip", "--strip-all", "--keep-symbol=" + kept, "-o", partial, path])
            assert names_at(partial, places) == [static] + twice("library_exported"), kept


def test_a_partial_symtab_does_not_hide_the_debug_file():
    source = os.path.join(harness.WORKLOADS, "symbols_library.c")
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "library.so")
        run(["gcc", "-shared", "-fPIC", "-O1", "-g", "-o", path, source])
        address, debug = functions(path)["library_static"][0], path + ".debug"
        run(["objcopy", "--only-keep-debug", "--remove-section=.debug_info", path, debug])
        run(["strip", "--strip-all", "--keep-symbol=_init", path])
        run(["objcopy", "--add-gnu-debuglink=" + debug, path])
        assert names_at(path, [address]) == twice("library_static")


def test_a_symbol_without_a_size_ends_with_its_function():
    with tempfile.TemporaryDirectory() as directory:
        path, starts = compile_names(directory, "-rdynamic")
        bare, stripped = starts["bare_function"], starts["stripped_function"]
        sizeless, behind = starts["sizeless_function"], starts["stripped_bare_function"]
        places = [bare, stripped - 1, stripped, sizeless - 1, sizeless, behind - 1, behind]
        expected = ["bare_function"] * 2 + [None] * 2 + ["sizeless_function"] * 2 + [None]
        run(["objcopy", "--strip-symbol=$d.1", "--strip-symbol=$xrv64gc", path])
        assert names_at(path, places) == [name and (name, name) for name in expected]
        run(["strip", "--strip-all", path])
        expected[:2] = [None, None]  # no tables, and static functions have no symbol in .dynsym
        assert names_at(path, places) == [name and (name, name) for name in expected]


def test_of_aliases_a_function_is_a_better_name_than_a_label():
    with tempfile.TemporaryDirectory() as directory:
        path, starts = compile_names(directory)
        assert starts["static_function"] == starts["label_of_a_function"]
        assert names_at(path, [starts["static_function"]]) == twice("static_function")
        assert names_at(path, [starts["last_function"] + 1]) == twice("last_function")


def test_long_and_costly_mangled_names():
    depth, nested = 3000, "i"
    for level in range(depth):
        name = "Tup%d" % level
        nested = "%d%sI%scE" % (len(name), name, nested)
    costly = "_RNvMIC0FGzzzzzzzz_EuEl1f"  # 62^8 lifetimes
    mangled = {
        "_Z4workI%sEvv" % nested: None,
        costly: costly,
        "_Z11constrainedITk1CiEiT_": "int constrained<int>(int)",
    }
    with tempfile.TemporaryDirectory() as directory:
        source, path = os.path.join(directory, "long.s"), os.path.join(directory, "long.so")
        with open(source, "w") as file:
            file.write("\t.text\n")
            for name in mangled:
                file.write("\t.globl %s\n\t.type %s, @function\n%s:\n" % ((name,) * 3))
                file.write("\tnop\n\tret\n")
                file.write("\t.size %s, . - %s\n" % (name, name))
        run(["gcc", "-shared", "-nostdlib", "-o", path, source])
        starts = all_starts(path)
        found, counters = resolve(path, [starts[name] for name in mangled])
        for name, readable in mangled.items():
            function, system_name = found[starts[name]][1][0][:2]
            assert system_name == name
            if readable is None:
                assert function.startswith("void work<Tup2999<Tup2998<"), function
                assert function.count("Tup") == depth and function.count(", char>") == depth
                assert function.endswith(", char> >()"), function
            else:
                assert function == readable
        assert counters["symbols_not_demangled"] == 1, counters


def test_an_object_without_section_headers_is_named_from_memory():
    source = os.path.join(harness.WORKLOADS, "symbols_library.c")
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "library.so")
        run(["gcc", "-shared", "-fPIC", "-O1", "-o", path, source])
        with open(path, "r+b") as file:
            file.seek(40)
            file.write(bytes(8))  # e_shoff
            file.seek(60)
            file.write(bytes(4))  # e_shnum, e_shstrndx
        assert build_id(path)
        _, frames, _ = self_resolve("library", path, "library_exported")
        assert [frame[0][:2] for frame in frames] == twice("library_exported"), frames


def test_node_functions_below_a_scoped_package():
    """A real perf map: V8 writes paths with @ into it."""
    node = harness.need("node")
    with tempfile.TemporaryDirectory() as directory:
        package = os.path.join(directory, "node_modules", "@scope", "pkg@1.2")
        os.makedirs(package)
        with open(os.path.join(package, "index.js"), "w") as file:
            file.write(
                "exports.burn = function burn(n) {\n"
                "  let x = 0; for (let i = 0; i < n; i++) x += i % 7; return x;\n};\n"
            )
        with open(os.path.join(directory, "main.js"), "w") as file:
            file.write(
                "const { burn } = require('@scope/pkg@1.2'); console.log('ready');\n"
                "(function turn() { burn(3e6); setTimeout(turn, 0); })();\n"
            )
        host = harness.Host(
            [node, "--perf-basic-prof", "main.js"], cwd=directory, stdin=subprocess.DEVNULL
        )
        host.ready()

        def burn_names():
            profile = host.profile("profile?seconds=1")
            return {
                frame.function
                for sample in profile.samples
                for frame in sample.frames
                if re.search(r"\bburn ", frame.function or "")
            }

        names = harness.poll(burn_names, "a function of the package in a CPU profile")
        place = os.path.join(os.path.realpath(package), "index.js:")
        assert all(place in name for name in names), names
        host.kill()
