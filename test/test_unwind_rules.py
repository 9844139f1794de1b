"""The agent's call frame interpreter against binutils': every row of every frame description of
real libraries must say the same."""
import glob
import os
import re
import subprocess

import harness

ROW = re.compile(r"^([0-9a-f]{16}) (\S+)\s+(.*)$")
HEAD = re.compile(r"FDE cie=\S+ pc=([0-9a-f]+)\.\.([0-9a-f]+)")


def oracle_rows(path):
    """(address, cfa, rbp, ra) as readelf sees them; a row is skipped where readelf prints no such
    column or the range is empty."""
    text = subprocess.run(
        [harness.need("readelf"), "-W", "--debug-dump=frames-interp", path],
        capture_output=True,
        text=True,
        env=dict(os.environ, LC_ALL="C"),
    ).stdout
    # The .debug_frame of a file with debug information is another section: only .eh_frame is what a
    # process has in memory.
    text = text.split("Contents of the .debug_frame", 1)[0]
    rows, columns, end, pending = [], None, 0, None
    in_fde = False

    def flush(limit):
        if pending and pending[0] < limit:
            rows.append(pending)

    for line in text.splitlines():
        head = HEAD.search(line)
        if head or " CIE " in line or not line.strip():
            if in_fde:
                flush(end)
            pending = None
            if head:
                in_fde, end = True, int(head.group(2), 16)
            elif " CIE " in line:
                in_fde = False
            continue
        if line.lstrip().startswith("LOC"):
            columns = line.split()[2:]
            continue
        row = ROW.match(line.strip())
        if row and in_fde:
            address, cells = int(row.group(1), 16), row.group(3).split()
            if pending and pending[0] != address:
                flush(end)
            if len(cells) != len(columns):
                pending = None
                continue
            values = dict(zip(columns, cells))
            pending = (address, row.group(2), values.get("rbp", "u"), values.get("ra", "u"))
    if in_fde:
        flush(end)
    return rows


def normal_cfa(text):
    if text.startswith("exp"):
        return "exp"
    if not text.startswith(("rsp", "rbp")):
        return "other"
    return text


def test_rules_equal_readelfs_on_real_libraries():
    parts = ["cfi.c", "cfi_entry.c", "cfi_expression.c", "readable_pages.c", "confinement.c"]
    sources = [harness.source(part) for part in parts]
    driver = harness.build("cfi_rules.c", "-O1", *sources)
    names = [
        "libc.so.6",
        "libstdc++.so.6",
        "libcrypto.so.3",
        "ld-linux-x86-64.so.2",
        "libgcc_s.so.1",
        "libsqlite3.so.0",
        "libz.so.1",
    ]
    libraries = [
        path for name in names for path in glob.glob(os.path.join(harness.LIBRARIES, name))
    ]
    assert len(libraries) >= 4, libraries
    total = 0
    for path in libraries:
        rows = oracle_rows(path)
        assert len(rows) > 50, (path, len(rows))
        done = subprocess.run(
            [driver, path],
            input="\n".join("%x" % row[0] for row in rows),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        wrong = []
        for row, line in zip(rows, done.stdout.splitlines()):
            fields = line.split()
            address, cfa, rbp, ra = row
            # readelf shows an unset register as u, a register that keeps its value as s or u: both
            # mean "unchanged" for rbp.
            want = (normal_cfa(cfa), "s" if rbp in ("u", "s") else rbp, ra)
            got = tuple(fields[1:4]) if len(fields) == 4 else tuple(fields[1:])
            got = (
                (got[0], "s" if got[1:2] in (("u",), ("s",)) else got[1], got[2])
                if len(got) == 3
                else got
            )
            if int(fields[0], 16) != address or want != got:
                wrong.append((hex(address), want, got))
        assert not wrong, "%s: %d of %d rows differ, such as %s" % (
            path,
            len(wrong),
            len(rows),
            wrong[:5],
        )
        total += len(rows)
    harness.note("%d rows of %d libraries" % (total, len(libraries)))
