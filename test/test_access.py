"""Who may connect: the process's own user, root, and those of PPROFAGENT_ALLOW_UIDS; the real curl
as other users."""
import json
import os
import shutil
import socket
import stat
import subprocess
import threading

import harness
import process_tree
from http_guest import WAIT, check_error, descriptors, parse, read_all

OWNER, OTHER, THIRD = 61234, 61235, 61236  # users that are nobody in particular


def as_user(uid):
    """A preexec_fn."""

    def become():
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)

    return become


def curl(uid, url, *options):
    """(status, headers, body) of the real curl, run by that user."""
    done = subprocess.run(
        [
            harness.need("curl"),
            "-sS",
            "-i",
            "-g",
            "--noproxy",
            "*",
            "--max-time",
            "30",
            *options,
            url,
        ],
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        preexec_fn=as_user(uid),
        env={"PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0, done
    return parse(done.stdout)


def readable_by_all(*paths):
    """Copies in a directory that every user may enter."""
    directory = harness.scratch()
    os.chmod(directory, 0o755)
    for path in paths:
        os.chmod(shutil.copy(path, directory), 0o755)
    return directory


class Guest:
    """A program that waits, run by a user, on a fixed port."""

    def __init__(self, uid=0, address="127.0.0.1:%d", argv=None, **extra):
        process_tree.run_as_root()
        directory = readable_by_all(harness.build("guest.c", *WAIT), harness.agent())
        self.port = harness.free_port()
        environment = harness.agent_environment(
            address=address % self.port if "%d" in address else address, extra=extra
        )
        environment["LD_PRELOAD"] = os.path.join(directory, os.path.basename(harness.agent()))
        program = os.path.join(directory, os.path.basename(harness.build("guest.c", *WAIT)))
        self.process = harness.Host(
            argv or [program, "wait"], preexec_fn=as_user(uid) if uid else None, extra=environment
        )
        self.host = "127.0.0.1" if address.startswith("127") else "[::1]"

        def listens():
            with socket.socket(socket.AF_INET if self.host[0] != "[" else socket.AF_INET6) as probe:
                return probe.connect_ex((self.host.strip("[]"), self.port)) == 0

        if "%d" in address:
            harness.poll(listens, "the agent listening" + self.process.describe())

    def url(self, path="/debug/pprof/cmdline"):
        return "http://%s:%d%s" % (self.host, self.port, path)

    def status(self, uid, *options):
        return curl(uid, self.url(), *options)[0]


def refusal(uid, owner):
    return (
        "user %d may not connect: this process belongs to user %d; PPROFAGENT_ALLOW_UIDS names "
        "further users" % (uid, owner)
    )


def test_only_the_owner_and_root_may_connect():
    guest = Guest(OWNER)
    assert guest.status(0) == 200 and guest.status(OWNER) == 200
    for path in (
        "/",
        "/debug/pprof/",
        "/debug/pprof/heap",
        "/debug/pprof/cmdline",
        "/debug/pprof/profile?seconds=9",
        "/nope",
        "/debug/pprof/nope",
        "/debug/pprof/%00",
        "/debug/pprof/trace",
        "/pid/1/debug/pprof/cmdline",
        "/pid/%d/debug/pprof/cmdline" % guest.process.pid,
    ):
        answer = curl(OTHER, guest.url(path))
        check_error(answer, 403, refusal(OTHER, OWNER))
        assert set(answer[1]) == {
            "content-type",
            "x-go-pprof",
            "x-content-type-options",
            "cache-control",
            "cross-origin-resource-policy",
            "content-length",
            "connection",
        }, answer[1]
    for options in (
        ("-d", "0x1"),
        ("-X", "DELETE"),
        ("-H", "Host: evil"),
        ("-H", "Origin: null"),
        ("-H", "Transfer-Encoding: chunked", "-d", "x"),
    ):
        check_error(
            curl(OTHER, guest.url("/debug/pprof/symbol"), *options), 403, refusal(OTHER, OWNER)
        )
    status, _, body = curl(OTHER, guest.url(), "-I")
    assert status == 403 and body == b""
    assert guest.status(OWNER) == 200


def test_a_process_of_root_is_root_s_alone():
    guest = Guest()
    assert guest.status(0) == 200
    check_error(curl(OTHER, guest.url()), 403, refusal(OTHER, 0))


def test_further_users_may_be_named():
    guest = Guest(OWNER, PPROFAGENT_ALLOW_UIDS="%d, nobody,4294967295" % OTHER)
    assert [guest.status(uid) for uid in (0, OWNER, OTHER)] == [200] * 3
    check_error(curl(THIRD, guest.url()), 403, refusal(THIRD, OWNER))
    check_error(curl(65534, guest.url()), 403, refusal(65534, OWNER))
    config = json.loads(curl(OTHER, guest.url("/debug/pprof/health"))[2])["config"]
    assert config["allow_uids"] == [OTHER] and len(config["faults"]) == 2, config
    assert "nobody" in config["faults"][0] and "4294967295" in config["faults"][1], config
    assert "PPROFAGENT_ALLOW_UIDS: &quot;nobody&quot;" in curl(OTHER, guest.url("/debug/pprof/"))[
        2
    ].decode().replace("&#34;", "&quot;")


def test_the_user_that_counts_is_today_s():
    program = """
import os, sys
sys.stdin.readline()
os.setgid(%d); os.setuid(%d)
print("done", flush=True)
sys.stdin.readline()
""" % (
        OWNER,
        OWNER,
    )
    guest = Guest(argv=[harness.need("python3"), "-c", program])
    check_error(curl(OWNER, guest.url()), 403, refusal(OWNER, 0))
    guest.process.go_on()
    assert guest.process.line() == "done"
    assert guest.status(OWNER) == 200 and guest.status(0) == 200
    check_error(curl(OTHER, guest.url()), 403, refusal(OTHER, OWNER))


def test_ipv6_and_mapped_addresses():
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            raise harness.Skip("no IPv6 loopback here") from None
    guest = Guest(OWNER, address="[::1]:%d")
    assert [guest.status(uid) for uid in (0, OWNER)] == [200] * 2
    check_error(curl(OTHER, guest.url()), 403, refusal(OTHER, OWNER))
    guest = Guest(OWNER)
    mapped = ("--connect-to", "::[::ffff:127.0.0.1]:%d" % guest.port)
    assert [guest.status(uid, *mapped) for uid in (0, OWNER)] == [200] * 2
    check_error(curl(OTHER, guest.url(), *mapped), 403, refusal(OTHER, OWNER))


def test_a_client_that_has_said_all():
    guest = Guest(OWNER)
    program = """
import socket, sys
c = socket.create_connection(("127.0.0.1", %d))
c.sendall(b"GET /debug/pprof/cmdline HTTP/1.1\\r\\nHost: 127.0.0.1:%d\\r\\n\\r\\n")
c.shutdown(socket.SHUT_WR)
while piece := c.recv(65536): sys.stdout.buffer.write(piece)
""" % (
        guest.port,
        guest.port,
    )
    for uid, status in ((0, 200), (OWNER, 200), (OTHER, 403)):
        done = subprocess.run(
            [harness.need("python3"), "-c", program],
            capture_output=True,
            preexec_fn=as_user(uid),
            cwd="/",
        )
        assert done.returncode == 0 and parse(done.stdout)[0] == status, (uid, done)


def test_processes_that_share_the_port_ask_for_themselves():
    process_tree.run_as_root()
    port = process_tree.Port()
    holder, member = process_tree.Process(port), process_tree.Process(port)
    port.await_processes([holder.pid, member.pid])
    url = "http://%s/pid/%d/debug/pprof/cmdline"
    for pid in (holder.pid, member.pid):
        assert curl(0, url % (port.address, pid))[0] == 200
        check_error(curl(OTHER, url % (port.address, pid)), 403, refusal(OTHER, 0))


def test_a_tunnel_from_another_port():
    """As `ssh -L` makes one: sshd connects as the user who logged in."""
    guest = Guest()
    listener = socket.create_server(("127.0.0.1", 0))
    tunnel = listener.getsockname()[1]

    def forward():
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            with near, socket.create_connection(("127.0.0.1", guest.port)) as far:
                far.sendall(near.recv(65536))
                near.sendall(read_all(far))

    threading.Thread(target=forward, daemon=True).start()
    try:
        url = "http://localhost:%d/debug/pprof/cmdline" % tunnel
        check_error(curl(0, url), 403, "host not allowed: localhost:%d" % tunnel)
        for name in ("localhost", "127.0.0.1"):
            assert curl(0, url, "-H", "Host: %s:%d" % (name, guest.port))[0] == 200
        assert (
            curl(OTHER, url, "-H", "Host: localhost:%d" % guest.port)[0] == 200
        )  # it is the tunnel's user that connects
    finally:
        listener.close()


def test_a_unix_socket_is_private_from_its_first_moment():
    process_tree.run_as_root()
    for _ in range(5):
        directory = harness.scratch()
        os.chmod(directory, 0o1777)
        path = os.path.join(directory, "agent.sock")
        started = []

        def start():
            program = [harness.build("guest.c", *WAIT), "wait"]
            started.append(
                harness.Host(program, address="unix:" + path, preexec_fn=lambda: os.umask(0))
            )

        starter = threading.Thread(target=start)
        starter.start()
        mode = None
        while mode is None and (starter.is_alive() or started[0].process.poll() is None):
            try:
                mode = os.stat(path).st_mode
            except FileNotFoundError:
                pass
        starter.join()
        assert mode is not None and stat.S_IMODE(mode) == 0o600, oct(mode or 0)
    harness.poll(lambda: "listening" in started[0].log(), "the agent listening")
    done = subprocess.run(
        [harness.need("curl"), "-sS", "--unix-socket", path, "http://x/debug/pprof/cmdline"],
        capture_output=True,
        preexec_fn=as_user(OTHER),
        cwd="/",
    )
    assert done.returncode == 7 and done.stdout == b"", done  # "failed to connect"
    assert curl(0, "http://x/debug/pprof/cmdline", "--unix-socket", path)[0] == 200
    os.chmod(path, 0o777)  # whoever opens it up is asked for the list all the same
    check_error(
        curl(OTHER, "http://x/debug/pprof/cmdline", "--unix-socket", path), 403, refusal(OTHER, 0)
    )


STARVE = """
import socket, sys, time
held = []
print("ready", flush=True)
while True:
    connection = socket.socket()
    connection.setblocking(False)
    connection.connect_ex(("127.0.0.1", int(sys.argv[1])))
    held.append(connection)
    if len(held) > 300: held.pop(0).close()
    time.sleep(0.001)
"""


def test_a_stranger_cannot_keep_the_owner_out():
    """Another user's silent connections come as fast as they can: they may not take all places."""
    guest = Guest(OWNER)
    assert guest.status(0) == 200
    stranger = subprocess.Popen(
        ["/usr/bin/python3", "-c", STARVE, str(guest.port)],
        stdout=subprocess.PIPE,
        preexec_fn=as_user(OTHER),
    )
    try:
        assert stranger.stdout.readline() == b"ready\n"
        in_use = lambda: sum("socket:" in target for target in descriptors(guest.process))
        harness.poll(lambda: in_use() >= 30, "the stranger's connections at the gate")
        assert [guest.status(0) for _ in range(20)] == [200] * 20
    finally:
        stranger.kill()
        stranger.wait()
