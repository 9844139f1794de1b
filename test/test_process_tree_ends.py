"""Several processes on one port: what happens to the others when the one that holds it goes."""
import concurrent.futures
import http.client
import os
import signal
import socket
import threading
import time

import harness
import process_tree
from process_tree import Port, Process, check_exact, pair

TAKEOVER_SECONDS = (
    4  # promised is one; less than the pause after which a process tries its luck again
)


# ---- the holder goes -----------------------------------------------------------------------------


class Asker(threading.Thread):
    """Asks again and again, each time on a new connection; counts what it got."""

    def __init__(self, port, path):
        super().__init__(daemon=True)
        self.port, self.path, self.stop = port, path, threading.Event()
        self.bodies, self.refused, self.wrong = 0, 0, []

    def run(self):
        while not self.stop.is_set():
            try:
                status, _, body = self.port.get(self.path)
                self.bodies += status == 200
                if status != 200:
                    self.wrong.append((status, body))
            except (OSError, http.client.HTTPException):
                self.refused += 1  # nobody listens at this moment
                time.sleep(0.001)


def check_takeover(end):
    """`end` ends the holder: another takes over; what ran in a third goes on; what is asked
    meanwhile is answered or refused at once."""
    port, first, second = pair()
    third = Process(port)
    third.do("spin")
    port.await_processes([first.pid, second.pid, third.pid], others=False)
    assert port.holder() == first.pid
    asker = Asker(port, "/pid/%d/debug/pprof/cmdline" % third.pid)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = pool.submit(port.profile, "profile?seconds=3", third.pid)
        harness.poll(
            lambda: port.health(third.pid)["cpu_sampling"]["profiles_running"] == 1,
            "the profile runs",
        )
        asker.start()
        harness.poll(lambda: asker.bodies > 3, "answers before")
        started = time.monotonic()
        end(first)
        port.await_processes([second.pid, third.pid], others=False, seconds=TAKEOVER_SECONDS)
        took = time.monotonic() - started
        assert port.holder() in (second.pid, third.pid)
        before = asker.bodies
        harness.poll(lambda: asker.bodies > before + 3, "answers after")
        asker.stop.set()
        asker.join(harness.DEADLINE)
        assert running.result().by_function()["own_work"][0] > 10, running.result().by_function()
    # One that has just lost its holder may answer that it does not know of the others yet.
    assert all(status in (404, 503) for status, _ in asker.wrong), asker.wrong
    harness.note(
        "the other two are listed %.2f s later; %d refused and %d not found meanwhile"
        % (took, asker.refused, len(asker.wrong))
    )
    assert not [
        line
        for line in open("/proc/net/unix")
        if "pprofagent/" + port.address in line and line.split()[3] == "00010000"
    ][1:]
    late = Process(port)
    port.await_processes([second.pid, third.pid, late.pid], others=False)


def test_holder_is_killed():
    check_takeover(lambda host: host.kill())


def test_holder_exits():
    def end(host):
        assert host.finish() == 0

    check_takeover(end)


def test_holder_is_stopped():
    """A stopped process keeps its port. What others were asked before goes on, and when it
    continues all is as before."""
    port, first, second = pair()
    second.do("spin")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = pool.submit(port.profile, "profile?seconds=2", second.pid)
        harness.poll(
            lambda: port.health(second.pid)["cpu_sampling"]["profiles_running"] == 1,
            "the profile runs",
        )
        os.kill(first.pid, signal.SIGSTOP)
        try:
            assert running.result().by_function()["own_work"][0] > 10
            waiting = pool.submit(port.ok, "cmdline", second.pid)
            assert not concurrent.futures.wait([waiting], timeout=0.2).done
        finally:
            os.kill(first.pid, signal.SIGCONT)
        assert waiting.result() == process_tree.build().encode()
    port.await_processes([first.pid, second.pid], others=False)
    assert port.holder() == first.pid


def test_stopped_member_is_listed_as_silent():
    port, first, second = pair()
    third = Process(port)
    port.await_processes([first.pid, second.pid, third.pid], others=False)
    os.kill(second.pid, signal.SIGSTOP)
    try:
        entry = harness.poll(
            lambda: next(
                (
                    one
                    for one in port.list()["processes"]
                    if one["pid"] == second.pid and not one["answered"]
                ),
                None,
            ),
            "silence",
        )
        assert (
            entry["uid"] == os.geteuid()
            and entry["name"] == entry["command"] == ""
            and entry["heap_inuse_bytes"] is None
        ), entry
        assert port.processes()[third.pid]["answered"]
        assert b"did not answer in time" in port.ok("/")
        assert port.ok("cmdline", third.pid) == process_tree.build().encode()
    finally:
        os.kill(second.pid, signal.SIGCONT)
    port.await_processes([first.pid, second.pid, third.pid], others=False)


def test_end_of_all():
    """The last one ends as it would alone, and nothing of the tree is left."""
    port, first, second = pair()
    assert first.finish() == 0
    port.await_processes([second.pid], others=False)
    assert second.finish() == 0
    assert not [line for line in open("/proc/net/unix") if "pprofagent/" + port.address in line]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port.number)) != 0


def test_unix_socket_is_shared_too():
    port = Port("unix:" + os.path.join(harness.scratch(), "agent.sock"))
    port, first, second = pair(port)
    third = Process(port)
    port.await_processes([first.pid, second.pid, third.pid], others=False)
    second.do("alloc:50007")
    check_exact(port, second.pid, "own_block", 50007)
    assert (
        "--unix-socket %s http://localhost/pid/%d/debug/pprof/heap" % (port.address[5:], second.pid)
    ) in port.ok("", second.pid).decode()
    first.kill()
    port.await_processes([second.pid, third.pid], others=False)
    check_exact(port, second.pid, "own_block", 50007)
    assert os.stat(port.address[5:]).st_mode & 0o777 == 0o600
    assert second.finish() == 0 and third.finish() == 0
    assert not os.path.exists(port.address[5:])


# ---- other roots, users, namespaces --------------------------------------------------------------


def test_unix_socket_stays_when_its_holder_ends():
    """No moment without it: connections that come between two holders wait for the next."""
    port, first, second = pair(Port("unix:" + os.path.join(harness.scratch(), "agent.sock")))
    before = os.lstat(port.address[5:]).st_ino
    os.kill(first.pid, signal.SIGSTOP)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        answer = pool.submit(port.ok, "cmdline", second.pid)
        harness.poll(
            lambda: [
                line
                for line in open("/proc/net/unix")
                if line.rstrip().endswith(" " + port.address[5:]) and " 02 " in line
            ],
            "a connection waits",
        )
        os.kill(first.pid, signal.SIGKILL)
        assert answer.result().decode() == process_tree.build()
    third = Process(port)
    port.await_processes([second.pid, third.pid], others=False)
    assert second.finish() == 0 and os.lstat(port.address[5:]).st_ino == before
    port.await_processes([third.pid], others=False)
    assert third.finish() == 0 and not os.path.exists(port.address[5:])
