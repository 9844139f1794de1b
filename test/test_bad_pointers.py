"""Pointers that the kernel or libc refuses: the wrappers do not look at them first.

bad_pointers.c makes each call in a child of its own."""
import contextlib
import http.client
import subprocess
import threading

import harness


def program():
    return harness.build("bad_pointers.c", "-O1", "-fno-builtin", "-w")


def lines_of(process):
    out = process.communicate(b"\n", timeout=harness.DEADLINE * 3)[0].decode().splitlines()
    return [line for line in out if line != "ready"]


def plain():
    lines = lines_of(
        subprocess.Popen(
            [program()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=harness.agent_environment(plain=True),
        )
    )
    assert len(lines) > 80 and "sigaltstack(bad, NULL): -1, errno 14" in lines, lines  # EFAULT
    return lines


def check(host, expected):
    found = lines_of(host.process)
    assert host.process.returncode == 0, host.describe()
    assert found == expected, [pair for pair in zip(expected, found) if pair[0] != pair[1]]
    assert host.stderr() == "", host.stderr()


def test_bad_pointers():
    expected = plain()
    everything = {"PPROFAGENT_BLOCKPROFILERATE": "1", "PPROFAGENT_MUTEXPROFILEFRACTION": "1"}
    for options in ({}, {"address": "off"}, {"rate": 1, "extra": everything}):
        host = harness.Host([program()], **options)
        host.ready()
        check(host, expected)


def test_bad_pointers_while_a_profile_runs():
    expected = plain()
    host = harness.Host([program()])
    host.ready()

    def client():
        with contextlib.suppress(OSError, http.client.HTTPException):
            host.get("profile?seconds=60")  # until the program ends

    threading.Thread(target=client, daemon=True).start()
    harness.poll(lambda: host.health()["cpu_sampling"]["profiles_running"], "the profile")
    check(host, expected)


def test_alternate_stacks_that_are_refused():
    host = harness.Host([harness.build("refused_altstacks.c", "-O1")], **harness.by_timers())
    host.ready()
    assert host.profile("profile?seconds=1")  # installs the handler
    host.go_on()
    assert host.ready() == ["on stack"]
    assert host.finish() == 0, host.describe()
