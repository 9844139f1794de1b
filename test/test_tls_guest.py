"""Remote admin is a good guest: the program's keys, loader, environment, descriptors and its own
OpenSSL."""
import os
import re
import socket

import harness
import pprof_reader
from tls_hosts import curl, get, identity, settings, start, tls_port


def test_pthread_keys_of_the_program():
    host = start([harness.build("remote_admin.c", "-O1"), "pause"])
    host.ready()
    for turn in (1, 2):
        port = tls_port(host, turn)
        assert get(port) and curl(port, "cmdline", None)[1] == b""
        host.go_on()
        assert host.line() in (
            "unshare 0 0",
            "unshare -1 1",
        ), "no thread of the agent's is left while it changes namespaces"
        host.ready()
    assert get(tls_port(host, 3))
    host.process.stdin.close()
    assert host.line() == "destructors 0"
    assert host.process.wait(harness.DEADLINE) == 0 and host.stderr() == ""


def test_environment_and_loader_of_the_program():
    # Were it asked for the time zone, the second C library would wait for somebody to write to this
    # for ever.
    fifo = os.path.join(harness.scratch(), "zone")
    os.mkfifo(fifo)
    host = start([harness.build("remote_admin.c", "-O1"), "churn"], rate=1, more={"TZ": ":" + fifo})
    host.ready()
    port = tls_port(host)
    for _ in range(5):
        assert get(port)
    profile = pprof_reader.Profile(get(port, "heap"))
    assert "churned_block" in get(port, "allocs?debug=1").decode()
    assert profile
    host.process.stdin.close()
    assert host.line() == "destructors 0"
    assert host.process.wait(harness.DEADLINE) == 0 and host.stderr() == ""


def test_descriptors_of_the_program():
    names = lambda pid: sorted(os.listdir("/proc/%d/fd" % pid))
    with_it, without = start(), harness.Host([harness.build("remote_admin.c", "-O1")], plain=True)
    without.ready()
    assert get(tls_port(with_it))
    assert names(with_it.pid) == names(without.pid)


def test_a_program_that_uses_openssl_itself():
    """openssl s_server under the agent, asked while remote admin is: its own libssl is another
    one."""

    def serve(**options):
        own_port = harness.free_port()
        host = harness.Host(
            [
                harness.need("openssl"),
                "s_server",
                "-quiet",
                "-www",
                "-port",
                str(own_port),
                *identity("server"),
            ],
            **options
        )

        def listening():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", own_port)) == 0

        harness.poll(listening, "s_server")
        return host, own_port

    plain, plain_port = serve(plain=True)
    host, own_port = serve(extra=settings())
    port = tls_port(host)
    page = lambda number: re.sub(
        rb"(?m)^.*(Time|Start|s_server|connects|accepts|finished|renegotiates).*$"
        rb"|[0-9A-Fa-f]{20,}",
        b"",
        get(number, "/", "-H", "Connection: close", who=None),
    )
    expected = page(plain_port)
    assert b"Protocol" in expected or b"Ciphers" in expected, expected
    for _ in range(10):
        assert page(own_port) == expected
        assert b"s_server" in get(port)
    loaded = [
        line.split()[-1]
        for line in open("/proc/%d/maps" % host.pid)
        if "libssl" in line and " r-xp " in line
    ]
    assert len(loaded) == 2, loaded
    assert host.process.poll() is None and host.stderr() == plain.stderr()


def test_without_remote_admin_no_libssl():
    host = harness.Host([harness.build("remote_admin.c", "-O1")])
    host.ready()
    assert host.text("cmdline")
    assert "libssl" not in open("/proc/%d/maps" % host.pid).read()
    assert host.health()["tls"] == {"listen_address": "", "off_reason": None}
