"""What the tests of names share: test/workloads/symbols_driver.c, which resolves addresses of a
file (resolve) or of its own process (self_resolve), and files to ask it about."""
import os
import re
import subprocess

import harness

AGENT_FILES = (
    "symbolizer symbol_cache symbol_table object_symbols plt_symbols dwarf_names "
    "debug_files elf_file memory_image perf_map jit_names demangle large_stack "
    "libbacktrace_region mappings maps_lines agent_memory memory_headroom process_info "
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


def functions_of_dynamic(path):
    fields = [line.split() for line in run(["nm", "-D", "-S", "--defined-only", path]).splitlines()]
    return sorted(
        {
            (int(field[0], 16), int(field[1], 16))
            for field in fields
            if len(field) == 4 and field[2] in "TWi"
        }
    )
