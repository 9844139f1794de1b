"""A host with hardly any descriptors, memory or threads: clients are told so at once, the log says
it once, the host is not disturbed."""
import contextlib
import os
import resource
import subprocess
import time

import harness
from http_guest import WAIT, check_error, cpu_seconds, guest, request

SHORTAGE = "the HTTP server cannot start: out of memory or descriptors"


def test_without_descriptors_the_answer_is_503():
    for number, text in (
        (5, SHORTAGE),
        (7, SHORTAGE),
        (10, SHORTAGE),
        (11, "the agent is out of descriptors"),
    ):
        host = guest(preexec_fn=harness.limit(resource.RLIMIT_NOFILE, number))
        host.address  # waits until it listens
        before = cpu_seconds(host.pid)
        for _ in range(5):
            harness.in_time(
                lambda _: check_error(request(host), 503, text),
                1,
                "an answer with %d descriptors" % number,
            )
        assert cpu_seconds(host.pid) - before < 0.1
        time.sleep(1.2)  # it tries again, and keeps quiet about it
        check_error(request(host), 503, text)
        assert (
            host.log().count("cannot start") == (text is SHORTAGE) and host.log().count("\n") <= 4
        ), host.log()
        assert host.finish() == 0


def test_without_memory_no_client_hangs():
    answered = set()
    for kilobytes in range(4000, 9500, 500):
        host = harness.Host(
            [harness.build("guest.c", *WAIT), "wait"],
            preexec_fn=harness.limit(resource.RLIMIT_AS, kilobytes * 1024),
        )
        if host.process.stdout.readline() != b"ready\n":
            continue  # not enough for the program itself
        with contextlib.suppress(AssertionError):
            harness.poll(
                lambda: "listening" in host.log() or "off: " in host.log(),
                "the agent has started",
                5,
            )
        if "listening" not in host.log():
            continue
        for _ in range(2):
            status = request(host)[0]  # None: closed, since its last worker found no memory
            assert status in (200, 500, 503, None), (kilobytes, status, host.log())
            answered.add(status)
        assert host.log().count("cannot start") <= 1, host.log()
    assert {200, 503} <= answered, answered


def test_threads_that_cannot_be_created():
    launcher = harness.build("no_threads.c")
    host = harness.Host([launcher, harness.build("guest.c", *WAIT), "wait"])
    host.ready()
    harness.poll(
        lambda: "off: the admin thread cannot be created: no memory or no threads left"
        in host.log(),
        "the reason in the log",
    )
    assert len(os.listdir("/proc/%d/fd" % host.pid)) == 3, os.listdir("/proc/%d/fd" % host.pid)
    assert host.finish() == 0
    done = harness.run([launcher, "/bin/echo", "fine"], extra={"PPROFAGENT_LOG": "stderr"})
    assert (
        done.stdout == b"fine\n"
        and done.stderr.count(b"\n") == 1
        and b"cannot be created" in done.stderr
    ), done
    reader, writer = os.pipe()
    os.close(reader)  # a write to this stderr raises SIGPIPE
    program = subprocess.Popen(
        [launcher, "/bin/echo", "fine"],
        stdout=subprocess.PIPE,
        stderr=writer,
        env=harness.agent_environment(log="stderr"),
    )
    os.close(writer)
    assert program.communicate()[0] == b"fine\n" and program.returncode == 0


def test_a_limit_below_what_is_waited_for():
    """poll(2) then fails at once; the connection that comes makes the agent look."""
    host = guest()
    assert request(host)[0] == 200
    harness.poll(lambda: len(harness.tasks(host.pid)) == 2, "the server's end", 20)
    before = resource.prlimit(host.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(host.pid, resource.RLIMIT_NOFILE, (3, before[1]))
    with contextlib.suppress(OSError):
        host.get("heap", timeout=1)
    harness.poll(
        lambda: "has lowered its limit of open files" in host.log(), "the reason in the log"
    )
    used = cpu_seconds(host.pid)
    time.sleep(1)
    assert cpu_seconds(host.pid) - used < 0.5, "it spins"
    resource.prlimit(host.pid, resource.RLIMIT_NOFILE, before)
    harness.poll(lambda: request(host)[0] == 200, "an answer with the limit of before")
    assert host.log().count("has lowered") == 1 and host.finish() == 0, host.log()
