"""The agent's instruction lengths against binutils', for every instruction of real libraries."""
import re
import subprocess

import harness

LINE = re.compile(r"^\s*[0-9a-f]+:\t((?:[0-9a-f]{2} )+)\s*\t(\S.*)$")
# What objdump shows as an instruction of its own although it only begins one, or could not read.
NO_INSTRUCTION = re.compile(
    r"^\(bad\)|^\.byte|^(data16|addr32|rex\S*|lock|repn?z|cs|ds|es|ss|fs|gs|notrack|bnd)( "
    r"(data16|cs|rex\S*))*$"
)


def instructions(path):
    done = subprocess.run(
        [harness.need("objdump"), "-d", "-w", path], capture_output=True, text=True
    )
    for line in done.stdout.splitlines():
        found = LINE.match(line)
        if found:
            yield found.group(1).replace(" ", ""), found.group(2).strip()


def test_lengths_equal_objdumps():
    driver = harness.build("instruction_lengths.c", "-O2", harness.source("instruction.c"))
    total = 0
    for name in ("libc.so.6", "libstdc++.so.6", "libm.so.6"):
        read = list(instructions(harness.need_library(name)))
        assert len(read) > 50000, (name, len(read))
        text = "\n".join(
            read[i][0] + "".join(item[0] for item in read[i + 1 : i + 3]) for i in range(len(read))
        )
        lengths = subprocess.run(
            [driver], input=text, capture_output=True, text=True
        ).stdout.split()
        assert len(lengths) == len(read)
        wrong = [
            (code, what, length)
            for (code, what), length in zip(read, lengths)
            if len(code) // 2 != int(length)
            and not NO_INSTRUCTION.search(what)
            and not code.startswith("9b")
        ]  # fwait is one
        assert not wrong, "%s: %d of %d, such as %s" % (name, len(wrong), len(read), wrong[:8])
        total += len(read)
    harness.note("%d instructions" % total)
