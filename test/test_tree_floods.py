"""Strangers that flood a shared port, or take its name for a while: the owner is served."""
import collections
import os
import re
import signal
import socket
import subprocess

import harness
from process_tree import NOBODY, Port, Process, as_nobody
from tree_strangers import LISTENER, hazards, stranger, three


def test_a_flood_of_strangers_fills_no_log():
    become = as_nobody()
    port = Port()
    first, second = Process(port), Process(port)
    port.await_processes([first.pid, second.pid])
    stranger(port, become, "leave", 3000)
    harness.poll(lambda: port.list()["refused"] >= 20, "they were refused")
    port.await_processes([first.pid, second.pid], others=False)
    lines = [
        line
        for host in (first, second)
        for line in host.log().splitlines()
        if "may not share" in line
    ]
    assert 1 <= len(lines) <= 12, lines
    third = Process(port)
    port.await_processes([first.pid, second.pid, third.pid], others=False)
    for process in (first, second, third):
        assert port.health(process.pid)["process"]["pid"] == process.pid


def test_a_squatter_that_leaves():
    """Whoever had the port alone meanwhile says so, takes the name then, and shares the port."""
    become = as_nobody()
    port = Port()
    squatter = subprocess.Popen(
        [
            harness.need("python3"),
            "-c",
            LISTENER.replace(
                "print(listener.accept()[0].recv(65536).hex(), flush=True)",
                "import time; time.sleep(100)",
            ),
            "pprofagent/" + port.address,
        ],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=become,
        cwd="/",
    )
    try:
        assert squatter.stdout.readline() == "bound\n"
        first = Process(port)
        port.await_processes([first.pid])
        assert b"Other processes cannot share this port: process %d of user %d" % (
            squatter.pid,
            NOBODY,
        ) in port.ok("/debug/pprof/")
    finally:
        squatter.kill()
        squatter.wait()
        squatter.stdout.close()
    harness.poll(
        lambda: port.health(first.pid)["process_tree"]["not_shared_because"] is None,
        "the name is its own",
    )
    second = Process(port)
    port.await_processes([first.pid, second.pid], others=False)


LATE = r"""
import socket, sys, time
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind("\0" + sys.argv[1])
listener.listen(16)
print("bound", flush=True)
while True:
    peer, _ = listener.accept()
    print("asked", flush=True)
    time.sleep(0.25)
    peer.close()
"""


def test_a_squatter_that_closes_late_again_and_again():
    """The program waits for its agent's end, and is not alone before: it does not wait for him."""
    become = as_nobody()
    expected = harness.run([hazards(), "unshare_late"], stdin=b"\n", plain=True).stdout
    assert re.fullmatch(rb"ready\nby name -?\d\n", expected), expected
    port = Port()
    argv = [harness.need("python3"), "-c", LATE, "pprofagent/" + port.address]
    squatter = harness.Host(argv, plain=True, preexec_fn=become, cwd="/")
    assert squatter.line() == "bound"
    host = harness.Host([hazards(), "unshare_late"], address=port.address)
    host.ready()
    assert squatter.line() == "asked"
    host.go_on()
    assert b"ready\n" + host.line().encode() + b"\n" == expected, host.describe()
    assert host.finish() == 0
    host = harness.Host([hazards(), "unshare_late"], address=port.address)
    port.await_processes([host.pid])  # he is waited for once, and it has the port alone
    assert "has its name and does not answer" in host.log()


SLOW = r"""
import socket, sys, time
port, request = int(sys.argv[1]), sys.argv[2].encode()
held = []
while True:
    connection = socket.socket()
    connection.settimeout(0.2)
    try:
        connection.connect(("127.0.0.1", port))
        connection.send(request)
        held.append(connection)
    except OSError:
        connection.close()
    if len(held) == 300: print("ready", flush=True)
    if len(held) > 300: held.pop(0).close()
"""


def test_strangers_cannot_keep_the_owner_out_of_a_member():
    """Another user's requests for it come as fast as they can and are never finished."""
    become = as_nobody()
    port = Port()
    first, second, third = three(port)
    slow = subprocess.Popen(
        [
            harness.need("python3"),
            "-c",
            SLOW,
            str(port.number),
            "GET /pid/%d/debug/pprof/cmdline HTTP/1.1\r\nHost: localhost\r\nX: " % second.pid,
        ],
        stdout=subprocess.PIPE,
        preexec_fn=become,
        cwd="/",
    )
    try:
        assert slow.stdout.readline() == b"ready\n"
        answers = collections.Counter()
        for process in [first, third] + [second] * 50:
            status, _, body = port.get("cmdline", process.pid)
            answers[process.pid, body if status != 200 else status] += 1
    finally:
        slow.kill()
        slow.wait()
        slow.stdout.close()
    # The strangers' connections and the owner's are in one queue between the two processes, which
    # may be full for a moment.
    full = answers.pop((second.pid, b"that process takes no request now\n"), 0)
    assert full <= 5 and answers == {
        (first.pid, 200): 1,
        (second.pid, 200): 50 - full,
        (third.pid, 200): 1,
    }, (full, answers)
    harness.note("%d of 50 requests found the queue full" % full)


def test_requests_for_a_member_that_takes_none_do_not_keep_others_waiting():
    """More than its queue holds, from who may ask, and he reads no answer."""
    port = Port()
    first, second, third = three(port)
    held = []

    def ask():
        connection = socket.create_connection(("127.0.0.1", port.number), timeout=harness.DEADLINE)
        held.append(connection)
        connection.sendall(
            b"GET /pid/%d/debug/pprof/allocs?debug=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
            % second.pid
        )

    def is_served(process):
        return port.get("cmdline", process.pid)[0] == 200  # 503: so many at the same moment

    os.kill(second.pid, signal.SIGSTOP)
    try:
        for _ in range(20):
            for _ in range(30):
                ask()
            for process in (first, third):
                harness.poll(lambda: is_served(process), "another process is served")
    finally:
        os.kill(second.pid, signal.SIGCONT)
    assert port.processes().keys() == {first.pid, second.pid, third.pid}
    for connection in held:
        connection.close()
    harness.poll(lambda: is_served(second), "the process itself is served again")
