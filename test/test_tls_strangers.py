"""Who has no certificate keeps nobody who has one out of remote admin: not by silence, not by
handshakes that he begins and leaves; he fills no log, and costs no more than so many signatures a
second."""
import contextlib
import select
import socket
import ssl
import subprocess
import time

import harness
import process_tree
from test_access import OTHER, as_user
from tls_hosts import curl, get, start, tls_port, tls_socket

CROWD = 200
BURST, EVERY_SECOND = 16, 1000 / 62  # tls_front.c: HANDSHAKES_AT_ONCE, HANDSHAKE_EVERY_MILLISECONDS

# Connects again whenever it is dropped.
STRANGER = r"""
import select, socket, sys
port, hello, count, held = int(sys.argv[1]), bytes.fromhex(sys.argv[2]), int(sys.argv[3]), []
told = False
while True:
    while len(held) < count:
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex(("127.0.0.1", port))
        held.append(connection)
        try:
            connection.send(hello)
        except OSError:
            pass
    if not told: print("ready", flush=True)
    told = True
    for connection in select.select(held, [], [], 0.02)[0]:
        try:
            if connection.recv(4096): continue
        except OSError:
            pass
        connection.close()
        held.remove(connection)
"""


def client_hello():
    """The first bytes of a handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


@contextlib.contextmanager
def strangers(port, hello, uid=OTHER):
    process_tree.run_as_root()
    command = [harness.need("python3"), "-c", STRANGER, str(port), hello.hex(), str(CROWD)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd="/", preexec_fn=as_user(uid) if uid else None
    )
    try:
        assert process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.kill()
        process.communicate()


def check_certified(port):
    harness.in_time(lambda _: get(port), 3, "an answer to who has a certificate")
    assert [curl(port)[0] for _ in range(10)] == [0] * 10


def test_silence_keeps_nobody_out():
    port = tls_port(start())
    assert get(port)
    with strangers(port, b""):
        check_certified(port)
    with strangers(port, b"", uid=0):  # the client's own user's
        check_certified(port)


def test_handshakes_that_are_left_keep_nobody_out():
    port = tls_port(start())
    with strangers(port, client_hello()):
        check_certified(port)


def test_handshakes_a_second_are_bounded():
    port = tls_port(start())
    hello, begun = client_hello(), 0
    started = time.monotonic()
    while time.monotonic() < started + 3:
        with socket.create_connection(("127.0.0.1", port), timeout=harness.DEADLINE) as connection:
            connection.sendall(hello)
            if select.select([connection], [], [], 1)[0]:
                with contextlib.suppress(ConnectionResetError):
                    begun += connection.recv(1) == b"\x16"  # the other side's hello
    took = time.monotonic() - started
    assert 0 < begun <= BURST + 2 + EVERY_SECOND * took, (begun, took)
    harness.note("%d handshakes began in %.1f s" % (begun, took))
    assert get(port)


def test_refused_certificates_fill_no_log():
    host = start()
    port = tls_port(host)
    for _ in range(40):
        assert curl(port, "cmdline", "expired")[0] != 0
    lines = [line for line in host.log().splitlines() if "certificate has expired" in line]
    assert 1 <= len(lines) <= 7 and lines[-1].endswith("so far)"), lines  # the 1st, 2nd, 4th, ...
    assert get(port)


def test_those_with_a_certificate_keep_their_places():
    """Those that are being served are not dropped for strangers."""
    host = start()
    port = tls_port(host)
    with contextlib.ExitStack() as stack:
        served = [stack.enter_context(tls_socket(port)) for _ in range(8)]
        stack.enter_context(strangers(port, client_hello()))
        assert get(port)
        for connection in served:
            connection.sendall(b"GET /debug/pprof/cmdline HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200 OK"), answer
