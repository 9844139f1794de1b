"""The admin server: slow, many or broken clients cost little."""
import os
import resource
import signal
import socket
import time

import harness
from http_guest import (
    answers,
    check_error,
    cpu_seconds,
    descriptors,
    guest,
    host_text_address,
    parse,
    raw,
    request,
)


def test_slow_clients_are_cut_off():
    host = guest()
    silent = socket.create_connection(host.address)
    dripping = socket.create_connection(host.address)
    ended = set()
    dripping.sendall(b"GET / HTTP/1.1\r\n")
    for connection in (silent, dripping):
        connection.setblocking(False)

    def both_have_ended():
        for connection in (silent, dripping):
            try:
                if connection is dripping:
                    dripping.sendall(b"X: y\r\n")
                if connection.recv(4096) == b"":
                    ended.add(connection)
            except BlockingIOError:
                pass
            except OSError:
                ended.add(connection)
        return len(ended) == 2

    harness.poll(both_have_ended, "the end of both")
    assert request(host)[0] == 200


def test_a_body_that_does_not_come():
    if not os.environ.get("SOAK"):
        raise harness.Skip("make soak: takes 10 s")
    host = guest()
    check_error(
        raw(
            host,
            "POST /debug/pprof/symbol HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 100\r\n\r\n"
            "abc" % host.address[1],
            seconds=20,
        ),
        408,
    )


def test_a_reader_that_does_not_read():
    if not os.environ.get("SOAK"):
        raise harness.Skip("make soak: takes 30 s")
    host = guest()
    connections = []
    for _ in range(12):  # every worker
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.connect(host.address)
        connection.sendall(
            b"POST /debug/pprof/symbol HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: %d\r\n\r\n"
            % (host.address[1], 1000000)
            + (b"%#x+" % host_text_address(host) * 100000)[:1000000]
        )
        connections.append(connection)
    status, _, _ = raw(
        host,
        "GET /debug/pprof/cmdline HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % host.address[1],
        seconds=60,
    )
    assert status == 200, "the slow readers were not cut off"


def check_delay(seconds, number, text):
    """A request that comes while so many connections send this and no more."""

    def crowd():
        host = guest()
        connections = [socket.create_connection(host.address) for _ in range(number)]
        for connection in connections:
            connection.sendall(text % host.address[1] if text else b"")
        time.sleep(0.2)
        return host, connections

    def ask(state):
        host, _ = state
        assert (
            raw(
                host,
                "GET /debug/pprof/cmdline HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % host.address[1],
                seconds=60,
            )[0]
            == 200
        )

    harness.in_time(ask, seconds, "a request beside %d others" % number, crowd)


def test_silent_connections_delay_nobody_for_long():
    check_delay(2.5, 12, b"")  # every worker


def test_slow_posts_delay_nobody_for_long():
    check_delay(
        7,
        16,
        b"POST /debug/pprof/symbol HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 100\r\n\r\n"
        b"abc",
    )


def test_those_turned_away_are_told_so():
    host = guest()
    crowd = [socket.create_connection(host.address) for _ in range(40)]
    in_use = lambda: sum("socket:" in target for target in descriptors(host)) >= 41
    harness.poll(in_use, "40 accepted connections")
    os.kill(host.pid, signal.SIGSTOP)
    late = [socket.create_connection(host.address) for _ in range(5)]
    for connection in late:
        connection.sendall(
            b"GET /debug/pprof/cmdline HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % host.address[1]
        )
    os.kill(host.pid, signal.SIGCONT)
    for connection in late:
        connection.settimeout(harness.DEADLINE)
        got = b""
        while piece := connection.recv(4096):  # a reset would raise
            got += piece
        check_error(parse(got), 503, "too many connections")
    for connection in crowd + late:
        connection.close()


def await_answers(crowd, text, count):
    """So many of the connections get an answer with that text in it."""
    told = set()

    def look():
        for connection in crowd:
            connection.setblocking(False)
            try:
                if text in connection.recv(4096):
                    told.add(connection)
            except (BlockingIOError, ConnectionResetError):
                pass
        return len(told) >= count

    harness.poll(look, "%d answers with %r" % (count, text))


def test_many_connections():
    host = guest()
    request(host)
    before = cpu_seconds(host.pid)
    crowd = []
    for _ in range(300):
        connection = socket.create_connection(host.address)
        crowd.append(connection)
    await_answers(crowd, b" 503 ", 200)
    for connection in crowd:
        connection.close()
    harness.poll(lambda: answers(host), "an answer after the crowd has gone")
    assert cpu_seconds(host.pid) - before < 0.5


def test_clients_that_hang_up():
    host = guest()
    for _ in range(50):
        with socket.create_connection(host.address) as connection:
            connection.sendall(
                b"GET /debug/pprof/heap?seconds=30 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n"
                % host.address[1]
            )
            connection.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
            )  # a reset, not an orderly end
    harness.poll(lambda: answers(host), "an answer")


def test_out_of_descriptors_does_not_spin():
    host = guest(preexec_fn=harness.limit(resource.RLIMIT_NOFILE, 18))
    assert request(host)[0] == 200
    crowd = [socket.create_connection(host.address) for _ in range(30)]
    time.sleep(0.2)
    before = cpu_seconds(host.pid)
    time.sleep(1.5)
    used = cpu_seconds(host.pid) - before
    assert used < 0.1, "%.2f s of CPU time in 1.5 s" % used
    await_answers(crowd, b"out of descriptors", 20)
    for connection in crowd:
        connection.close()
    harness.poll(lambda: answers(host), "an answer after the crowd has gone")
