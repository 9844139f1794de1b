"""Daemons, children that give up rights, and children that shall not be served."""
import os
import signal
import time

import harness
from fork_family import Family, check_way, confined, ways
from process_tree import Port
from test_fork_ways import served


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
