"""Every wrapped lock and wait gives what it gives without the agent, in every state: results,
errno, what is in the objects, cancellation, jumps.

The locksem_* programs print it; a test compares what they print under the agent with what they
print without it.
"""
import difflib
import os

import harness
from pprof_reader import bare

EVERYTHING = {"PPROFAGENT_BLOCKPROFILERATE": "1", "PPROFAGENT_MUTEXPROFILEFRACTION": "1"}
NOTHING = {"PPROFAGENT_BLOCKPROFILERATE": "0", "PPROFAGENT_MUTEXPROFILEFRACTION": "0"}
RATES = (EVERYTHING, {}, NOTHING)


def difference(expected, found):
    """The exit codes, and the lines of stdout and stderr that differ."""
    texts = [
        ["exit code %d" % done.returncode]
        + (done.stdout + done.stderr).decode(errors="replace").splitlines()
        for done in (expected, found)
    ]
    return "\n".join(list(difflib.unified_diff(*texts, "without", "with", lineterm="", n=3))[:80])


def check_same(argv, lines, rates=RATES, **options):
    """Exit code, stdout and stderr are those of a run without the agent, which has at least so many
    lines."""
    expected = harness.run(argv, plain=True, **options)
    assert expected.returncode == 0 and expected.stdout.count(b"\n") >= lines, expected
    for extra in rates:
        found = harness.run(argv, extra=extra, **options)
        assert (found.returncode, found.stdout, found.stderr) == (
            expected.returncode,
            expected.stdout,
            expected.stderr,
        ), "%s, %s: differs from a run without the agent\n%s" % (
            os.path.basename(argv[0]),
            extra,
            difference(expected, found),
        )
    return expected.stdout.decode()


def test_every_kind_of_mutex():
    check_same([harness.build("locksem_mutex.c", "-O1")], 20000)


def test_read_write_locks_spin_locks_and_barriers():
    check_same([harness.build("locksem_rwlock.c", "-O1")], 6000)


def test_condition_variables_semaphores_joins_and_c11():
    check_same([harness.build("locksem_waits.c", "-O1")], 5000)


def test_futexes_and_other_system_calls():
    check_same([harness.build("locksem_futex.c", "-O1")], 140)


def test_the_same_under_bind_now():
    for source in ("locksem_waits.c", "locksem_futex.c"):
        program = harness.build(source, "-O1")
        expected = harness.run([program], plain=True)
        found = harness.run([program], extra=dict(EVERYTHING, LD_BIND_NOW="1"))
        assert (found.returncode, found.stdout) == (
            expected.returncode,
            expected.stdout,
        ), difference(expected, found)


def test_two_processes_with_and_without():
    """The locks of shared memory, one side under the agent, or the other, or both."""
    program = harness.build("locksem_shared.c", "-O1")
    shared = os.path.join(harness.scratch(), "shared")
    expected = harness.run([program, shared], plain=True)
    assert expected.returncode == 0 and b"the other's exit code 0" in expected.stdout, expected
    for first, second in ((True, False), (False, True), (True, True)):
        found = harness.run(
            [program, shared, harness.agent() if second else ""], plain=not first, extra=EVERYTHING
        )
        assert (found.returncode, found.stdout, found.stderr) == (
            expected.returncode,
            expected.stdout,
            expected.stderr,
        ), "first %s, second %s\n%s" % (first, second, difference(expected, found))


def functions_of(profile):
    return {bare(frame.function) for sample in profile.samples for frame in sample.frames}


def check_nothing_left(argv, abandoned):
    """Under the agent the program says what it says without it, and when it says ready nobody waits
    any more; what was released after the last wait is charged to nobody."""
    expected = harness.run(argv, plain=True, stdin=b"")
    assert expected.returncode == 0, expected
    host = harness.Host(argv, extra=EVERYTHING)
    lines = []
    while len(lines) < expected.stdout.count(b"\n"):
        lines.append(host.line())
        if lines[-1] == "ready":
            health = host.health()
            assert health["profiles"]["mutex"]["on"] and health["profiles"]["block"]["on"], health[
                "profiles"
            ]
            assert health["lock_waits"]["waiting_now"] == 0, health["lock_waits"]
            assert health["losses"]["mutex_waits_abandoned"] >= abandoned, health["losses"]
            assert "late_release" not in functions_of(host.profile("mutex")), host.text(
                "mutex?debug=1"
            )
            host.go_on()
    assert lines == expected.stdout.decode().splitlines(), "\n".join(
        difflib.unified_diff(
            expected.stdout.decode().splitlines(), lines, "without", "with", lineterm="", n=3
        )
    )
    assert host.finish() == 0


def test_cancellation():
    """Before and during every wait; cleanup handlers, the mutex, what the objects are
    afterwards."""
    program = harness.build("locksem_cancel.c", "-O1")
    check_same([program], 300)
    check_nothing_left([program], 0)


def test_cancellation_with_exceptions():
    """By -fexceptions in C, and in C++ with destructors and catch (...)."""
    for program in (
        harness.build("locksem_cancel.c", "-O1", "-fexceptions"),
        harness.build("locksem_cancel.cc", "-O1"),
    ):
        check_same([program], 300)
        check_nothing_left([program], 0)


def test_jumps_out_of_waits():
    """By every kind of longjmp and by pthread_exit, from a signal handler."""
    for flags in (["-O1"], ["-O2", "-D_FORTIFY_SOURCE=2"]):
        program = harness.build("locksem_jump.c", *flags)
        check_same([program], 130)
        check_nothing_left([program], 100)
