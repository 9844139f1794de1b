"""Several processes on one port: the list, every endpoint of each, and what happens to the others
when the one that holds the port goes.

What a process's profiles must say is how its workload was built: block sizes and function names.
"""
import concurrent.futures
import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

import harness
import process_tree
from process_tree import Port, Process

NOBODY = 65534
TAKEOVER_SECONDS = (
    4  # promised is one; less than the pause after which a process tries its luck again
)


def pair(port=None, rate=1):
    """(port, the process that holds it, another)."""
    port = port or Port()
    first = Process(port, rate=rate)
    port.await_processes([first.pid])
    second = Process(port, rate=rate)
    port.await_processes([first.pid, second.pid], others=False)
    return port, first, second


def check_exact(port, pid, function, size, named=True):
    """In use from that function: one block of this size, nothing else. Not named: its name is in a
    file that a chroot hides."""
    profile = port.profile("heap", pid)
    if named:
        assert profile.by_leaf()[function][2:] == [1, size], (pid, function, profile.by_leaf())
    found = [sample.values[2:] for sample in profile.samples if sample.labels.get("bytes") == size]
    assert found == [[1, size]], (pid, size, found)


# ---- the list, and every endpoint of each --------------------------------------------------------


def test_list():
    port, first, second = pair()
    second.do("alloc:%d" % (3 << 20))
    found = port.await_processes([first.pid, second.pid], others=False)
    assert sorted(found) == [entry["pid"] for entry in port.list()["processes"]]
    for process in (first, second):
        entry = found[process.pid]
        assert (entry["parent"], entry["uid"], entry["name"]) == (
            os.getpid(),
            os.geteuid(),
            "process_tree_c_"[:15],
        ), entry
        assert (
            entry["command"] == process_tree.build()
            and entry["threads"] == 1
            and entry["uptime_seconds"] > 0
        ), entry
        assert (
            entry["holder"] == (process is first)
            and entry["url"] == "/pid/%d/debug/pprof/" % process.pid
        ), entry
    # Every allocation is recorded: the two differ by the block, and by what their starts differ in.
    assert (
        abs(
            found[second.pid]["heap_inuse_bytes"] - found[first.pid]["heap_inuse_bytes"] - (3 << 20)
        )
        < 4096
    ), found
    second.do("spin")
    harness.poll(
        lambda: port.processes()[second.pid]["threads"] == 2, "the second thread in the list"
    )
    assert port.list()["refused"] == 0 and port.list()["listen_address"] == port.address
    for options, kind in (
        (dict(headers={"Accept": "application/json"}), "application/json"),
        ({}, "text/html; charset=utf-8"),
    ):
        status, headers, body = port.get("/", **options)
        assert (status, headers["Content-Type"], headers["Cache-Control"]) == (
            200,
            kind,
            "no-store",
        ), headers.items()
        assert (b"<td class=name><a href=\"pid/%d/debug/pprof/\">" % second.pid in body) == (
            kind != "application/json"
        ), body
        assert port.get("/", method="HEAD", **options)[0::2] == (200, b"")
    page = port.ok("", first.pid).decode()
    assert "holds the port that 2 processes share: <a href=\"../../../../\">" in page
    assert "<a href=\"../../\">all processes</a>" in port.ok("/debug/pprof/").decode()
    assert (
        port.url("heap", second.pid) in port.ok("", second.pid).decode()
    )  # what to type in a terminal
    status, headers, body = port.get("/pid/4000000/debug/pprof/heap")
    assert (status, headers["X-Go-Pprof"], body) == (
        404,
        "1",
        b"no process 4000000 under the agent on this port\n",
    ), (status, body)
    for process in (first, second):
        own = "/pid/%d" % process.pid
        assert (
            port.get(own)[0] == 302
            and port.get(own + "/")[1]["Location"]
            == port.get(own)[1]["Location"]
            == own + "/debug/pprof/"
        )
        assert port.get(own + "/debug/pprof?x=1")[1]["Location"] == own + "/debug/pprof/?x=1"
        status, headers, body = port.get("nothing", process.pid)
        assert (status, headers["X-Go-Pprof"], body) == (404, "1", b"Unknown profile\n")


def test_every_endpoint_is_the_processs_own():
    port, first, second = pair()
    sizes = {first: 30001, second: 50007}
    for process, size in sizes.items():
        process.do("alloc:%d" % size)
    for process, size in sizes.items():
        check_exact(port, process.pid, "own_block", size)
        assert port.health(process.pid)["process"]["pid"] == process.pid
        assert port.health(process.pid)["process_tree"]["role"] == (
            "holder" if process is first else "member"
        )
        assert port.ok("cmdline", process.pid).decode() == process_tree.build()
        assert port.ok("goroutine?debug=2", process.pid).startswith(b"# pid %d comm " % process.pid)
        assert "own_block" in harness.pprof_clean(
            "-top", "-nodecount=500", port.url("heap", process.pid)
        )
        for name in ("allocs", "block", "mutex", "threadcreate", "thread", "goroutine"):
            assert port.profile(name, process.pid).sample_types
        address = "0x%x" % next(
            frame.address
            for sample in port.profile("heap", process.pid).samples
            for frame in sample.frames
            if frame.function == "own_block"
        )
        for body in (
            port.ok("symbol?" + address, process.pid),
            port.ok("symbol", process.pid, method="POST", body=address),
        ):
            assert body == b"num_symbols: 1\n%s own_block\n" % address.encode(), body
        assert port.get("heap", process.pid, method="POST", body="x")[0] in (400, 405)
        assert port.get("heap", process.pid, headers={"Host": "rebound.example"})[0] == 403
    check_exact(port, first.pid, "own_block", sizes[first])
    assert b"own_block" in port.ok("/debug/pprof/heap?debug=1")  # without a prefix: the holder's


def test_cpu_profile_delta_and_departed_client_of_a_member():
    port, first, second = pair()
    second.do("spin")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        delta = pool.submit(port.profile, "heap?seconds=2", second.pid)
        # The block must come while the delta waits: 2 s are long, and the CPU profile below shows
        # that requests got through.
        busy, idle = pool.submit(port.profile, "profile?seconds=1", second.pid), pool.submit(
            port.profile, "profile?seconds=1", first.pid
        )
        busy, idle = busy.result(), idle.result()
        second.do("alloc:60013")
        change = delta.result()
    assert busy.by_function()["own_work"][0] > 0, busy.by_function()
    assert "own_work" not in idle.by_function(), idle.by_function()
    assert change.by_leaf()["own_block"] == [1, 60013, 1, 60013], change.by_leaf()
    running = lambda: port.health(second.pid)["cpu_sampling"]["profiles_running"]
    connection = port.connection()
    connection.request("GET", "/pid/%d/debug/pprof/profile?seconds=600" % second.pid)
    harness.poll(lambda: running() == 1, "the profile runs in the other process")
    connection.close()
    harness.poll(lambda: running() == 0, "its end, the client being gone")


def test_fork_is_served_with_its_parents_allocations():
    port = Port()
    parent = Process(port)
    port.await_processes([parent.pid])
    parent.do("alloc:30001")
    child = parent.do("fork alloc:50007 spin")
    found = port.await_processes([parent.pid, child], others=False)
    assert (
        found[child]["parent"] == parent.pid
        and found[child]["threads"] == 2
        and not found[child]["holder"]
    ), found
    check_exact(port, parent.pid, "own_block", 30001)
    check_exact(port, child, "own_block", 30001)  # inherited, and still live
    check_exact(port, child, "child_block", 50007)
    assert "child_block" not in port.profile("heap", parent.pid).by_leaf()
    for pid, since in (
        (parent.pid, "Allocated since start"),
        (child, "Allocated since its parent's start"),
    ):
        assert since in port.ok("", pid).decode(), pid
    port.await_samples([child], "child_work")
    assert "child_work" not in port.profile("profile?seconds=1", parent.pid).by_function()
    os.kill(child, signal.SIGKILL)
    port.await_processes([parent.pid], others=False)
    assert port.get("heap", child)[0] == 404


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


def test_private_tmp():
    process_tree.run_as_root()
    unshare = harness.need("unshare")
    if subprocess.run([unshare, "-m", "true"], capture_output=True).returncode:
        raise harness.Skip("no mount namespaces here")
    port = Port()
    first = Process(port)
    port.await_processes([first.pid])
    library = harness.agent()
    hides = library.startswith("/tmp/")  # then /tmp must stay
    script = "mount -t tmpfs none %s && exec %s" % (
        "/mnt" if hides else "/tmp",
        process_tree.build(),
    )
    second = Process(port, prefix=[unshare, "-m", "sh", "-c", script])
    second.do("alloc:50007")
    port.await_processes([first.pid, second.pid], others=False)
    assert os.readlink("/proc/%d/ns/mnt" % first.pid) != os.readlink("/proc/%d/ns/mnt" % second.pid)
    check_exact(port, second.pid, "own_block", 50007)
    first.kill()
    port.await_processes([second.pid], others=False)


# ---- who is kept out -----------------------------------------------------------------------------


def as_nobody():
    """A preexec_fn."""
    process_tree.run_as_root()

    def become():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    if subprocess.run(
        ["test", "-r", harness.agent(), "-a", "-x", process_tree.build()],
        preexec_fn=become,
        cwd="/",
    ).returncode:
        raise harness.Skip("the build directory cannot be read by another user")
    return become


def test_another_users_process_cannot_join():
    become = as_nobody()
    port, first, second = pair()
    stranger = Process(port, preexec_fn=become)
    harness.poll(lambda: port.list()["refused"] > 0, "it asked and was refused")
    answer = port.list()
    assert set(port.processes()) == {first.pid, second.pid}
    assert ("process %d of user %d" % (stranger.pid, NOBODY)) in answer[
        "last_refusal"
    ] and "PPROFAGENT_ALLOW_UIDS" in answer["last_refusal"], answer
    assert port.get("heap", stranger.pid)[0] == 404
    assert b"Not let in to share the port" in port.ok("/") and b"Not let in" in port.ok(
        "/debug/pprof/"
    )
    first.kill()  # nor can it become the holder of others
    port.await_processes([second.pid], others=False)
    assert stranger.do("alloc:1") == stranger.pid  # and it runs on


IMPOSTOR = r"""
import os, socket, sys, select
name, mode = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind("\0" + name)
listener.listen(16)
print("bound", flush=True)
while True:
    peer, _ = listener.accept()
    message, control, _, _ = peer.recvmsg(65536, 65536)
    print("got", message.hex(), len(control), flush=True)
    if mode == "answer" and message:  # a forged welcome: kind 2, with a key of its own making
        kind = (2).to_bytes(4, sys.byteorder)
        peer.send(message[:8] + kind + message[12:20] + bytes(range(1, 17)) + message[36:])
        while True:
            message, control, _, _ = peer.recvmsg(65536, 65536)
            print("got more", message.hex(), len(control), flush=True)
            if not message:
                break
    elif mode == "answer":
        peer.close()
"""


def check_impostor(mode):
    """Another user has the tree's name already: the processes serve all the same (one of them), and
    tell it nothing but a pid."""
    become = as_nobody()
    port = Port()
    impostor = subprocess.Popen(
        [harness.need("python3"), "-c", IMPOSTOR, "pprofagent/" + port.address, mode],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=become,
        cwd="/",
    )
    try:
        assert impostor.stdout.readline() == "bound\n"
        first = Process(port)
        port.await_processes([first.pid], others=False)
        first.do("alloc:50007")
        check_exact(port, first.pid, "own_block", 50007)
        assert port.get("/debug/pprof/heap")[0] == 200 and port.holder() == first.pid
        Process(port)
        second_said = (
            impostor.stdout.readline(),
            impostor.stdout.readline() if mode == "answer" else "",
        )
    finally:
        impostor.kill()
        rest = impostor.stdout.read()
        impostor.wait()
        impostor.stdout.close()
    said = "".join(second_said) + rest
    got = re.findall(r"got ([0-9a-f]+) (\d+)", said)
    assert got, said
    for message, control in got:
        message = bytes.fromhex(message)
        assert struct.unpack_from("=i", message, 16)[0] > 0 and not any(
            message[20:]
        ), message  # protocol, size, kind, round, pid; no key
        assert control == "0"
    assert not re.search("got more [0-9a-f]{2}", said), said


def test_impostor_that_is_silent():
    check_impostor("silent")


def test_impostor_that_answers():
    check_impostor("answer")


# ---- many ----------------------------------------------------------------------------------------


def test_two_hundred():
    port = Port()
    first = Process(port)
    port.await_processes([first.pid])
    hosts = process_tree.sleepers(port, 200)
    pids = [host.pid for host in hosts]
    port.await_processes([first.pid] + pids, others=False)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for pid, health in zip(pids, pool.map(port.health, pids)):
            assert health["process"]["pid"] == pid and health["process"]["name"] == "sleep"
    first.kill()
    found = port.await_processes(pids, others=False)
    assert sum(entry["holder"] for entry in found.values()) == 1
    for host in hosts[:100]:
        host.kill()
    port.await_processes(pids[100:], others=False)


def test_ps_lists_each_with_its_own_url():
    port, first, second = pair()
    other = Process(Port())  # a tree by itself
    rude = os.path.join(harness.scratch(), "a\x1b[31m\nb")
    shutil.copy("/bin/sleep", rude)
    rude = harness.Host([rude, "100"], address=port.address)
    tool = os.path.join(harness.ROOT, "scripts", "pprofagent")

    def listed():
        lines = subprocess.run(
            [tool, "ps"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        return {int(line.split()[0]): line.split()[1:] for line in lines[1:]}

    expected = {
        first.pid: "http://%s/debug/pprof/" % port.address,
        second.pid: port.url("", second.pid),
    }
    found = harness.poll(
        lambda: (now := listed()) and now.get(other.pid, ["", "not"])[1] != "not" and now,
        "ps lists the third",
    )
    for pid, url in expected.items():
        assert found[pid] == ["process_tree_c_", url], found
    assert "/pid/" not in found[other.pid][1], found
    assert found[rude.pid][0] == "a?[31m?b", found
