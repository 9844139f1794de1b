"""`pprofagent ps` of root while a stranger makes lines of his own in /proc/net/unix: no byte of his
reaches the terminal, no address of his is shown for another's process."""
import os
import re
import socket
import subprocess

import harness
import process_tree
from test_access import OTHER, as_user

PLANT = """
import socket, sys
held = []
for name in sys.argv[1:]:
    held.append(socket.socket(socket.AF_UNIX))
    held[-1].bind("\\0" + name.replace("\\\\n", "\\n").replace("\\\\e", "\\033"))
    held[-1].listen(1)
print("planted", flush=True)
sys.stdin.readline()
"""
LINE = "x\\n0000000000000000: 00000002 00000000 00010000 0001 01 %d %s"


class Stranger:
    """Holds abstract sockets of those names."""

    def __init__(self, *names):
        self.process = subprocess.Popen(
            [harness.need("python3"), "-c", PLANT, *names],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=as_user(OTHER),
            env={"PATH": os.environ["PATH"]},
        )
        assert self.process.stdout.readline() == b"planted\n"

    def __enter__(self):
        return self

    def __exit__(self, *ignored):
        self.process.communicate(b"\n")


def shown(host):
    """What ps prints for the host, after checking all that it prints."""
    tool = os.path.join(harness.ROOT, "scripts", "pprofagent")
    output = subprocess.run([tool, "ps"], capture_output=True, check=True).stdout
    assert not re.search(rb"[^\x20-\x7e\n]", output) and b"evil" not in output, output
    lines = [line.split(None, 2) for line in output.decode().splitlines()]
    return next(address for pid, _, address in lines if pid == str(host.pid))


def agent_sockets(host):
    """Their inodes: which file of /proc/net has them is another matter."""
    found = set()
    for tid in harness.tasks(host.pid):
        if harness.proc_text("/proc/%d/task/%d/comm" % (host.pid, tid)) == "pprofagent\n":
            for link in harness.proc_links("/proc/%d/task/%d/fd" % (host.pid, tid)):
                found.update(int(number) for number in re.findall(r"^socket:\[(\d+)\]$", link))
    return found


def test_lines_that_a_stranger_makes():
    process_tree.run_as_root()
    host = harness.Host([harness.build("guest.c", "-O1"), "wait"])
    host.ready()
    own = host.url()
    assert shown(host) == own
    inodes = agent_sockets(host)
    assert len(inodes) >= 2, inodes  # the port, the tree's name
    for number, inode in enumerate(sorted(inodes)):
        for name in (
            "@pprofagent/\\e[32mevil.org:80\\e[0m",
            "@pprofagent/evil.org:80",
            "@pprofagent/127.0.0.1:1",
            "@pprofagent/127.0.0.1:1/%d" % host.pid,
            "/evil.sock",
            "",
            "@pprofagent/127.0.0.1:80/\\e]0;evil\\e",
        )[number :: len(inodes)]:
            with Stranger(LINE % (inode, name)):
                assert shown(host) == "not sure", (inode, name)
    with Stranger("pprofagent/evil.org:80", "x\\n\\e[31m", "pprofagent/127.0.0.1:1"):
        assert shown(host) == own  # of sockets of his own
    assert shown(host) == own


def test_the_path_of_a_unix_socket():
    process_tree.run_as_root()
    for name, address in (
        ("agent_1.sock", None),
        ("an agent's.sock", "not sure"),
        ("\x1b[31m", "not sure"),
    ):
        path = os.path.join(harness.scratch(), name)
        host = harness.Host([harness.build("guest.c", "-O1"), "wait"], address="unix:" + path)
        host.ready()
        harness.poll(lambda: os.path.exists(path), "the socket")  # noqa: B023

        def answers():
            with socket.socket(socket.AF_UNIX) as client:
                return client.connect_ex(path) == 0  # noqa: B023

        harness.poll(answers, "its listener")
        assert shown(host) == (address or "unix:" + path), name
        assert host.finish() == 0
