"""The port under attack: thousands of connections, endless and broken requests. The agent keeps to
its threads and its memory, the program notices nothing, and whoever asks afterwards is answered."""
import contextlib
import os
import random
import resource
import socket
import threading
import time

import harness
from http_guest import answers, cpu_seconds, guest, host_text_address, parse, raw, read_all

MEGABYTE = 1 << 20
WORKERS = 12  # http_server.h
THREADS = 1 + 1 + WORKERS  # admin thread, acceptor
BODY_MEMORY = (
    WORKERS * 3
)  # MB: a body of 1 MB that comes in chunks doubles its buffer, and moves once more
# struct linger: close() resets the connection, so that no TIME_WAIT fills the machine's table
RESET = b"\1\0\0\0\0\0\0\0"


class Watch:
    """What the agent takes while an attack goes on, and what is left of it."""

    def __init__(self, host):
        self.host, self.ending = host, threading.Event()
        host.get("heap?debug=1")
        self.descriptors = self.descriptors_of_program()
        self.memory = host.health()["agent"]["memory_bytes"]["total"]
        self.resident = self.most_resident = self.resident_now()
        self.cpu = cpu_seconds(host.pid)
        self.most_threads = 0
        self.thread = threading.Thread(target=self.look, daemon=True)
        self.thread.start()

    def descriptors_of_program(self):
        directory = "/proc/%d/task/%d/fd" % (self.host.pid, self.host.pid)
        return {name: os.readlink(os.path.join(directory, name)) for name in os.listdir(directory)}

    def resident_now(self):
        with open("/proc/%d/statm" % self.host.pid) as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def look(self):
        while True:
            try:
                self.most_resident = max(self.most_resident, self.resident_now())
                self.most_threads = max(
                    self.most_threads, len(os.listdir("/proc/%d/task" % self.host.pid)) - 1
                )
            except FileNotFoundError:
                return  # the test has failed and stopped the program
            if self.ending.wait(0.02):
                return

    def check(self, what, megabytes=8):
        """After the attackers have hung up."""
        started = time.monotonic()
        harness.poll(lambda: answers(self.host), "an answer after the attack", 30)
        waited = time.monotonic() - started
        self.ending.set()
        self.thread.join()
        health = self.host.health()["agent"]
        spent = cpu_seconds(self.host.pid) - self.cpu
        harness.note(
            "%s: answered %.2f s afterwards; %d threads, %.1f MB more resident at most, %.2f s of "
            "CPU time"
            % (
                what,
                waited,
                self.most_threads,
                (self.most_resident - self.resident) / MEGABYTE,
                spent,
            )
        )
        assert self.most_threads <= THREADS and health["threads"] <= THREADS, (
            self.most_threads,
            health,
        )
        assert self.most_resident - self.resident < megabytes * MEGABYTE, (
            self.resident,
            self.most_resident,
        )
        # names' memory has a bound of its own, and is more where debug files are installed
        kept = health["memory_bytes"]["total"] - health["symbol_memory"]["used"]
        assert kept < self.memory + 2 * MEGABYTE, (self.memory, health)
        assert self.descriptors_of_program() == self.descriptors
        assert self.host.process.poll() is None
        idle = cpu_seconds(self.host.pid)
        time.sleep(0.5)
        assert cpu_seconds(self.host.pid) - idle < 0.1, "it spins"


def connect(host):
    connection = socket.create_connection(host.address, timeout=10)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    return connection


def attacker(host):
    """A connection in the making: where the queue is full, the kernel tries again a second
    later."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.setblocking(False)
    connection.connect_ex(host.address)
    return connection


def push(host, start, piece, limit=40 * MEGABYTE):
    """Sends start, then piece after piece, until the agent has had enough, or limit bytes. What it
    answered."""
    sent = 0
    with connect(host) as connection:
        try:
            connection.sendall(start)
            while sent < limit:
                connection.sendall(piece)
                sent += len(piece)
        except OSError:
            pass  # closed or refused: the answer, if any, was sent before
        connection.settimeout(10)
        try:
            return sent, read_all(connection)
        except OSError:
            return sent, b""


def in_threads(*functions):
    failures = []

    def call(function):
        try:
            function()
        except Exception as error:  # reported in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=call, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def head(host, line="GET /debug/pprof/cmdline HTTP/1.1"):
    return ("%s\r\nHost: 127.0.0.1:%d\r\n" % (line, host.address[1])).encode()


def answer_at_once(connection):
    """What has come so far; None: not connected yet, or silent."""
    try:
        return connection.recv(4096)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def test_ten_thousand_connections():
    """All of them open at the same time, as far as the attacker goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    number = 10000 if hard == resource.RLIM_INFINITY else min(10000, hard - 200)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number + 200), hard))
    host, crowd = guest(), []
    watch = Watch(host)
    try:
        for i in range(number):
            crowd.append(attacker(host))
            if i % 50 == 49:
                time.sleep(0.005)
        waiting, turned_away = set(crowd), 0
        end = time.monotonic() + 60
        while len(waiting) > WORKERS + 40 and time.monotonic() < end:
            for connection in list(waiting):
                answer = answer_at_once(connection)
                if answer is not None:
                    waiting.remove(connection)
                    turned_away += b" 503 " in answer
            time.sleep(0.1)
        assert turned_away > number * 0.9, (turned_away, len(waiting))
    finally:
        for connection in crowd:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    watch.check("%d connections" % number)


def test_port_scans():
    host = guest()
    watch = Watch(host)
    for i in range(3000):
        connection = attacker(host)
        if i % 3 == 0:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes(8))  # an orderly end
        elif i % 3 == 1:
            with contextlib.suppress(OSError):
                connection.send(b"\r\n")
        connection.close()
        if i % 50 == 49:
            time.sleep(0.005)
    watch.check("3000 connections that end at once")


def test_endless_heads_and_bodies():
    host = guest()
    watch = Watch(host)
    symbol = head(host, "POST /debug/pprof/symbol HTTP/1.1")
    attacks = {
        "URL": (b"GET /", b"a" * 65536, 431),
        "method": (b"", b"A" * 65536, 431),
        "query": (b"GET /?", b"&seconds=1" * 6000, 431),
        "header": (head(host) + b"X: ", b"y" * 65536, 431),
        "headers": (head(host), b"X: y\r\n" * 10000, 431),
        "body without end": (
            symbol + b"Transfer-Encoding: chunked\r\n\r\n",
            b"10000\r\n" + b"+" * 65536 + b"\r\n",
            413,
        ),
        "body of 8 EB": (symbol + b"Content-Length: %d\r\n\r\n" % (2**63 - 1), b"+" * 65536, 413),
        "body of more than that": (
            symbol + b"Content-Length: %d\r\n\r\n" % 10**30,
            b"+" * 65536,
            413,
        ),
        "chunk of 8 EB": (
            symbol + b"Transfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\n",
            b"+" * 65536,
            413,
        ),
        "chunk head without end": (
            symbol + b"Transfer-Encoding: chunked\r\n\r\n",
            b"1" * 65536,
            400,
        ),
        "body where none belongs": (
            head(host) + b"Content-Length: 1000000000\r\n\r\n",
            b"x" * 65536,
            400,
        ),
    }
    # what the agent reads of a body, and what the kernel may hold
    unread = sum(
        int(harness.proc_text("/proc/sys/net/ipv4/tcp_" + way).split()[2])
        for way in ("rmem", "wmem")
    )
    for name, (start, piece, expected) in attacks.items():
        sent, answer = push(host, start, piece)
        assert parse(answer)[0] == expected and sent < 17 * MEGABYTE + unread, (
            name,
            sent,
            answer[:200],
        )

    def attack(name):
        start, piece, expected = attacks[name]
        for _ in range(6):
            status = parse(push(host, start, piece)[1])[0]
            assert status in (expected, 503, None), (name, status)

    in_threads(*[lambda name=name: attack(name) for name in attacks for _ in range(2)])
    watch.check("%d endless requests" % (len(attacks) * 12), BODY_MEMORY)


def test_pipelined_requests():
    """One answer, and the end: what follows the first request is never read as another."""
    host = guest()
    watch = Watch(host)
    one = head(host) + b"\r\n"
    body = head(host, "GET /debug/pprof/heap HTTP/1.1") + b"\r\n"
    symbol = head(host, "POST /debug/pprof/symbol HTTP/1.1")
    for text in (
        one * 1000,
        one + b"\0" * 100000,
        symbol + b"Content-Length: 3\r\n\r\n0x1" + body * 100,
        symbol + b"Transfer-Encoding: chunked\r\n\r\n3\r\n0x1\r\n0\r\n\r\n" + body * 100,
        head(host) + b"Content-Length: %d\r\n\r\n" % len(body) + body,
        symbol + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + body,
        symbol + b"Content-Length: 3\r\nContent-Length: %d\r\n\r\n0x1" % (3 + len(body)) + body,
    ):
        with socket.create_connection(host.address, timeout=10) as connection:
            connection.sendall(text)
            answer = read_all(connection)
        assert answer.count(b"HTTP/1.1 ") == 1 and b"application/octet-stream" not in answer, (
            text[:200],
            answer,
        )
    watch.check("pipelines")


def test_garbage_from_everywhere():
    host = guest()
    watch = Watch(host)
    source = random.Random(1)

    def throw(seed):
        mine = random.Random(seed)
        for _ in range(100):
            text = mine.randbytes(mine.randrange(1, 3000))
            start = mine.choice(
                (
                    b"",
                    b"GET ",
                    b"GET / HTTP/1.1\r\n",
                    b"\x16\x03\x01",
                    head(host),
                    head(host) + b"\r\n",
                )
            )
            try:
                status = raw(host, start + text, half_close=True)[0]
            except OSError:
                continue
            assert status in (None, 200) or 400 <= status < 600, status
            assert status != 200 or start.endswith(b"\r\n\r\n"), text

    in_threads(*[lambda seed=source.random(): throw(seed) for _ in range(8)])
    watch.check("800 requests of noise")


def test_slow_clients_of_every_kind():
    """Half of them say something now and then, half read nothing: together more than there are
    workers and places."""
    host = guest()
    watch = Watch(host)
    address = host_text_address(host)
    crowd = []
    for i in range(60):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.settimeout(5)
        connection.connect(host.address)
        crowd.append(connection)
        try:
            if i % 2:
                connection.sendall(
                    head(host, "POST /debug/pprof/symbol HTTP/1.1")
                    + b"Content-Length: 500000\r\n\r\n"
                    + (b"%#x+" % address * 100000)[:500000]
                )
            else:
                connection.sendall(head(host))
        except OSError:
            pass  # turned away
    end = time.monotonic() + 3
    while time.monotonic() < end:
        for connection in crowd[::2]:
            try:
                connection.send(b"X: y\r\n")
            except OSError:
                pass
        time.sleep(0.2)
    for connection in crowd:
        connection.close()
    watch.check("60 slow clients", BODY_MEMORY)
