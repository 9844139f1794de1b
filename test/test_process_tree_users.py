"""Processes that share a port when they have another user, another root directory or a directory
that they cannot write."""
import contextlib
import os
import signal

import harness
import process_tree
from process_tree import Port, Process
from test_process_tree import NOBODY, check_exact


def test_chroot_changed_user_and_closed_descriptors():
    process_tree.run_as_root()
    port = Port()
    parent = Process(port)
    port.await_processes([parent.pid])
    parent.do("alloc:30001")
    empty = harness.scratch()
    os.chmod(empty, 0o755)
    sizes, children = {"chroot:" + empty: 40003, "uid:%d" % NOBODY: 50007, "chroot:%s uid:%d" % (empty, NOBODY): 60013, "close": 70001, "detach close": 80021}, {}
    try:
        for words, size in sizes.items():
            children[words] = parent.do("fork %s alloc:%d" % (words, size))
        found = port.await_processes([parent.pid, *children.values()], others=False)
        for words, pid in children.items():
            check_exact(port, pid, "child_block", sizes[words], named="chroot" not in words)
            assert found[pid]["uid"] == (NOBODY if "uid" in words else os.geteuid()), found[pid]
        # Any of them may be the next: each must then know the others again.
        parent.kill()
        alive = {pid for words, pid in children.items() if "close" in words}  # the others end with their parent's pipe
        port.await_processes(alive, others=False)
        for pid in alive:
            check_exact(port, pid, "own_block", 30001)
    finally:
        for pid in children.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_worker_of_another_user_takes_over():
    """The root process that holds the port goes; its workers, which gave up root, know each other by what fork has left them."""
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


def test_unix_socket_in_a_directory_that_workers_cannot_write():
    """Who takes over has given up root, or sees another root directory: the path stays what it was, and so does its mode."""
    process_tree.run_as_root()
    empty = harness.scratch()
    os.chmod(empty, 0o755)
    worker = 61234  # not 65534: where /proc is out of sight that might be any user of another namespace
    for words in ("uid:%d" % worker, "chroot:%s uid:%d" % (empty, worker)):
        port = Port("unix:" + os.path.join(harness.scratch(), "agent.sock"))
        parent = Process(port)
        port.await_processes([parent.pid])
        before = os.lstat(port.address[5:])
        workers = [parent.do("fork detach %s close alloc:50007" % words) for _ in range(3)]
        try:
            port.await_processes([parent.pid, *workers], others=False)
            parent.kill()
            left = list(workers)
            while left:  # each in turn
                port.await_processes(left, others=False)
                after = os.lstat(port.address[5:])
                assert (after.st_ino, after.st_mode, after.st_uid) == (before.st_ino, before.st_mode, 0), after
                for pid in left:
                    check_exact(port, pid, "child_block", 50007, named="chroot" not in words)
                holder = port.holder()
                os.kill(holder, signal.SIGKILL)
                left.remove(holder)
        finally:
            for pid in workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        again = Process(port)  # the file that nobody listens to any more is replaced, and removed at the end
        port.await_processes([again.pid], others=False)
        assert again.finish() == 0 and not os.path.exists(port.address[5:])
