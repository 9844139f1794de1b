"""What reviews have found to go wrong round the shared port: keys shown to the wrong, floods,
squatters, starts at the wrong place."""
import collections
import os
import re
import signal
import socket
import struct
import subprocess

import harness
import process_tree
from process_tree import Port, Process
from test_process_tree import NOBODY, as_nobody
from test_silent_members import stop


def hazards():
    return harness.build("tree_hazards.c", "-O1")


def three(port):
    """Processes that share it; the first holds it."""
    first = Process(port)
    port.await_processes([first.pid])
    second, third = Process(port), Process(port)
    port.await_processes([first.pid, second.pid, third.pid], others=False)
    return first, second, third


# ---- strangers -----------------------------------------------------------------------------------

STRANGER = r"""
import os, socket, struct, sys
name, what, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
hello = bytes.fromhex(sys.argv[4])
hello = hello[:16] + struct.pack("=i", os.getpid()) + hello[20:]
for _ in range(count):
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    peer.settimeout(10)
    try:
        peer.connect("\0" + name)
        peer.send(hello)
        if what == "ask":
            print(peer.recv(65536).hex(), flush=True)
    except (BlockingIOError, BrokenPipeError, ConnectionResetError):
        pass
    peer.close()
"""

LISTENER = r"""
import socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind("\0" + sys.argv[1])
listener.listen(16)
print("bound", flush=True)
print(listener.accept()[0].recv(65536).hex(), flush=True)
"""


def hello_message():
    """The first message of a process that wants to share a port, as such a process sends it."""
    port = Port()
    listener = subprocess.Popen(
        [harness.need("python3"), "-c", LISTENER, "pprofagent/" + port.address],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert listener.stdout.readline() == "bound\n"
        host = harness.Host([process_tree.build()], address=port.address)
        return listener.stdout.readline().strip()
    finally:
        listener.kill()
        listener.wait()
        listener.stdout.close()
        host.kill()


def stranger(port, become, what, count=1):
    done = subprocess.run(
        [
            harness.need("python3"),
            "-c",
            STRANGER,
            "pprofagent/" + port.address,
            what,
            str(count),
            hello_message(),
        ],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=become,
        cwd="/",
        check=True,
    )
    return done.stdout


def key_shown(port, become):
    """By which forked processes know each other."""
    answer = bytes.fromhex(stranger(port, become, "ask").strip())
    assert (
        struct.unpack_from("=I", answer, 8)[0] == 2
    ), answer  # protocol, size, kind: welcome, the user being its own, round; pid, key
    return answer[20:36]


def test_a_worker_that_gave_up_root_keeps_its_key_to_itself():
    become = as_nobody()
    port = Port()
    parent = Process(port)
    port.await_processes([parent.pid])
    worker = parent.do("fork uid:%d detach close" % NOBODY)  # nobody's from its agent's start on
    try:
        port.await_processes([parent.pid, worker], others=False)
        parent.kill()
        port.await_processes([worker], others=False)
        assert port.holder() == worker
        assert key_shown(port, become) == bytes(16)
    finally:
        os.kill(worker, signal.SIGKILL)
    port = Port()
    always = Process(port, preexec_fn=become)
    port.await_processes([always.pid], others=False)
    assert any(
        key_shown(port, become)
    )  # one that never was anybody else has nothing to hide from its own user


SQUATTER = r"""
import socket, struct, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind("\0" + sys.argv[1])
listener.listen(16)
print("bound", flush=True)
peers = []
while True:
    peers.append(listener.accept()[0])
    uid = struct.unpack("=iII", peers[-1].getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
    print(uid, peers[-1].recv(65536).hex(), flush=True)
"""


def test_a_process_that_gave_up_root_tells_a_squatter_no_key():
    """Who has its new user, and the tree's name, would be the holder for every process of root's
    with that key."""
    become = as_nobody()
    port = Port()
    squatter = harness.Host(
        [harness.need("python3"), "-c", SQUATTER, "pprofagent/" + port.address],
        plain=True,
        preexec_fn=become,
        cwd="/",
    )
    assert squatter.line() == "bound"
    parent = Process(port)
    port.await_processes([parent.pid], others=False)
    child = parent.do("fork uid:%d detach" % NOBODY)  # nobody's from its agent's start on
    told = {}
    while child not in told:
        uid, message = squatter.line(harness.DEADLINE).split(" ")
        message = bytes.fromhex(message)
        if message:  # the process between the two may have ended instead
            told[struct.unpack_from("=i", message, 16)[0]] = int(uid), message[20:36]
    assert told[child][0] == NOBODY and {key for _, key in told.values()} == {bytes(16)}, told
    port.await_processes([parent.pid], others=False)


HOLDER = r"""
import errno, os, socket, struct, sys
name, key = sys.argv[1], bytes.fromhex(sys.argv[2])
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind("\0" + name)
listener.listen(16)
print("bound", flush=True)
peer, _ = listener.accept()
hello = peer.recv(65536)
header = lambda kind: hello[:8] + struct.pack("=II", kind, 0)  # protocol and size are the member's
ours, theirs = socket.socketpair()
try:
    connection = (header(6) + bytes([1, 0])).ljust(len(hello), b"\0")
    socket.send_fds(peer, [connection], [theirs.fileno()])
    print("sent")
except PermissionError:
    print("not taken")
peer.send((header(2) + hello[16:20] + key).ljust(len(hello), b"\0"))  # welcome
peer.settimeout(30)
told = peer.recv(65536)
print(struct.unpack_from("=I", told, 8)[0] if told else "gone", flush=True)
"""


def refuses_descriptors():
    """Whether the kernel lets a socket's owner refuse them (Linux 6.16)."""
    probe = socket.socket(socket.AF_UNIX)
    try:
        probe.setsockopt(socket.SOL_SOCKET, 83, 0)
        return True
    except OSError:
        return False
    finally:
        probe.close()


def test_a_holder_known_by_its_key_alone_leads_nobody():
    """A process of nobody's, which has the key of root's worker, holds the port: it is to give way.
    No descriptor is taken from it, and so no connection for which it would vouch."""
    become = as_nobody()
    port = Port()
    parent = Process(port)
    port.await_processes([parent.pid])
    worker = parent.do("fork detach close")
    try:
        port.await_processes([parent.pid, worker], others=False)
        key = key_shown(port, None)  # to root
        assert any(key)
        os.kill(worker, signal.SIGSTOP)
        # all of its threads: it does not take over now
        harness.poll(lambda: harness.thread_states(worker) == {"T"}, "the worker stands still")
        parent.kill()
        holder = harness.Host(
            [harness.need("python3"), "-c", HOLDER, "pprofagent/" + port.address, key.hex()],
            plain=True,
            preexec_fn=become,
            cwd="/",
        )
        assert holder.line() == "bound", holder.describe()
        os.kill(worker, signal.SIGCONT)
        assert holder.line() == ("not taken" if refuses_descriptors() else "sent")
        # what came before its welcome is no answer of a holder's
        assert holder.line() == ("8" if refuses_descriptors() else "gone"), holder.describe()
        holder.kill()
        port.await_processes([worker], others=False)
    finally:
        os.kill(worker, signal.SIGKILL)


NEVER = r"""
import socket, struct, sys, time
name, key = sys.argv[1], bytes.fromhex(sys.argv[2])
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind("\0" + name)
listener.listen(16)
print("bound", flush=True)
before = 0
while True:
    peer, _ = listener.accept()
    print("asked anew" if time.monotonic() - before > 2 else "asked", flush=True)
    hello = peer.recv(65536)
    welcome = hello[:8] + struct.pack("=II", 2, 0) + hello[16:20] + key
    peer.send(welcome.ljust(len(hello), b"\0"))
    peer.recv(65536)
    peer.close()
    before = time.monotonic()
"""


def test_a_holder_that_never_gives_way():
    """It has the key of root's, and the port too. That it is asked again and again fills no log."""
    become = as_nobody()
    port = Port()
    parent = Process(port)
    port.await_processes([parent.pid])
    key = key_shown(port, None)
    worker = parent.do("fork detach close")
    port.await_processes([parent.pid, worker])
    stop(worker)
    try:
        parent.kill()
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", port.number))
            taken.listen(1)
            argv = [harness.need("python3"), "-c", NEVER, "pprofagent/" + port.address, key.hex()]
            holder = harness.Host(argv, plain=True, preexec_fn=become, cwd="/")
            assert holder.line() == "bound", holder.describe()
            os.kill(worker, signal.SIGCONT)
            asked = [holder.line(), holder.line()]
            while asked[-2:] != ["asked anew", "asked"] or asked.count("asked anew") < 2:
                asked.append(holder.line())
            said = [line for line in parent.log().splitlines() if "pprofagent[%d]" % worker in line]
            assert sum("is to give the port to this one" in line for line in said) == 1, said
            holder.kill()
        port.await_processes([worker], others=False)
    finally:
        os.kill(worker, signal.SIGKILL)


# A token of his own for process PID, with all that everybody can know (agent/tree/tree_kinship.c).
# In the message its number comes after the pid and the key.
FORGER = r"""
import os, socket, struct, sys
name, what, hello, holder = sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3]), int(sys.argv[4])

def token_for(pid):
    with open("/proc/%d/stat" % pid) as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    token = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    token.bind("\0pprofagent/kin/%d/%d/%016x" % (pid, ticks, 77))
    token.listen(16)
    return token

with_number = lambda message: message[:40] + struct.pack("=Q", 77) + message[48:]

peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
if what == "join":
    peer.connect("\0" + name)
    hello = hello[:16] + struct.pack("=i", os.getpid()) + hello[20:]
    token = token_for(holder)
    peer.send(with_number(hello))
    print(peer.recv(65536).hex(), flush=True)
else:
    peer.bind("\0" + name)
    peer.listen(16)
    print("bound", flush=True)
    member, _ = peer.accept()
    pid, _, _ = struct.unpack("=iII", member.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    hello = member.recv(65536)
    welcome = hello[:8] + struct.pack("=IIi", 2, 0, pid)
    token = token_for(pid)
    member.send(with_number(welcome.ljust(len(hello), b"\0")))
    print("gone" if not member.recv(65536) else "joined", flush=True)
"""


def forge(port, what, holder=0):
    become = as_nobody()
    return harness.Host(
        [
            harness.need("python3"),
            "-c",
            FORGER,
            "pprofagent/" + port.address,
            what,
            hello_message(),
            str(holder),
        ],
        plain=True,
        preexec_fn=become,
        cwd="/",
    )


def test_a_token_that_another_process_has_made_is_worth_nothing():
    """Everybody can read when root's process was born; that it made the socket he cannot say."""
    process_tree.run_as_root()
    port = Port()
    holder = Process(port)
    port.await_processes([holder.pid])
    answer = bytes.fromhex(forge(port, "join", holder.pid).line())
    assert struct.unpack_from("=I", answer, 8)[0] == 3, answer  # refused
    assert set(port.processes()) == {holder.pid}


def test_a_squatter_with_a_token_of_his_own_gets_no_member():
    process_tree.run_as_root()
    port = Port()
    forger = forge(port, "hold")
    assert forger.line() == "bound"
    member = Process(port)
    assert forger.line() == "gone"
    port.await_processes([member.pid], others=False)


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


# ---- starts --------------------------------------------------------------------------------------


def test_late_start_is_not_for_a_vfork_child():
    """Which shares its parent's memory, and the mark that says so; the parent's agent starts
    afterwards."""
    port = Port()
    host = harness.Host([hazards(), "vfork"], rate=1, address=port.address)
    line = host.ready()[0]
    child = int(line.split(":")[0])
    assert (
        line == "%d: threads 1 in the child of vfork, 1 after it, 2 after an allocation" % child
    ), line
    port.await_processes([host.pid, child])
    assert port.ok("heap", child)
    host.go_on()
    assert host.finish() == 0


def test_a_signal_handler_that_forks_while_the_first_fork_makes_the_key():
    port = Port()
    host = harness.Host(
        [hazards(), "interrupt_key", harness.agent()], plain=True, address=port.address
    )
    line = host.line()
    if line == "no ptrace":
        raise harness.Skip("ptrace is not allowed here")
    assert line == "the handler runs afterwards", line
    pids = list(map(int, host.ready(harness.DEADLINE)[0].split()))
    port.await_processes(pids, others=False)
    for pid in pids:
        assert port.health(pid)["process"]["pid"] == pid
    host.go_on()
    assert host.finish() == 0


def test_parent_has_the_port_although_it_forks_at_once():
    def holder_is_parent():
        port = Port()
        host = harness.Host([hazards(), "fork_first", "150"], address=port.address)
        parent, child = map(int, host.ready()[0].split())
        assert parent == host.pid
        port.await_processes([parent, child], others=False)
        found = port.holder() == parent
        host.go_on()
        assert host.finish() == 0
        return found

    assert any(
        holder_is_parent() for _ in range(4)
    )  # a busy machine may let the parent go on too late


def test_unshare_by_number():
    expected = harness.run([hazards(), "unshare"], plain=True)
    assert re.fullmatch(rb"by name -?\d, by number 4[01]\n", expected.stdout), expected
    port = Port()
    done = harness.run([hazards(), "unshare"], address=port.address)
    assert (done.stdout, done.returncode) == (expected.stdout, expected.returncode), (
        done,
        expected,
    )


FILTER = r"""
import ctypes, struct, sys
KILL, ALLOW = 0x80000000, 0x7fff0000
def step(code, jump_if, jump_else, value):
    return struct.pack("HBBI", code, jump_if, jump_else, value)
numbers = [41, 42, 87]  # socket, connect, unlink
tests = [step(0x15, len(numbers) - i, 0, number) for i, number in enumerate(numbers)]
program = step(0x20, 0, 0, 0) + b"".join(tests) + step(6, 0, 0, ALLOW) + step(6, 0, 0, KILL)
buffer = ctypes.create_string_buffer(program)
libc = ctypes.CDLL(None)
input()
libc.prctl(38, 1, 0, 0, 0)
filter = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
assert libc.prctl(22, 2, filter, 0, 0) == 0
"""


def test_the_socket_file_is_left_to_programs_under_a_filter_of_their_own():
    """It may kill for any of the calls that its removal takes: of one that holds it, and of one
    that shares it."""
    for alone in (True, False):
        port = Port("unix:" + os.path.join(harness.scratch(), "agent.sock"))
        first = None if alone else Process(port)
        if first:
            port.await_processes([first.pid])
        host = harness.Host([harness.need("python3"), "-c", FILTER], address=port.address)
        port.await_processes([host.pid])
        host.go_on()
        assert host.finish() == 0, host.describe()
