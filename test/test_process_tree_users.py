"""Processes that share a port when they have another user, another root directory or a directory
that they cannot write."""
import contextlib
import os
import signal

import harness
import process_tree
from process_tree import NOBODY, Port, Process, check_exact, stop


def test_chroot_changed_user_and_closed_descriptors():
    process_tree.run_as_root()
    port = Port()
    parent = Process(port)
    port.await_processes([parent.pid])
    parent.do("alloc:30001")
    empty = harness.scratch()
    os.chmod(empty, 0o755)
    sizes = {
        "chroot:" + empty: 40003,
        "uid:%d" % NOBODY: 50007,
        "chroot:%s uid:%d" % (empty, NOBODY): 60013,
        "close": 70001,
        "detach close": 80021,
    }
    children = {}
    try:
        for words, size in sizes.items():
            children[words] = parent.do("fork %s alloc:%d" % (words, size))
        found = port.await_processes([parent.pid, *children.values()], others=False)
        for words, pid in children.items():
            check_exact(port, pid, "child_block", sizes[words], named="chroot" not in words)
            assert found[pid]["uid"] == (NOBODY if "uid" in words else os.geteuid()), found[pid]
        # Any of them may be the next: each must then know the others again.
        parent.kill()
        # the others end with their parent's pipe
        alive = {pid for words, pid in children.items() if "close" in words}
        port.await_processes(alive, others=False)
        for pid in alive:
            check_exact(port, pid, "own_block", 30001)
    finally:
        for pid in children.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_worker_of_another_user_takes_over():
    """The root process that holds the port goes; its workers, which gave up root, know each
    other by what fork has left them."""
    process_tree.run_as_root()
    port = Port()
    parent = Process(port)
    port.await_processes([parent.pid])
    workers = [parent.do("fork detach uid:%d close alloc:50007" % NOBODY) for _ in range(3)]
    try:
        port.await_processes([parent.pid, *workers], others=False)
        parent.kill()
        port.await_processes(workers, others=False)
        assert port.holder() in workers
        for pid in workers:
            check_exact(port, pid, "child_block", 50007)
    finally:
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


# ---- a master that becomes another program of itself, while its workers live on ------------------


def worker_of(master):
    return master.do("fork uid:%d close alloc:50007" % NOBODY)


def times_given_way(master):
    return master.log().count(" is to give the port to this one")


def become_again(port, master, workers, master_first):
    """The master, which holds the port, execs itself: its workers are stopped until the new one has
    the port; or again, until they have taken it over before that one came. It has it at the end."""
    for _ in range(20):
        before = times_given_way(master)
        for pid in workers if master_first else ():
            stop(pid)
        master.do("exec")
        if master_first:
            port.await_processes([master.pid])
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
        port.await_processes([master.pid, *workers], others=False)
        harness.poll(lambda: port.holder() == master.pid, "the master holds the port")
        if (times_given_way(master) == before) == master_first:
            return
    raise AssertionError("twenty times the other way round")


def check_re_exec(*orders):
    process_tree.run_as_root()
    port = Port()
    master = Process(port)
    port.await_processes([master.pid])
    workers = [worker_of(master) for _ in range(2)]
    try:
        port.await_processes([master.pid, *workers], others=False)
        for master_first in orders:
            become_again(port, master, workers, master_first)
            master.do("alloc:30001")
            check_exact(port, master.pid, "own_block", 30001)
            workers.append(worker_of(master))  # of the new one
            port.await_processes([master.pid, *workers], others=False)
            for pid in workers:
                check_exact(port, pid, "child_block", 50007)
        # as a reload goes on: the old workers end, those of the last master alone are left
        for pid in workers[:-1]:
            os.kill(pid, signal.SIGKILL)
        port.await_processes([master.pid, workers[-1]], others=False)
        become_again(port, master, workers[-1:], orders[-1])
    finally:
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_master_that_execs_itself_and_comes_after_its_workers():
    check_re_exec(False)


def test_master_that_execs_itself_and_comes_before_its_workers():
    check_re_exec(True)


def test_master_that_execs_itself_again_and_again():
    check_re_exec(True, True, False, False)


def test_root_s_process_takes_the_port_from_a_worker_that_is_its_kin():
    """The parent goes, and a worker that gave up root holds the port before its sister that did
    not: that one knows it by its key, but takes nothing from it that such a user may send."""
    process_tree.run_as_root()
    port = Port()
    parent = Process(port)
    port.await_processes([parent.pid])
    of_root = parent.do("fork detach close alloc:30001")
    worker = parent.do("fork detach uid:%d close alloc:50007" % NOBODY)
    try:
        port.await_processes([parent.pid, of_root, worker], others=False)
        stop(of_root)
        parent.kill()
        port.await_processes([worker])
        os.kill(of_root, signal.SIGCONT)
        port.await_processes([of_root, worker], others=False)
        harness.poll(lambda: port.holder() == of_root, "root's holds the port")
        check_exact(port, of_root, "child_block", 30001)
        check_exact(port, worker, "child_block", 50007)
    finally:
        for pid in (of_root, worker):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


WORKER = 61234  # not 65534: where /proc is out of sight that might be any user of another namespace


def listening_inodes(path):
    """Of the sockets that listen at that path."""
    with open("/proc/net/unix") as file:
        rows = [line.split() for line in file]
    return {row[6] for row in rows if row[7:8] == [path] and row[3] == "00010000"}


def holds(pid, inodes):
    """Whether a thread of the process has one of these sockets."""
    found = set()
    for tid in harness.tasks(pid):
        found |= set(harness.proc_links("/proc/%d/task/%d/fd" % (pid, tid)))
    return bool(found & {"socket:[%s]" % inode for inode in inodes})


def test_unix_socket_is_handed_on_to_root_s_only():
    """Who takes over sees another root directory: the path stays what it was, and so does its mode.
    Workers that gave up root have no part in it: whoever got it would hear what is meant for
    root."""
    process_tree.run_as_root()
    empty = harness.scratch()
    os.chmod(empty, 0o755)
    port = Port("unix:" + os.path.join(harness.scratch(), "agent.sock"))
    path = port.address[5:]
    parent = Process(port)
    port.await_processes([parent.pid])
    before = os.lstat(path)
    heir = parent.do("fork detach chroot:%s close alloc:50007" % empty)
    workers = [parent.do("fork detach uid:%d close alloc:50007" % WORKER) for _ in range(2)]
    try:
        port.await_processes([parent.pid, heir, *workers], others=False)
        inodes = listening_inodes(path)
        assert inodes and holds(heir, inodes) and not any(holds(pid, inodes) for pid in workers)
        parent.kill()
        port.await_processes([heir, *workers], others=False)
        after = os.lstat(path)
        of = lambda found: (found.st_ino, found.st_mode, found.st_uid)
        assert of(after) == of(before) and before.st_uid == 0, after
        assert port.holder() == heir
        for pid in [heir, *workers]:
            check_exact(port, pid, "child_block", 50007, named=pid != heir)
        os.kill(heir, signal.SIGKILL)
        harness.poll(lambda: not listening_inodes(path), "nobody listens any more")
        again = Process(port)  # the file that nobody listens to is replaced, and removed at the end
        port.await_processes([again.pid])
        assert again.finish() == 0 and not os.path.exists(path)
    finally:
        for pid in [heir, *workers]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_unix_socket_is_given_back_with_root():
    process_tree.run_as_root()
    port = Port("unix:" + os.path.join(harness.scratch(), "agent.sock"))
    first = Process(port)
    port.await_processes([first.pid])
    second = Process(port)
    port.await_processes([first.pid, second.pid], others=False)
    inodes = listening_inodes(port.address[5:])
    assert inodes and holds(second.pid, inodes)
    second.do("uid:%d" % WORKER)
    harness.poll(lambda: not holds(second.pid, inodes), "it has the socket no more")
    assert first.finish() == 0
