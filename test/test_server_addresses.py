"""The admin server: where it listens, by PPROFAGENT_ADDR."""
import html
import os
import re
import shlex
import socket
import stat
import time

import harness
from http_guest import guest, parse, read_all, request


def test_taken_port_is_no_error():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        address = "127.0.0.1:%d" % holder.getsockname()[1]
        done = harness.run(["/bin/sh", "-c", "sleep 0.2; echo fine"], address=address)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"fine\n", b""), done
        host = guest(address=address)
        harness.poll(lambda: "in use" in host.log(), "the reason in the log")
        assert len(os.listdir("/proc/%d/task" % host.pid)) == 1
        assert host.finish() == 0


def test_addresses_that_are_not_loopback_are_refused():
    for address in (
        "0.0.0.0:0",
        "192.0.2.1:0",
        "[::]:0",
        "example.org:80",
        "unix:",
        "nonsense",
        "127.0.0.1:99999",
    ):
        host = guest(address=address)
        harness.poll(
            lambda: re.search("listening|sharing|off: ", host.log()), "its agent has decided"
        )
        assert "listening" not in host.log() or "127.0.0.1:6060" in host.log(), (
            address,
            host.log(),
        )
        assert host.finish() == 0


def test_off_starts_no_thread():
    host = guest(address="off")
    time.sleep(0.3)  # what must not come
    assert os.listdir("/proc/%d/task" % host.pid) == [str(host.pid)]
    assert host.finish() == 0


def test_port_without_host_and_ipv6():
    port = harness.free_port()
    host = guest(address=":%d" % port)
    assert host.address == ("127.0.0.1", port) and request(host)[0] == 200
    host.finish()
    host = guest(address="[::1]:0")
    harness.poll(lambda: "listening" in host.log() or "cannot" in host.log(), "the agent")
    if "cannot" in host.log():
        raise harness.Skip("no IPv6 loopback here")
    port = int(host.log().split("[::1]:")[1].split("/")[0])
    with socket.create_connection(("::1", port)) as connection:
        connection.sendall(b"GET /debug/pprof/cmdline HTTP/1.1\r\nHost: [::1]:%d\r\n\r\n" % port)
        assert parse(read_all(connection))[0] == 200


def unix_get(path, what="cmdline", whole=False):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(path)
        connection.sendall(
            b"GET /debug/pprof/%s HTTP/1.0\r\nHost: anything\r\n\r\n" % what.encode()
        )
        return parse(read_all(connection))[2 if whole else 0]


def test_unix_socket():
    path = os.path.join(harness.scratch(), "agent.sock")
    host = guest(address="unix:" + path)
    harness.poll(lambda: os.path.exists(path), "the socket")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert unix_get(path) == 200
    second = guest(address="unix:" + path)
    harness.poll(lambda: "sharing the port" in second.log(), "the second in the first one's tree")
    assert second.finish() == 0 and unix_get(path) == 200
    host.kill()  # leaves the file behind
    assert os.path.exists(path)
    third = guest(address="unix:" + path)
    harness.poll(lambda: "listening" in third.log(), "a new listener in the place of the dead one")
    assert unix_get(path) == 200
    assert third.finish() == 0
    assert not os.path.exists(path), "the socket's file is still there"


def test_relative_names_are_of_the_directory_at_the_start():
    directory, elsewhere = harness.scratch(), harness.scratch()
    script = "import os, sys; os.chdir(sys.argv[1]); print('there', flush=True); input()"
    host = harness.Host(
        [harness.need("python3"), "-c", script, elsewhere],
        address="unix:agent.sock",
        cwd=directory,
        extra={"PPROFAGENT_LOG": "agent.log"},
    )
    assert host.line() == "there"
    path = os.path.join(directory, "agent.sock")
    harness.poll(lambda: os.path.exists(path), "the socket")
    assert (
        unix_get(path) == 200
        and "listening on unix:%s\n" % path in open(os.path.join(directory, "agent.log")).read()
    )
    other = guest(address="unix:agent.sock", cwd=elsewhere)  # another one, and not of the same tree
    harness.poll(
        lambda: "listening on unix:%s/agent.sock" % elsewhere in other.log(), "the other socket"
    )
    assert other.finish() == 0
    host.go_on()
    assert (
        host.finish() == 0
        and os.listdir(directory) == ["agent.log"]
        and os.listdir(elsewhere) == ["agent.log"][:0]
    ), os.listdir(elsewhere)


def test_index_page_of_a_unix_socket():
    path = os.path.join(harness.scratch(), "an agent's.sock")
    host = guest(address="unix:" + path)
    harness.poll(lambda: os.path.exists(path), "the socket")
    page = unix_get(path, "", whole=True).decode()
    assert "http://anything" not in page
    command = html.unescape(re.search("<pre>(curl [^<]*)</pre>", page).group(1))
    lines = command.splitlines()
    assert shlex.split(lines[0]) == [
        "curl",
        "--unix-socket",
        path,
        "http://localhost/debug/pprof/heap",
        "-o",
        "heap.pb.gz",
    ], lines
    assert lines[1:] == ["go tool pprof -top heap.pb.gz"]
    assert host.finish() == 0
