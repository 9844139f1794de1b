"""Debug information in every form of the compilers names the same chain of calls."""
import os
import re
import subprocess

import harness
from pprof_reader import bare

FLAGS = ["-O2", "-fno-optimize-sibling-calls", "-pthread", "-I" + harness.WORKLOADS]
SOURCES = ["dwarf_chain.cc", "dwarf_chain_main.cc"]
CHAIN = ["fill", "inner", "middle", "entry", "operator()", "caller", "main"]
INLINED = {"inner", "middle", "operator()"}


def lines_of(source):
    """{frame: line}: a line of the source ends with the name of the frame that it gives."""
    found = {}
    with open(os.path.join(harness.WORKLOADS, source)) as file:
        for number, line in enumerate(file, 1):
            match = re.search(r"; // (\S+)$", line)
            if match:
                found[match.group(1)] = (source, number)
    return found


LINES = {name: place for source in SOURCES for name, place in lines_of(source).items()}


def run(command, directory):
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=harness.DEADLINE * 3
    )
    assert done.returncode == 0, "%s\n%s" % (" ".join(command), done.stderr)


def compile_chain(directory, compiler, *flags, link=()):
    """The program, from two units whose objects (and .dwo files) are in the directory too."""
    objects = []
    for source in SOURCES:
        objects.append(source[:-3] + ".o")
        run(
            [harness.need(compiler)]
            + FLAGS
            + list(flags)
            + ["-c", "-o", objects[-1], os.path.join(harness.WORKLOADS, source)],
            directory,
        )
    run([harness.need(compiler), "-pthread", "-o", "chain"] + list(link) + objects, directory)
    return os.path.join(directory, "chain")


def stack_of(program, size, cwd=None):
    """[(function, file, line), ...] of the one allocation of that size, and what was not found."""
    host = harness.Host([program], rate=1, cwd=cwd)
    host.ready()
    samples = host.profile("heap").samples
    found = [sample for sample in samples if sample.labels.get("bytes") == size]
    losses = {
        name: count
        for name, count in host.health()["losses"].items()
        if count and name.startswith("symbols_")
    }
    assert host.finish() == 0
    assert len(found) == 1 and found[0].values[0] == 1, found
    losses.pop("symbols_unnamed", None)  # libc's end of the stack, without its debug package
    frames = found[0].frames
    places = [(frame.function, os.path.basename(frame.filename), frame.line) for frame in frames]
    return places, losses


def last_name(function):
    plain = bare(function.split(" [clone")[0].replace("(anonymous namespace)::", ""))
    return re.sub(r"(?<=\w)<.*", "", plain).split("::")[-1]


def difference(frames, losses):
    """None if it is the chain, with its files and lines."""
    own = [frame for frame in frames if last_name(frame[0]) in LINES]
    if [last_name(frame[0]) for frame in own] != CHAIN or frames[: len(own)] != own:
        return "names: %s" % frames
    wrong = [frame for frame, name in zip(own, CHAIN) if frame[1:] != LINES[name]]
    return "lines: %s" % wrong if wrong else "losses: %s" % losses if losses else None


def check_chain(compiler, *flags, link=()):
    program = compile_chain(harness.scratch(), compiler, *flags, link=link)
    wrong = difference(*stack_of(program, 100001))
    assert wrong is None, "%s %s: %s" % (compiler, " ".join(flags), wrong)
    return program


def contents(program, section):
    path = os.path.join(harness.scratch(), "section")
    run(
        [
            "objcopy",
            "-O",
            "binary",
            "--only-section=" + section,
            "--set-section-flags",
            section + "=alloc",
            program,
            path,
        ],
        "/",
    )
    with open(path, "rb") as file:
        return file.read()


def formats(program, section):
    """{4}, {8} or both: the sizes of offsets in the units or tables of a section."""
    data, at, found = contents(program, section), 0, set()
    while at < len(data):
        width = 8 if data[at : at + 4] == b"\xff\xff\xff\xff" else 4
        found.add(width)
        start = at + width - 4
        at = start + width + int.from_bytes(data[start : start + width], "little")
    return found


# ---- 32 and 64-bit DWARF -------------------------------------------------------------------------


def test_64_bit_units_of_gcc_with_the_assemblers_32_bit_line_tables():
    for flags in (
        ["-gdwarf-5"],
        ["-gdwarf-4"],
        ["-gdwarf-3"],
        ["-gdwarf-5", "-ffunction-sections"],
    ):
        program = check_chain("g++", "-gdwarf64", *flags)
        assert 8 in formats(program, ".debug_info"), flags
        assert formats(program, ".debug_line") == {4}, flags


def test_64_bit_dwarf_of_clang():
    for flags in (["-gdwarf-5"], ["-gdwarf-4"], ["-gdwarf-5", "-ffunction-sections"]):
        program = check_chain("clang++", "-gdwarf64", *flags)
        assert 8 in formats(program, ".debug_info") and 8 in formats(program, ".debug_line"), flags
        program = check_chain("clang++", "-gdwarf64", "-fno-integrated-as", *flags)
        assert 8 in formats(program, ".debug_info"), flags
        assert formats(program, ".debug_line") == {4}, flags


CONVERTED = (".debug_str_offsets", ".debug_rnglists", ".debug_addr")


def convert_tables(text, wide):
    """Assembly by clang with these tables in the other format; the units stay as they are."""
    lines, section = [], ""
    for line in text.splitlines():
        entered = re.match(r"\s+(?:\.section\s+)?(\.debug[_\w]+|\.text)", line)
        section = entered.group(1) if entered else section
        if section not in CONVERTED:
            lines.append(line)
            continue
        if "DWARF64" in line:
            continue  # written anew where it belongs
        old, new = (".long", ".quad") if wide else (".quad", ".long")
        if "# Length" in line:
            size = re.search(r"(\d+)\s+# Length of String", line)
            if size:
                entries = (int(size.group(1)) - 4) // (4 if wide else 8)
                line = line.replace(size.group(1), str(4 + entries * (8 if wide else 4)), 1)
            lines += ["\t.long\t0xffffffff"] if wide else []
            lines.append(line.replace(old, new))
        elif ".Linfo_string" in line or ".Lrnglists_table_base" in line:
            lines.append(line.replace(old, new))
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


def assemble_chain(directory, assembler, change, *flags):
    """As compile_chain, by way of clang's assembly, changed."""
    for source in SOURCES:
        stem = source[:-3]
        command = [harness.need("clang++")] + FLAGS + list(flags) + ["-S", "-o", stem + ".s"]
        run(command + [os.path.join(harness.WORKLOADS, source)], directory)
        path = os.path.join(directory, stem + ".s")
        with open(path) as file:
            text = change(file.read())
        with open(path, "w") as file:
            file.write(text)
        run(assembler + ["-o", stem + ".o", stem + ".s"], directory)
    objects = [source[:-3] + ".o" for source in SOURCES]
    run([harness.need("clang++"), "-pthread", "-o", "chain"] + objects, directory)
    return os.path.join(directory, "chain")


def test_tables_need_not_have_the_format_of_their_units():
    for units, tables, flags in ((4, 8, ["-gdwarf32"]), (8, 4, ["-gdwarf64"])):
        program = assemble_chain(
            harness.scratch(),
            [harness.need("clang"), "-c"],
            lambda text: convert_tables(text, tables == 8),
            "-gdwarf-5",
            "-ffunction-sections",
            *flags
        )
        assert units in formats(program, ".debug_info"), units
        for section in CONVERTED:
            assert tables in formats(program, section), (section, formats(program, section))
        wrong = difference(*stack_of(program, 100001))
        assert wrong is None, "units %d, tables %d: %s" % (units, tables, wrong)


def test_32_bit_units_with_64_bit_line_tables():
    assembler = [harness.need("llvm-mc"), "-filetype=obj", "-dwarf64"]
    for version in ("-gdwarf-5", "-gdwarf-4"):
        program = assemble_chain(harness.scratch(), assembler, lambda text: text, version)
        assert formats(program, ".debug_info") == {4} and 8 in formats(program, ".debug_line")
        wrong = difference(*stack_of(program, 100001))
        assert wrong is None, "%s: %s" % (version, wrong)


# ---- deep nesting --------------------------------------------------------------------------------

DEEP_LINES = lines_of("dwarf_deep.cc")


def levels_of(frames):
    """The frames up to main: a number for each level<N> or level_N, and the others' names."""
    names = [bare(function) for function, _, _ in frames]
    matches = [(re.search(r"level[_<](\d+)", name), name) for name in names[: names.index("main")]]
    return [int(match.group(1)) if match else name for match, name in matches]


def check_deep(compiler, depth):
    program = os.path.join(harness.scratch(), "deep")
    source = os.path.join(harness.WORKLOADS, "dwarf_deep.cc")
    run([harness.need(compiler)] + FLAGS + ["-g", "-DDEPTH=%d" % depth, "-o", program, source], "/")
    frames, losses = stack_of(program, 100001)
    assert levels_of(frames) == list(range(depth + 1)) + ["outermost"], levels_of(frames)
    assert not losses, losses
    assert frames[0][1:] == DEEP_LINES["leaf"], frames[0]
    assert {frame[1:] for frame in frames[1 : depth + 1]} == {DEEP_LINES["level"]}, frames
    assert frames[depth + 1][1:] == DEEP_LINES["outermost"]
    frames, _ = stack_of(program, 100002)
    found = [(last_name(function), place) for function, *place in frames[:2]]
    assert found == [(name, list(DEEP_LINES[name])) for name in ("shallow", "unrelated")], found


def test_deep_inlining_keeps_every_frame():
    for compiler in ("g++", "clang++"):
        for depth in (64, 130):
            check_deep(compiler, depth)


DEEP_ABBREVIATIONS = """
.section .debug_line,"",@progbits
.Lline:
.section .debug_abbrev,"",@progbits
.Labbrev:
# unit: name, lines, low, high; function: name; function: name, low, high; block: low, high
.uleb128 1, 0x11; .byte 1; .uleb128 0x03, 0x08, 0x10, 0x17, 0x11, 0x01, 0x12, 0x07, 0, 0
.uleb128 2, 0x2e; .byte 0; .uleb128 0x03, 0x08, 0, 0
.uleb128 3, 0x2e; .byte 1; .uleb128 0x03, 0x08, 0x11, 0x01, 0x12, 0x07, 0, 0
.uleb128 4, 0x0b; .byte 1; .uleb128 0x11, 0x01, 0x12, 0x07, 0, 0
# inlined: of what, low, high, called from file and line
.uleb128 5, 0x1d; .byte 1; .uleb128 0x31, 0x13, 0x11, 0x01, 0x12, 0x07, 0x58, 0x0b, 0x59, 0x05, 0, 0
.byte 0
"""


def deep_unit(depth):
    """Assembly of a unit by hand, for which compilers take minutes: function outermost, into which
    `depth` levels are inlined, each in a block; then function apart."""
    span = ".quad %s, .Lend_%s - %s"
    lines = [
        DEEP_ABBREVIATIONS,
        '.section .debug_info,"",@progbits',
        ".Linfo: .long .Linfo_end - .Linfo - 4; .short 4; .long .Labbrev; .byte 8",
        '.uleb128 1; .asciz "deep.c"; .long .Lline; .quad outermost, .Lend_apart - outermost',
    ]
    lines += ['.Llevel_%d: .uleb128 2; .asciz "level_%d"' % (n, n) for n in range(depth)]
    lines += ['.uleb128 3; .asciz "outermost"; ' + span % (("outermost",) * 3)]
    for level in reversed(range(depth)):
        lines += [".uleb128 4; " + span % (("outermost",) * 3)]
        lines += [".uleb128 5; .long .Llevel_%d - .Linfo; " % level + span % (("outermost",) * 3)]
        lines += [".byte 1; .short %d" % (1000 + level)]
    lines += [".zero %d" % (2 * depth + 1)]
    lines += ['.uleb128 3; .asciz "apart"; ' + span % (("apart",) * 3), ".byte 0, 0", ".Linfo_end:"]
    return "\n".join(lines) + "\n"


def deep_program(depth):
    directory = harness.scratch()
    source = os.path.join(directory, "deep.cc")
    with open(source, "w") as file:
        file.write(
            '#include "dwarf_chain.h"\n#include <cstdlib>\nextern "C" {\n'
            + "".join(
                "void *%s(size_t size) { return kept(malloc(size)); }\n" % name
                for name in ("outermost", "apart")
            )
            + "}\n"
        )
    run(
        [
            "g++",
            "-O1",
            "-g0",
            "-fno-toplevel-reorder",
            "-I" + harness.WORKLOADS,
            "-S",
            "-o",
            "deep.s",
            source,
        ],
        directory,
    )
    with open(os.path.join(directory, "deep.s")) as file:
        text = file.read()
    for name, line in (("outermost", 7), ("apart", 8)):
        text = text.replace("\n%s:\n" % name, "\n%s:\n.loc 1 %d\n" % (name, line))
        text = re.sub(r"\n(\s+\.size\s+%s,)" % name, r"\n.Lend_%s:\n\1" % name, text)
    with open(os.path.join(directory, "deep.s"), "w") as file:
        file.write('.file 1 "deep.c"\n' + text + deep_unit(depth))
    with open(os.path.join(directory, "main.c"), "w") as file:
        file.write(
            '#include "workload.h"\nvoid *outermost(size_t), *apart(size_t);\n'
            'int main(void) {\n  outermost(100001);\n  apart(100002);\n'
            '  say("ready\\n");\n  while (wait_for_line()) {}\n}\n'
        )
    run(["gcc", "-g", "-I" + harness.WORKLOADS, "-o", "deep", "main.c", "deep.s"], directory)
    return os.path.join(directory, "deep")


def test_any_depth_of_inlining_keeps_the_leaf_says_what_is_cut_and_spoils_nothing_else():
    for depth, whole in ((600, True), (1023, True), (1024, False), (30000, False)):
        program = deep_program(depth)
        frames, losses = stack_of(program, 100001)
        levels = levels_of(frames)
        assert levels[0] == 0 and levels[-1] == "outermost", (depth, levels)
        assert frames[0][1:] == ("deep.c", 7), (depth, frames[0])
        called_from = [line for _, _, line in frames[1:1001]][:depth]
        assert called_from == list(range(1000, 2000))[:depth], (depth, called_from)
        if whole:
            assert levels == list(range(depth)) + ["outermost"], (depth, levels)
            assert not losses, losses
        else:
            kept = levels[:-2]
            assert kept == list(range(len(kept))) and 1000 < len(kept) < depth, (depth, kept)
            assert levels[-2].startswith("[truncated: "), levels[-3:]
            assert losses == {"symbols_inlined_cut": 1}, losses
        assert frames[len(levels) - 1][2] == 1000 + depth - 1, frames[len(levels) - 1]
        frames, _ = stack_of(program, 100002)
        assert frames[0] == ("apart", "deep.c", 8) and frames[1][0] == "main", frames[:2]


# ---- too large -----------------------------------------------------------------------------------


def grow_section(program, name, size):
    """The section becomes that long, at the end of the file, which has a hole there."""
    with open(program, "r+b") as file:
        header = file.read(64)
        table, count, names = (
            int.from_bytes(header[at : at + width], "little")
            for at, width in ((40, 8), (60, 2), (62, 2))
        )
        file.seek(table)
        sections = [file.read(64) for _ in range(count)]

        def content(section):
            file.seek(int.from_bytes(section[24:32], "little"))
            return file.read(int.from_bytes(section[32:40], "little"))

        def named(section):
            start = int.from_bytes(section[:4], "little")
            return text[start:].split(b"\0")[0].decode()

        text = content(sections[names])
        number = next(i for i, section in enumerate(sections) if named(section) == name)
        old = content(sections[number])
        end = file.seek(0, os.SEEK_END)
        file.write(old)
        file.truncate(end + size)
        file.seek(table + 64 * number + 24)
        file.write(end.to_bytes(8, "little") + size.to_bytes(8, "little"))


def test_sections_of_any_size_are_read():
    program = compile_chain(harness.scratch(), "g++", "-g")
    for size in (16 << 20, 513 << 20):
        grow_section(program, ".debug_str", size)
        assert difference(*stack_of(program, 100001)) is None
