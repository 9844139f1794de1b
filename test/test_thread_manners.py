"""Agent threads are ordinary ones, whatever the thread is like that makes them."""
import contextlib
import ctypes
import os
import platform
import threading

import harness
from system_calls import under_filter

ORDINARY_SLACK_NS = "50000"
PAGES = ("heap", "goroutine?debug=2", "health", "profile?seconds=1")


def io_class(tid):
    number = {"x86_64": 252, "aarch64": 31}[platform.machine()]  # ioprio_get
    return ctypes.CDLL(None).syscall(number, 1, tid) >> 13


def scheduling(tid):
    """Of any thread: policy, nice value, processors, timer slack, class of I/O."""
    with open("/proc/%d/timerslack_ns" % tid) as file:
        slack = file.read().strip()
    return (
        os.sched_getscheduler(tid),
        os.getpriority(os.PRIO_PROCESS, tid),
        sorted(os.sched_getaffinity(tid)),
        slack,
        io_class(tid),
    )


def of_agent_threads(pid):
    """{tid: scheduling}; threads end meanwhile. They have their name once they are ready."""
    found = {}
    for tid in harness.tasks(pid):
        with contextlib.suppress(OSError):
            if harness.proc_text("/proc/%d/task/%d/comm" % (pid, tid)) == "pprofagent\n":
                found[tid] = scheduling(tid)
    return found


def while_asked(host, pid, prefix):
    """The same, of all threads that are seen while the pages are fetched."""
    seen, failed = {}, []

    def ask(page):
        status, tries = 503, 5
        while status == 503 and tries:  # a busy machine: the member has not answered in 1.7 s
            tries -= 1
            try:
                status = host.get(prefix + page)[0]
            except OSError as error:
                status = error
        if status != 200:
            failed.append((page, status))

    askers = [threading.Thread(target=ask, args=(page,)) for page in PAGES]
    for asker in askers:
        asker.start()
    while any(asker.is_alive() for asker in askers):
        seen.update(of_agent_threads(pid))
    for asker in askers:
        asker.join()
    assert not failed, (failed, host.describe())
    assert len(seen) > 1, seen
    return seen


def started(argv):
    host = harness.Host(argv, rate=512)
    host.ready()
    assert host.get("health")[0] == 200  # so that the child finds its parent's port
    host.go_on()
    lines = host.ready()
    if lines == ["refused"]:
        raise harness.Skip("such scheduling is not permitted here")
    return host, int(lines[0].split()[1])


def check_ordinary(host, child):
    ordinary = (os.SCHED_OTHER, 0, sorted(os.sched_getaffinity(1)), ORDINARY_SLACK_NS, 0)
    # In the absence of a class of their own the kernel may tell that which goes with the policy.
    best_effort = ordinary[:-1] + (2,)
    harness.poll(lambda: host.get("/pid/%d/debug/pprof/health" % child)[0] == 200, "the child")
    for pid, prefix in ((host.pid, ""), (child, "/pid/%d/debug/pprof/" % child)):
        for tid, found in while_asked(host, pid, prefix).items():
            assert found in (ordinary, best_effort), (tid, found)


def test_made_by_an_unordinary_thread():
    host, child = started([harness.build("unordinary.c", "-O1", "-lm")])
    assert scheduling(child) == (os.SCHED_RR, -7, [os.cpu_count() - 1], "0", 1), scheduling(child)
    check_ordinary(host, child)
    assert host.finish() == 0, host.describe()


def test_started_by_an_unordinary_program():
    launchers = [
        harness.need("chrt"),
        "-f",
        "20",
        harness.need("taskset"),
        "-c",
        "0",
        harness.need("nice"),
        "-n",
        "-3",
        harness.need("ionice"),
        "-c",
        "1",
        "-n",
        "2",
    ]
    program = harness.build("unordinary.c", "-O1", "-lm")
    if harness.run(launchers + ["true"], plain=True).returncode:
        raise harness.Skip("such scheduling is not permitted here")
    host, child = started(launchers + [program])
    check_ordinary(host, child)
    assert host.finish() == 0, host.describe()


def test_what_a_modest_program_asked_for_stays():
    """Nobody else is to be disturbed, by the agent neither."""
    program = harness.build("every_profile.c", "-O1", "-fno-optimize-sibling-calls")
    host = harness.Host([harness.need("chrt"), "-b", "0", harness.need("nice"), "-n", "5", program])
    host.ready()
    for tid, found in while_asked(host, host.pid, "").items():
        assert found[:2] == (os.SCHED_BATCH, 5), (tid, found)
    host.kill()


def niced_under_filter(names):
    """(Exit code, what its agent threads have) of a niced program that a filter kills for those."""
    program = harness.build("every_profile.c", "-O1", "-fno-optimize-sibling-calls")
    argv = [harness.need("nice"), "-n", "-3"] + under_filter("kill_process", names, [program])
    host = harness.Host(argv)
    host.ready()
    found = {each[1] for each in while_asked(host, host.pid, "").values()}
    return host, found


def test_under_a_services_list():
    """One that kills for changes of the scheduling leaves it as it is; others do not matter."""
    if harness.run([harness.need("nice"), "-n", "-3", "true"], plain=True).stderr:
        raise harness.Skip("no negative nice values here")
    for names, nice in ((["sched_setattr", "sched_setaffinity"], -3), (["mbind"], 0)):
        host, found = niced_under_filter(names)
        assert found == {nice}, (names, found)
        assert host.process.poll() is None, host.describe()
        host.kill()
