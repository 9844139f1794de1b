"""Several processes on one port: other roots, and who is kept out."""
import os
import re
import struct
import subprocess

import harness
import process_tree
from process_tree import NOBODY, Port, Process, as_nobody, check_exact, pair


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
