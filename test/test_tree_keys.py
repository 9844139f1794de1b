"""Keys and tokens, by which processes that share a port know their kin, are shown to nobody else,
and are worth nothing to others."""
import os
import signal
import socket
import struct

import harness
import process_tree
from process_tree import NOBODY, Port, Process, as_nobody, stop
from tree_strangers import HOLDER, hello_message, key_shown, refuses_descriptors


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
