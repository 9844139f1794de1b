"""Thousands of forks, and forks while threads allocate, lock, are born, and requests run."""
import concurrent.futures
import threading

import harness
from fork_family import EVERYTHING, FLAGS, Family, ways


def resources(family):
    """(descriptors of the agent's, its threads, its memory, RSS) of the host."""
    pid = family.host.pid
    descriptors = threads = 0
    for task in harness.tasks(pid):
        base = "/proc/%d/task/%d/" % (pid, task)
        if harness.proc_text(base + "comm") == "pprofagent\n":
            threads += 1
            descriptors = max(descriptors, len(harness.proc_links(base + "fd")))
    memory = family.port.health(pid)["agent"]["memory_bytes"]["total"]
    return descriptors, threads, memory, int(open("/proc/%d/statm" % pid).read().split()[1]) * 4096


def test_ten_thousand_forks():
    family = Family([ways(), "in_turn", "10000"], rate=None)
    found = []

    def look():
        family.await_others(0)
        found.append(resources(family))

    family.check_as_plain([look, look, look], ["wrong exit codes: 0"])
    (
        _,
        (descriptors, threads, memory, rss),
        (descriptors_after, threads_after, memory_after, rss_after),
    ) = found
    harness.note(
        "descriptors, threads, agent bytes, RSS before and after: %s %s" % tuple(found[1:])
    )
    assert (
        descriptors_after <= descriptors + 1 and threads_after <= threads + 2
    ), found  # one more request may be ending
    assert memory_after - memory < 256 << 10 and rss_after - rss < 4 << 20, found


def check_storm(forks, stay, during=None, **options):
    program = harness.build("fork_storm.c", *FLAGS)
    family = Family([program, forks, stay], **options)
    family.host.ready()
    family.port.await_processes([family.host.pid])
    family.host.go_on()
    stop = threading.Event()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        tasks = [pool.submit(task, family, stop) for task in during or ()]
        try:
            assert family.host.line() == "%d of %d children well" % (forks, forks)
            family.host.ready()
            others = family.await_others(stay)
        finally:
            stop.set()
        counts = [task.result() for task in tasks]
    family.check_served(others[::5])
    for pid in others[:1]:  # exact, whatever its parent was in the middle of
        if options.get("rate") == 1:
            assert family.port.profile("heap", pid).by_function()["works_in_child"][2:] == [
                1,
                12345,
            ], pid
        assert family.port.ok("profile?seconds=1", pid)
    family.host.go_on()
    assert family.host.line() == "%d of %d that stayed well" % (stay, stay)
    family.host.ready()
    family.check_served([family.host.pid])
    assert family.host.finish() == 0
    return counts


def test_fork_while_threads_allocate_lock_and_create():
    check_storm(300, 10, rate=None)
    check_storm(200, 10, rate=1, extra=EVERYTHING)


def repeatedly(path):
    def task(family, stop):
        count = 0
        while not stop.is_set():
            assert family.port.ok(path, family.host.pid), path
            count += 1
        return count

    return task


def test_fork_while_requests_run():
    """The agent's own locks and buffers are in any state then; a child starts with none of it."""
    paths = (
        "profile?seconds=1&hz=400",
        "goroutine?debug=2",
        "heap",
        "mutex?debug=1",
        "heap?seconds=1",
        "health",
    )
    for rate, source in ((1, "timer"), (None, "auto")):
        counts = check_storm(
            200,
            12,
            [repeatedly(path) for path in paths],
            rate=rate,
            extra=dict(EVERYTHING, PPROFAGENT_CPU=source),
        )
        assert min(counts) > 0, dict(zip(paths, counts))
