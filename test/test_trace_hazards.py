"""While a trace is recorded every wait and release gives what it gives without the agent, however
it ends: by a signal, a timeout, cancellation, a jump."""
import difflib
import http.client
import os
import subprocess

import harness
import pytest

NOTHING = {"PPROFAGENT_BLOCKPROFILERATE": "0", "PPROFAGENT_MUTEXPROFILEFRACTION": "0"}


def traced_host(argv, extra):
    """Held before main until somebody records it."""
    go = os.path.join(harness.scratch(), "go")
    hold = harness.build("held_start.c", "-O1", shared=True)
    host = harness.Host(argv, preload_before=(hold,), extra=dict(extra, HELD_START=go))
    connection = http.client.HTTPConnection(*host.address, timeout=600)
    connection.request("GET", "/debug/pprof/trace?seconds=600")
    harness.poll(lambda: host.health()["trace"]["running"] == 1, "the recording")
    with open(go, "w"):
        pass
    return host, connection


def check_same(argv, stops=False, extra=None):
    expected = harness.run(argv, plain=True, stdin=b"")
    assert expected.returncode == 0 and expected.stdout.count(b"\n") > 1, expected
    host, connection = traced_host(argv, extra or {})
    found = []
    for _ in range(expected.stdout.count(b"\n")):
        found.append(host.line())
        if stops and found[-1] == "ready":
            assert host.health()["lock_waits"]["waiting_now"] == 0
            assert host.health()["trace"]["events"] > 100
            host.go_on()
    assert host.finish() == 0
    connection.close()
    wanted = masked(expected.stdout.decode().splitlines())
    found = masked(found)
    assert found == wanted, "\n".join(difflib.unified_diff(wanted, found, lineterm="", n=3))


def masked(lines):
    """Without the kernel's bit for waiters (locksem.h): a waiter that was signalled leaves it where
    it came to its mutex before the other had given that back, which is a matter of luck."""
    return [line.replace(" T+ ", " T ") for line in lines]


@pytest.mark.parametrize("extra", [{}, NOTHING], ids=["profiled", "traced alone"])
@pytest.mark.parametrize("source", ["locksem_waits.c", "locksem_rwlock.c", "locksem_mutex.c"])
def test_results(source, extra):
    check_same([harness.build(source, "-O1")], extra=extra)


def test_cancellation():
    for source, *flags in (
        ("locksem_cancel.c", "-O1"),
        ("locksem_cancel.c", "-O1", "-fexceptions"),
        ("locksem_cancel.cc", "-O1"),
    ):
        check_same([harness.build(source, *flags)], stops=True)


def test_jumps_out_of_waits():
    check_same([harness.build("locksem_jump.c", "-O1")], stops=True)


def test_both_versions_of_condition_variables():
    check_same([harness.build("lockhaz.c", "-O1"), "versions"])


def test_a_release_looks_at_no_more_than_a_crowd():
    """It does with the lock held: at a thousand who wait the lock would be for little else."""
    program = harness.build("crowd_at_a_lock.c", "-O1", "-pthread")
    host = harness.Host([program, "1000"], extra={"PPROFAGENT_FLIGHT": "10s"})
    host.ready()
    harness.poll(lambda: host.health()["trace"]["flight"]["runs"], "the recording")
    host.go_on()
    host.ready()
    waiting = "grep -l futex /proc/%d/task/*/wchan | wc -l" % host.pid
    harness.poll(lambda: int(subprocess.getoutput(waiting)) >= 1000, "they wait")
    # One in ten, and fewer of a crowd, are drawn for the mutex profile, whoever records.
    now = host.health()["lock_waits"]["waiting_now"]
    assert 64 <= now <= 64 + 64, now
    host.go_on()
    assert host.finish() == 0
