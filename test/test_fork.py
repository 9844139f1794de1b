"""fork without exec: the child serves itself again, and its profiles are its own, with the tables
that it inherited and with threads and timers of its own."""
import concurrent.futures
import os
import signal

import harness
from fork_family import FLAGS, Family, read_truth
from pprof_reader import bare


def check_heap(*arguments):
    family = Family([harness.build("fork_profiles.c", *FLAGS), "heap", *arguments])
    host, port = family.host, family.port
    host.ready()
    host.go_on()
    child, childs = read_truth(host, "child")
    assert host.line() == "done"
    assert family.await_others(1) == [child]
    host.go_on()
    parent, parents = read_truth(host, "parent")
    host.ready()
    assert parent == host.pid
    for pid, truth, absent in (
        (child, childs, "allocates_in_parent"),
        (parent, parents, "allocates_in_child"),
    ):
        for path in ("heap", "allocs"):
            sums = port.profile(path, pid).by_leaf()
            assert {name: sums.get(name) for name in truth} == truth, (path, pid, truth, sums)
            assert absent not in sums, (pid, sums)
    assert (
        port.profile("heap", child).by_function().get("by_thread" if arguments else "main", [0])[0]
        > 0
    )
    assert host.finish() == 0
    harness.poll(lambda: not os.path.exists("/proc/%d" % child), "the child's end")


def test_heap_of_a_child():
    """What it inherited is still live and may be freed; what either does afterwards is its own."""
    check_heap()


def test_heap_of_a_child_that_another_thread_forks():
    check_heap("thread")


def cpu_shares(body_or_profile):
    sums = body_or_profile.by_function()
    burnt = {
        name: sums.get(name, [0, 0])[1]
        for name in ("burns_in_parent", "burns_in_child", "burns_in_childs_thread")
    }
    return burnt, body_or_profile.total()[1]


def check_cpu(fork_under_profile):
    family = Family([harness.build("fork_profiles.c", *FLAGS), "cpu"], rate=None)
    host, port = family.host, family.port
    host.ready()
    host.go_on()
    assert host.line() == "before the fork"
    port.await_processes([host.pid])
    with concurrent.futures.ThreadPoolExecutor() as pool:
        if fork_under_profile:
            parents = [pool.submit(port.profile, "profile?seconds=3&hz=500", host.pid)]
            sampling = lambda: port.health(host.pid)["cpu_sampling"]
            harness.poll(
                lambda: sampling()["timers"] or sampling()["rings"], "the parent is sampled"
            )
        host.go_on()
        child = int(host.line().split()[1])
        host.ready()
        assert family.await_others(1) == [child]
        if not fork_under_profile:
            parents = [pool.submit(port.profile, "profile?seconds=2&hz=500", host.pid)]
        childs = pool.submit(port.profile, "profile?seconds=1&hz=500", child)
        (of_child, all_of_child), (of_parent, all_of_parent) = cpu_shares(
            childs.result()
        ), cpu_shares(parents[0].result())
    assert (
        of_child["burns_in_parent"] == 0
        and of_parent["burns_in_child"] == of_parent["burns_in_childs_thread"] == 0
    ), (of_child, of_parent)
    assert (
        of_child["burns_in_child"] > 0
        and of_child["burns_in_childs_thread"] > 0
        and of_parent["burns_in_parent"] > 0
    ), (of_child, of_parent)
    # What is not in these is the fork itself and libc's around it.
    assert (
        sum(of_child.values()) > 0.8 * all_of_child
        and of_parent["burns_in_parent"] > 0.8 * all_of_parent
    ), (of_child, all_of_child, of_parent)
    os.kill(host.pid, signal.SIGKILL)
    harness.poll(
        lambda: list(port.processes()) == [child] or not os.path.exists("/proc/%d" % child),
        "the child alone, or its end",
    )


def test_cpu_profiles_of_parent_and_child_at_the_same_time():
    check_cpu(False)


def test_fork_while_the_parent_is_profiled():
    check_cpu(True)


def check_threads(*arguments):
    family = Family([harness.build("fork_profiles.c", *FLAGS), "threads", *arguments])
    host, port = family.host, family.port
    host.ready()
    host.go_on()
    child = int(host.line().split()[1])
    host.ready()
    assert family.await_others(1) == [child]

    def waiting(pid):
        sums = port.profile("goroutine", pid).by_function()
        return {
            name: sums.get(name, [0])[0]
            for name in ("waits_in_parent", "waits_in_child", "threads")
        }, port.profile("goroutine", pid).total()[0]

    extra = 1 if arguments else 0  # the thread that forks
    harness.poll(
        lambda: waiting(child) == ({"waits_in_parent": 0, "waits_in_child": 2, "threads": 1}, 3),
        "the child's threads: %s" % (waiting(child),),
    )
    harness.poll(
        lambda: waiting(host.pid)
        == ({"waits_in_parent": 3, "waits_in_child": 0, "threads": 1}, 4 + extra),
        "the parent's: %s" % (waiting(host.pid),),
    )

    def creations(pid):
        found = {}
        for sample in port.profile("threadcreate", pid).samples:
            for name in {bare(frame.function) for frame in sample.frames} & {
                "creates_in_parent",
                "creates_in_child",
                "main",
            }:
                made, live = found.get(name, (0, 0))
                found[name] = made + sample.values[0], live + sample.values[0] * (
                    sample.labels["state"] == "live"
                )
        return found

    # A copy of the parent's, whose threads have ended in the child, but for the one that lives on
    # in it.
    assert creations(child)["creates_in_parent"] == (3, 0) and creations(child)[
        "creates_in_child"
    ] == (2, 2), creations(child)
    assert creations(host.pid)["creates_in_parent"] == (
        3,
        3,
    ) and "creates_in_child" not in creations(host.pid), creations(host.pid)
    entries = port.processes()
    assert (entries[child]["threads"], entries[host.pid]["threads"]) == (3, 4 + extra) and entries[
        child
    ]["parent"] == host.pid, entries
    assert host.finish() == 0


def test_threads_of_a_child():
    check_threads()


def test_threads_of_a_child_that_another_thread_forks():
    check_threads("thread")
