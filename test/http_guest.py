"""What the tests of the server share: workloads/guest.c, which waits, and requests byte by byte."""
import os
import socket

import harness

WAIT = ("-O1",)


def guest(what="wait", **options):
    host = harness.Host([harness.build("guest.c", *WAIT), what], **options)
    host.ready()
    return host


def raw(host, text, seconds=10, half_close=False):
    """Sends bytes, reads to the end. Returns (status, {lower-case header: value}, body)."""
    with socket.create_connection(host.address, timeout=seconds) as connection:
        connection.sendall(text if isinstance(text, bytes) else text.encode())
        if half_close:
            try:
                connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # refused and closed already
        return parse(read_all(connection))


def read_all(connection):
    pieces = []
    try:
        while True:
            piece = connection.recv(65536)
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
    except ConnectionResetError:
        return b"".join(pieces)


def parse(answer):
    if not answer:
        return None, {}, b""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), {name.lower(): value for name, value in headers.items()}, body


def request(
    host, path="/debug/pprof/cmdline", method="GET", host_header=None, extra="", version="1.1"
):
    if host_header is None:
        host_header = "Host: 127.0.0.1:%d\r\n" % host.address[1]
    return raw(host, "%s %s HTTP/%s\r\n%s%s\r\n" % (method, path, version, host_header, extra))


def answers(host):
    try:
        return request(host)[0] == 200
    except OSError:
        return False  # not yet


def check_error(answer, status, text=None):
    assert answer[0] == status, answer
    _, headers, body = answer
    assert (
        headers["content-type"] == "text/plain; charset=utf-8" and headers["x-go-pprof"] == "1"
    ), headers
    assert "content-disposition" not in headers
    check_every_response(headers)
    assert body.endswith(b"\n") and body.count(b"\n") == 1, body
    if text is not None:
        assert body == text.encode() + b"\n", body


def check_every_response(headers):
    assert (
        headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
    ), headers


def cpu_seconds(pid):
    fields = open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def host_text_address(host):
    for line in open("/proc/%d/maps" % host.pid):
        if " r-xp " in line and "libc.so" in line:
            return int(line.split("-")[0], 16) + 0x100000


def descriptors(host):
    """What the agent's own table holds."""
    return harness.proc_links("/proc/%d/task/%d/fd" % (host.pid, max(harness.tasks(host.pid))))
