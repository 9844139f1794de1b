"""Object files that are made to cost time: what an address costs does not grow with their size, and
what is read of them is bounded by it. Each of these would take minutes or hours otherwise, past the
deadline of the program that is run."""
import os
import tempfile

import harness
from symbol_driver import resolve, run

MANY, ASKED = 400000, 100000


def assemble(directory, text, *flags):
    source, output = os.path.join(directory, "costly.s"), os.path.join(directory, "costly.so")
    with open(source, "w") as file:
        file.write(text)
    # a fixed address, so that the text is where its debug information says; nothing is linked to it
    run(["gcc", "-shared", "-nostdlib", "-Wl,-Ttext=0x400000", "-o", output, source] + list(flags))
    return output


TEXT = 0x400000


def symbols(lines):
    return "\t.text\n\t.globl first\nfirst:\n\t.skip %d\n%s\n" % (2 * MANY, "\n".join(lines))


def names_of(path, addresses):
    found, counters = resolve(path, addresses)
    frames = [found[address][1] for address in addresses]
    return [each[0][0] if each else None for each in frames], counters


def test_equal_symbols():
    """All entries of .symtab are the same one."""
    lines = [
        "\t.type s%d, @function\n\t.set s%d, first\n\t.size s%d, 16" % (i, i, i)
        for i in range(MANY)
    ]
    with tempfile.TemporaryDirectory() as directory:
        path = assemble(directory, symbols(lines))
        with open(path, "r+b") as file:
            data = bytearray(file.read())
            start, size = section_of_type(data, 2)
            entries = [data[start + at : start + at + 24] for at in range(24, size, 24)]
            chosen = next(entry for entry in entries if entry[4] & 15 == 2)
            data[start + 24 : start + size] = chosen * (size // 24 - 1)
            file.seek(0)
            file.write(data)
        names, _ = names_of(path, [TEXT, TEXT + 15])
        assert names[0] == names[1] and names[0][0] == "s", names


def test_symbols_below_others():
    """Symbol i is [i, 2 MANY - i): each holds all later ones, which end before the addresses."""
    lines = [
        "\t.type s%d, @function\n\t.set s%d, first + %d\n\t.size s%d, %d"
        % (i, i, i, i, 2 * MANY - 2 * i)
        for i in range(MANY)
    ]
    with tempfile.TemporaryDirectory() as directory:
        path = assemble(directory, symbols(lines))
        names, _ = names_of(path, [TEXT + 2 * MANY - 1 - i for i in range(ASKED)])
        assert names == ["s%d" % i for i in range(ASKED)], names[:10]


ABBREVIATIONS = """
\t.section .debug_abbrev,"",@progbits
\t.uleb128 1, 0x11  # compile_unit: low_pc, high_pc, stmt_list
\t.byte 1
\t.uleb128 0x11, 0x01, 0x12, 0x07, 0x10, 0x17, 0, 0
\t.uleb128 2, 0x2e  # subprogram: low_pc, high_pc, name
\t.byte 1
\t.uleb128 0x11, 0x01, 0x12, 0x07, 0x03, 0x08, 0, 0
\t.uleb128 3, 0x1d  # inlined_subroutine: low_pc, high_pc, name
\t.byte 0
\t.uleb128 0x11, 0x01, 0x12, 0x07, 0x03, 0x08, 0, 0
\t.uleb128 4, 0x11  # compile_unit: ranges
\t.byte 0
\t.uleb128 0x55, 0x17, 0, 0
\t.byte 0
"""


def test_inlined_calls_below_others():
    """As above, in the debug information of one function: the innermost call is named."""
    calls = MANY // 2
    text = "\t.text\n\t.globl outer\n\t.type outer, @function\nouter:\n\t.file 1 \"costly.c\"\n"
    text += "\t.loc 1 7\n\tnop\n\t.skip %d\n\t.size outer, . - outer\n" % (2 * calls - 1)
    text += ABBREVIATIONS
    text += """
\t.section .debug_info,"",@progbits
\t.long end - begin
begin:
\t.short 4
\t.long 0
\t.byte 8
\t.uleb128 1
\t.quad %d, %d
\t.long 0
\t.uleb128 2
\t.quad %d, %d
\t.asciz "outer"
""" % (
        (TEXT, 2 * calls) * 2
    )
    for i in range(calls):
        text += "\t.uleb128 3\n\t.quad %d, %d\n\t.asciz \"i%d\"\n" % (
            TEXT + i,
            2 * calls - 2 * i,
            i,
        )
    text += "\t.byte 0, 0\nend:\n"
    with tempfile.TemporaryDirectory() as directory:
        path = assemble(directory, text)
        names, counters = names_of(path, [TEXT + 2 * calls - 1 - i for i in range(ASKED)])
        assert names == ["i%d" % i for i in range(ASKED)], (names[:10], counters)
        assert counters["symbols_too_costly"] == 0, counters


def test_units_that_share_a_long_list_of_ranges():
    """100,000 units, each with the same 100,000 empty ranges: 10^10 of them to read."""
    many = 100000
    text = "\t.text\n\t.globl plain\n\t.type plain, @function\n"
    text += "plain:\n\t.skip 16\n\t.size plain, 16\n"
    text += (
        ABBREVIATIONS
        + """
\t.section .debug_info,"",@progbits
\t.rept %d
\t.long 12
\t.short 4
\t.long 0
\t.byte 8
\t.uleb128 4
\t.long 0
\t.endr
\t.section .debug_ranges,"",@progbits
\t.rept %d
\t.quad 16, 16
\t.endr
\t.quad 0, 0
"""
        % (many, many)
    )
    with tempfile.TemporaryDirectory() as directory:
        names, counters = names_of(assemble(directory, text), [TEXT + 1])
        assert names == ["plain"], names
        assert counters["symbols_too_costly"] == 1, counters


def test_names_that_overlap():
    """Each symbol's name begins one byte later in the same long text."""
    many = 60000
    with tempfile.TemporaryDirectory() as directory:
        lines = [
            "\t.type s%d, @function\n\t.set s%d, first\n\t.size s%d, 16" % (i, i, i)
            for i in range(many)
        ]
        path = assemble(directory, symbols(lines))
        overlap_names(path, many)
        found, counters = resolve(path, [TEXT])
        assert counters["symbols_files_malformed"] == 1, counters
        assert set(found[TEXT][1][0][0]) == {"a"}, found[TEXT][1][0][0][:20]


def number_at(data, at, size):
    return int.from_bytes(data[at : at + size], "little")


def section_of_type(data, wanted):
    """Where the first section of that type is in the file, and its size."""
    table, count = number_at(data, 40, 8), number_at(data, 60, 2)
    headers = range(table, table + 64 * count, 64)
    header = next(at for at in headers if number_at(data, at + 4, 4) == wanted)
    return number_at(data, header + 24, 8), number_at(data, header + 32, 8)


def overlap_names(path, many):
    """.strtab becomes one text of `a`s, 64 times as long as there are symbols."""
    with open(path, "r+b") as file:
        data = bytearray(file.read())

        def number(at, size):
            return number_at(data, at, size)

        table, count = number(40, 8), number(60, 2)
        headers = [table + 64 * i for i in range(count)]
        symtab = next(h for h in headers if number(h + 4, 4) == 2)
        strings = headers[number(symtab + 40, 4)]
        start, size = number(symtab + 24, 8), number(symtab + 32, 8)
        for i in range(1, size // 24):
            data[start + 24 * i : start + 24 * i + 4] = i.to_bytes(4, "little")
        text = b"\0" + b"a" * (64 * many) + b"\0"
        data[strings + 24 : strings + 32] = len(data).to_bytes(8, "little")
        data[strings + 32 : strings + 40] = len(text).to_bytes(8, "little")
        file.seek(0)
        file.write(data + text)


def test_a_deadline_is_there():
    assert harness.DEADLINE < 120  # what the others rely on
