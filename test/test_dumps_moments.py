"""Profiles that are written when memory grows: at a bound, above the last peak, before it is all
used up."""
import contextlib
import os
import subprocess
import time

import harness
import process_tree
from test_dumps import files, of_function, options, program, read

MB = 1 << 20


def start(directory, on, *arguments, rate=1, **more):
    host = harness.Host([program(), *arguments], rate=rate, extra=options(directory, on), **more)
    host.ready()
    return host


def in_use(directory, name, function):
    profile = read(directory, name)
    at = [kind for kind, _ in profile.sample_types].index("inuse_space")
    return of_function(profile, function)[at]


def test_a_bound_of_resident_memory():
    directory = harness.scratch()
    host = start(directory, "rss:60M", "grow", "100", "1000")
    assert host.health()["process"]["rss_bytes"] < 60 * MB
    host.go_on()
    host.ready()
    (name,) = harness.poll(lambda: files(directory), "a file")
    assert 50 * MB < in_use(directory, name, "grows") <= 100 * MB
    assert host.health()["dump"]["written"] == 1
    assert host.finish() == 0
    assert files(directory) == [name]


def test_a_peak_that_is_long_over():
    """The heap has one of 64 MB for a moment, which no look meets: it is written as the peak."""
    directory = harness.scratch()
    host = start(directory, "peak:20%", "spike")
    first = harness.poll(lambda: files(directory, "peak"), "the first peak")
    assert in_use(directory, first[0], "spikes") == 0
    host.go_on()
    host.ready()
    names = harness.poll(
        lambda: len(files(directory, "peak")) > 1 and files(directory, "peak"), "the next"
    )
    assert in_use(directory, names[-1], "spikes") == 64 * MB
    looks = harness.poll(lambda: host.health(), "health")
    assert looks["dump"]["written"] == len(names) and files(directory, "heap") == []
    assert host.finish() == 0


@contextlib.contextmanager
def memory_cgroup(limit):
    """The file that takes pids. Of either version."""
    process_tree.run_as_root()
    name = "pprofagent-test-%d" % os.getpid()
    for top, bound in (
        ("/sys/fs/cgroup", "memory.max"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
    ):
        path = os.path.join(top, name)
        with contextlib.suppress(OSError):
            os.mkdir(path)
        if os.path.exists(os.path.join(path, bound)):
            break
        with contextlib.suppress(OSError):
            os.rmdir(path)
    else:
        raise harness.Skip("no memory cgroup can be made here")
    try:
        with open(os.path.join(path, bound), "w") as file:
            file.write(str(limit))
        with contextlib.suppress(OSError), open(os.path.join(path, "memory.swap.max"), "w") as file:
            file.write("0")
        yield os.path.join(path, "cgroup.procs")
    finally:

        def gone():
            with contextlib.suppress(OSError):
                os.rmdir(path)
            return not os.path.exists(path)

        harness.poll(gone, "the cgroup's end")


def test_killed_for_its_memory():
    """A real OOM kill: the last file tells who took the memory."""
    limit = 300 * MB
    directory = harness.scratch()
    with memory_cgroup(limit) as procs:

        def enter():
            with open(procs, "w") as file:
                file.write(str(os.getpid()))

        host = start(directory, "oom", "grow", "1000", "100", preexec_fn=enter)
        host.go_on()
        assert host.process.wait(harness.DEADLINE * 2) == -9
    names = files(directory)
    assert names, host.log()
    assert in_use(directory, names[-1], "grows") > limit * 0.7, names


def test_nothing_is_looked_at_where_nothing_is_asked_for():
    """The dumping thread sleeps for good."""
    directory = harness.scratch()
    host = start(directory, "exit", "grow", "1", "1")

    def switches():
        return {
            tid: harness.proc_text("/proc/%d/task/%d/status" % (host.pid, tid)).split(
                "\nvoluntary_ctxt_switches:\t"
            )[1]
            for tid in harness.tasks(host.pid)
        }

    def all_sleep():
        """For longer than a second; the admin thread looks around every five."""
        before, end = switches(), time.monotonic() + 1.5
        while time.monotonic() < end:
            subprocess.run(["true"])
        return switches() == before

    host.health()
    harness.poll(lambda: len(harness.tasks(host.pid)) == 3, "the server's threads have gone")
    assert any(all_sleep() for _ in range(5))
    assert host.finish() == 0
