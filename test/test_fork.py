"""fork without exec: the child serves itself again, with the tables that it inherited and with
threads and timers of its own; and whatever a child is or does, it runs as it does without the
agent."""
import concurrent.futures
import os
import signal
import subprocess
import threading
import time

import harness
from process_tree import Port
from pprof_reader import bare

FLAGS = ("-O1", "-fno-optimize-sibling-calls")
EVERYTHING = {"PPROFAGENT_BLOCKPROFILERATE": "1", "PPROFAGENT_MUTEXPROFILEFRACTION": "1"}


def ways():
    return harness.build("fork_ways.c", *FLAGS, "-lutil")


def confined():
    return harness.build("fork_confined.c", *FLAGS)


class Family:
    """A program that forks, on a port of its own."""

    def __init__(self, argv, rate=1, **options):
        self.port = Port()
        self.host = harness.Host(
            [str(word) for word in argv], rate=rate, address=self.port.address, **options
        )

    def await_others(self, count):
        """The pids of the other processes, once there are so many and all have answered."""

        def look():
            found = self.port.processes()
            others = [pid for pid in found if pid != self.host.pid]
            return (
                (others,)
                if found
                and len(others) == count
                and all(entry["answered"] for entry in found.values())
                else None
            )

        try:
            return harness.poll(look, "%d other processes" % count)[0]
        except AssertionError as error:
            raise AssertionError(
                "%s; there are %s%s" % (error, self.port.processes(), self.host.describe())
            ) from None

    def check_served(
        self,
        pids,
        paths=(
            "",
            "heap",
            "allocs?debug=1",
            "goroutine?debug=2",
            "threadcreate",
            "block",
            "mutex?debug=1",
            "cmdline",
        ),
    ):
        """Every endpoint of each, as of a process that has just started."""
        for pid in pids:
            health = self.port.health(pid)
            assert health["process"]["pid"] == pid, health
            for path in paths:
                assert self.port.ok(path, pid), (pid, path)

    def check_as_plain(self, looks=(), lines=()):
        """The host's lines and exit code are those of a run without the agent; looks: what to do at
        each `ready`. `lines`: to be among them."""
        argv = self.host.process.args
        plain = harness.run(argv, plain=True, stdin=b"\n" * 20)
        expected = plain.stdout.decode().splitlines()
        assert set(lines) <= set(expected), expected
        found, looks = [], list(looks)
        while len(found) < len(expected):
            found.append(self.host.line())
            if found[-1] == "ready":
                if looks:
                    looks.pop(0)()
                self.host.go_on()
            assert found[-1] == expected[len(found) - 1], (found, expected)
        code = self.host.finish()
        rest = self.host.process.stdout.read()
        assert (code, rest, self.host.stderr()) == (plain.returncode, b"", plain.stderr.decode()), (
            code,
            plain,
            rest,
            self.host.describe(),
        )
        assert not looks, "the program was not ready as often as that"


def read_truth(host, who):
    """(pid, {function: values as pprof has them}) that a process of fork_profiles.c says."""
    words = host.line().split()
    assert words[0] == who, words
    found = {}
    for _ in range(2):
        line = host.line().split()
        found[line[1]] = [int(word) for word in line[2:]]
    return int(words[1]), found


# ---- profiles ------------------------------------------------------------------------------------


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


# ---- what a child finds --------------------------------------------------------------------------


def check_way(mode, looks, rate=1, lines=(), program=None, **options):
    family = Family([program or ways()] + mode.split(), rate=rate, **options)
    family.check_as_plain([look(family) if look else (lambda: None) for look in looks], lines)
    return family


def served(count, *paths):
    """A look at `ready`: so many other processes, each with these endpoints, or all of them."""
    return lambda family: lambda: family.check_served(
        family.await_others(count), *([paths] if paths else [])
    )


def test_child_is_as_without_the_agent():
    """errno, signal mask, descriptor numbers, stdio's buffers, exit handlers: at once and when it
    is served."""
    for rate in (None, 1):
        check_way(
            "child",
            [served(1)],
            rate,
            lines=[
                "errno 34, mask 0 1 0, next descriptors 3 4",
                "atexit in child",
                "errno 34, child exit 7",
            ],
        )


def test_main_thread_of_the_child_ends():
    check_way(
        "main_thread_ends", [served(1)], lines=["last thread", "atexit in child", "child exit 0"]
    )


def test_fork_and_threads_in_atfork_handlers():
    for rate in (None, 1):
        check_way(
            "atfork_handlers",
            [served(1)],
            rate,
            lines=["in prepare 11, in child 13", "child exit 20, in prepare 11, in parent 12"],
        )


def test_children_that_leave_the_atfork_handlers_that_bore_them():
    check_way(
        "born_in_handlers",
        [served(1), served(1)],
        lines=["born in a handler: exit 41", "born in a handler: exit 42"],
    )


def test_fork_in_a_signal_handler():
    for rate in (None, 1):
        check_way("signal_handler", [], rate, lines=["all of 100 children well: 1"])


def test_calls_that_are_no_fork():
    """vfork, _Fork, raw clone, clone with a stack of its own, posix_spawn, system, popen: unharmed;
    those that do not exec are not served."""

    def one_thread(family):
        def look():
            children = harness.poll(
                lambda: [
                    int(word)
                    for task in harness.tasks(family.host.pid)
                    for word in harness.proc_text(
                        "/proc/%d/task/%d/children" % (family.host.pid, task)
                    ).split()
                ],
                "the child",
            )
            time.sleep(0.3)  # it must not come: agents start after 100 ms
            assert (
                len(os.listdir("/proc/%d/task" % children[0])) == 1 and family.await_others(0) == []
            )

        return look

    check_way(
        "other_calls",
        [one_thread, one_thread],
        lines=["counter 40", "posix_spawn 6", "system 5", "popen", "pclose 4"],
    )


def test_child_that_executes_at_once_and_later():
    check_way("exec_later", [served(1)], lines=["executed", "exit 8"])


def test_forkpty():
    check_way("forkpty", [served(1)], lines=["terminal 1 leader 1 next 3 rows 33"])


def test_fifty_generations():
    def chain(family):
        def look():
            pids = set(family.await_others(50)) | {family.host.pid}
            parents = {pid: entry["parent"] for pid, entry in family.port.processes().items()}
            assert {pid for pid, parent in parents.items() if parent not in pids} == {
                family.host.pid
            }, parents
            assert len({parent for parent in parents.values() if parent in pids}) == 50, parents
            family.check_served(sorted(pids)[::25])

        return look

    check_way("nested", [chain], lines=["50 generations"])


def test_more_children_than_are_started_at_once():
    """The first sixty or so soon, the others when they allocate."""

    def some(family):
        return lambda: harness.poll(
            lambda: len(family.port.processes()) > 60,
            "more than sixty: %d" % len(family.port.processes()),
        )

    def all_of_them(family):
        return lambda: family.check_served(family.await_others(100)[::30])

    check_way("together 100", [some, all_of_them, None], lines=["100 children well"])


# ---- storms --------------------------------------------------------------------------------------


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


# ---- daemons and children that give up rights ----------------------------------------------------


def check_daemon(mode, expected_line):
    reports = []
    for plain in (True, False):
        port, path = Port(), os.path.join(harness.scratch(), "report")
        host = harness.Host([confined(), mode, path], address=port.address, plain=plain, rate=1)
        try:
            assert host.process.wait(harness.DEADLINE) == 0
            harness.poll(lambda: os.path.exists(path), "the daemon's report")
            with open(path) as file:
                reports.append(file.read())
            if not plain:

                def alone():
                    found = port.processes()
                    return len(found) == 1 and list(found.values())[0]

                entry = harness.poll(alone, "the daemon to hold the port")
                assert (
                    entry["holder"]
                    and entry["pid"] != host.pid
                    and entry["name"] == os.path.basename(confined())[:15]
                ), entry
                assert port.profile("heap", entry["pid"]).total()[0] > 0
                assert port.profile("allocs", entry["pid"]).by_function()["allocate"][0] >= 3000
        finally:
            if os.path.exists(path):
                os.unlink(path)  # the daemon's end
    assert reports[0] == reports[1] and expected_line in reports[0], reports
    harness.poll(lambda: not port.processes(), "the daemon's end")


def test_libc_daemon():
    check_daemon("libc_daemon", "next 3, leader 1")


def test_double_fork_that_closes_every_descriptor():
    check_daemon("double_fork", "descriptors 0 101 202, in all 3")


def test_chroot_and_another_user():
    if os.getuid() != 0:
        raise harness.Skip("needs root")
    directory = harness.scratch()
    os.chmod(directory, 0o755)

    def look(family):
        def check():
            (pid,) = family.await_others(1)
            assert family.port.processes()[pid]["uid"] == 65534
            assert family.port.profile("allocs", pid).total()[0] >= 3000

        return check

    check_way(
        "chroot_child " + directory,
        [look],
        program=confined(),
        lines=["uid 65534, /proc -1, back to root -1", "child exit 3"],
    )


def test_child_enters_a_user_namespace():
    if (
        harness.run([confined(), "unshare_child"], plain=True, stdin=b"\n" * 9).stdout.count(
            b"unshare 0 0"
        )
        != 2
    ):
        raise harness.Skip("user namespaces are not permitted here")
    check_way(
        "unshare_child",
        [None, served(1), None],
        program=confined(),
        lines=["unshare 0 0", "child exit 8"],
    )


def test_limits():
    """No room or no thread for an agent: the child has none, and is well."""
    for kilobytes in (0, 64, 200, 300, 500, 1000, 3000):
        check_way(
            "memory_limit %d" % kilobytes, [], program=confined(), rate=None, lines=["limited"]
        )
    if os.getuid() == 0:
        check_way("process_limit", [None, None], program=confined(), lines=["child exit 7"])


def test_parent_is_killed():
    """One of its children takes the port over, and all are served."""
    family = Family([ways(), "orphans", "6"])
    family.host.ready()
    children = family.await_others(6)
    os.kill(family.host.pid, signal.SIGKILL)
    started = time.monotonic()
    found = family.port.await_processes(children, others=False)
    harness.note(
        "all %d served %.0f ms after the kill"
        % (len(children), 1000 * (time.monotonic() - started))
    )
    assert sum(entry["holder"] for entry in found.values()) == 1, found
    family.check_served(children)
    for pid in children:
        assert family.port.profile("allocs", pid).by_function()["allocate"][0] == 2000, pid
    family.host.process.stdin.close()
    harness.poll(lambda: not family.port.processes(), "the children's end")


# ---- PPROFAGENT_CHILDREN -------------------------------------------------------------------------


def test_children_none():
    """No agent thread ever, no sample: nothing is written to any table. With `all` the same program
    shows that it would be seen."""

    def nobody(family):
        def look():
            family.port.await_processes([family.host.pid], others=False)
            time.sleep(0.3)  # it must not come
            assert family.await_others(0) == []

        return look

    family = Family([ways(), "unsampled"], rate=1, extra={"PPROFAGENT_CHILDREN": "none"})
    family.check_as_plain(
        [nobody(family), nobody(family)],
        ["memory beside the heap: as before", "threads 1", "child exit 3"],
    )
    family = Family([ways(), "unsampled"], rate=1, extra={"PPROFAGENT_CHILDREN": "fork"})
    assert family.host.line() == "ready"
    family.check_served(family.await_others(1))
    family.host.go_on()
    memory, threads = family.host.line(), family.host.line()
    assert memory == "memory beside the heap: more" and threads != "threads 1", (memory, threads)


PYTHON = """
import multiprocessing, os, sys
def work(n):
    return sum(range(n)), os.getppid() == parent
parent = os.getpid()
with multiprocessing.get_context("fork").Pool(3) as pool:
    print(pool.map(work, range(1000, 1100)) == [(sum(range(n)), True) for n in range(1000, 1100)])
pid = os.fork()
if pid == 0:
    print([x for x in "child"], flush=True)
    os._exit(3)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_real_programs_that_fork():
    # from 3.12 on python warns when it forks with more than one thread, and the agent's counts
    commands = (
        ["/usr/bin/python3", "-W", "ignore:This process:DeprecationWarning", "-c", PYTHON],
        [
            "/bin/bash",
            "-c",
            "(echo a; (echo b; exit 3); echo $?) | cat; for i in 1 2 3; do (exit $i) & done; wait; "
            "echo $(echo c)",
        ],
        ["/bin/sh", "-c", "(sleep 0.1; echo late) & echo early; wait"],
        [
            "/usr/bin/perl",
            "-e",
            "for (1..20) { my $p = fork; exit $_ if !$p; waitpid $p, 0; print $? >> 8 }",
        ],
    )
    for argv in commands:
        if not os.path.exists(argv[0]):
            continue
        plain = harness.run(argv, plain=True)
        for children in ("all", "fork", "none"):
            found = harness.run(
                argv, rate=512, address=Port().address, extra={"PPROFAGENT_CHILDREN": children}
            )
            assert (found.returncode, found.stdout, found.stderr) == (
                plain.returncode,
                plain.stdout,
                plain.stderr,
            ), (plain, found)
