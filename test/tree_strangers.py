"""Strangers at a shared port: processes that speak its protocol and do not belong to it."""
import socket
import struct
import subprocess

import harness
import process_tree
from process_tree import Port, Process


def hazards():
    return harness.build("tree_hazards.c", "-O1")


def three(port):
    """Processes that share it; the first holds it."""
    first = Process(port)
    port.await_processes([first.pid])
    second, third = Process(port), Process(port)
    port.await_processes([first.pid, second.pid, third.pid], others=False)
    return first, second, third


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
