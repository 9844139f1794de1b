"""Programs that move bytes while CPU profiles run by rings: not one is lost. SOAK=1: for minutes,
and the workloads of test_cpu_rings too."""
import filecmp
import http.client
import os
import subprocess

import harness
from test_cpu_rings import check, need_rings

SOAK = bool(os.environ.get("SOAK"))
RATES = (100, 1000)
TIMES = 20 if SOAK else 1


def outcome(argv, hz, cwd):
    """(exit code, stderr's lines, profiles answered) of a program that is profiled to its end."""
    host = harness.Host(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=cwd)
    answered = 0
    while host.process.poll() is None:
        try:
            status, _, _ = host.get("profile?seconds=1&hz=%d" % hz)
            answered += status == 200
        except (OSError, AssertionError):  # it has ended
            host.process.wait(harness.DEADLINE)
        except http.client.HTTPException:
            host.process.wait(harness.DEADLINE)
    return host.process.wait(harness.DEADLINE), host.stderr().splitlines(), answered


def test_dd():
    need_rings()
    count = 80 * TIMES
    for hz in RATES:
        code, lines, answered = outcome(
            [harness.need("dd"), "if=/dev/urandom", "of=/dev/null", "bs=8M", "count=%d" % count],
            hz,
            None,
        )
        assert code == 0 and lines[:2] == [
            "%d+0 records %s" % (count, way) for way in ("in", "out")
        ], lines  # a record that is not full counts behind the +
        harness.note("%d Hz: %d profiles" % (hz, answered))


def test_rsync():
    need_rings()
    rsync, directory = harness.need("rsync"), harness.scratch()
    source = os.path.join(directory, "source")
    os.mkdir(source)
    for number in range(20 * TIMES):
        with open(os.path.join(source, str(number)), "wb") as file:
            file.write(os.urandom(3 << 20))
    for hz in RATES:
        copy = os.path.join(directory, "copy%d" % hz)
        code, lines, _ = outcome(
            [rsync, "-a", "--checksum", "--bwlimit=40m", source + "/", copy], hz, directory
        )
        assert code == 0 and not lines, (code, lines)
        _, differ, faults = filecmp.cmpfiles(source, copy, os.listdir(source), shallow=False)
        assert not differ and not faults, (differ, faults)


def test_commits_of_a_database():
    need_rings()
    sqlite, directory = harness.need("sqlite3"), harness.scratch()
    script = "".join(
        "INSERT INTO t VALUES(%d, hex(zeroblob(%d)));\n" % (number, number % 4000)
        for number in range(400 * TIMES)
    )
    text = "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);\n" + script
    with open(os.path.join(directory, "script"), "w") as file:
        file.write(text)

    def content(name):
        return subprocess.run(
            [sqlite, name, "PRAGMA integrity_check; SELECT * FROM t"],
            capture_output=True,
            check=True,
            cwd=directory,
        ).stdout

    harness.run([sqlite, "plain.db", ".read script"], plain=True, cwd=directory)
    expected = content("plain.db")
    for hz in RATES:
        name = "db%d" % hz
        code, lines, _ = outcome([sqlite, name, ".read script"], hz, directory)
        assert code == 0 and not lines and content(name) == expected, (code, lines)
    assert expected.startswith(b"ok\n") and expected.count(b"\n") == 400 * TIMES + 1


def test_long_transfers():
    if not SOAK:
        raise harness.Skip("SOAK=1")
    need_rings()
    expected, _ = check(
        [harness.build("whole_transfers.c", "-O1"), "60"], expect_samples=5000, seconds=900
    )
    assert not any("short" in line for line in expected[1]), expected
