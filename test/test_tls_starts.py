"""Remote admin: settings that cannot work, and a child that takes the port over."""
import json
import os
import signal
import socket

import harness
from tls_hosts import certificates, curl, get, openssl, settings, start, tls_port


# ---- another process takes it over ---------------------------------------------------------------


def fork(host, words):
    host.process.stdin.write(b"fork %s\n" % words.encode())
    host.process.stdin.flush()
    answer = host.line()
    while answer in ("ready", "done %d" % host.pid):
        answer = host.line()
    return int(answer.split()[1])


def test_a_child_takes_it_over():
    address, admin = "127.0.0.1:%d" % harness.free_port(), harness.free_port()
    host = start(
        [harness.build("process_tree.c", "-O1")],
        tls=settings(address="127.0.0.1:%d" % admin),
        address=address,
    )
    child = fork(host, "alloc:1")
    try:
        assert tls_port(host) == admin
        harness.poll(
            lambda: curl(admin, "/pid/%d/debug/pprof/cmdline" % child)[0] == 0, "the child"
        )
        os.kill(host.pid, signal.SIGKILL)
        harness.poll(
            lambda: curl(admin)[0] == 0 and str(child).encode() in get(admin, "health"),
            "the child in its parent's place",
        )
        assert json.loads(get(admin, "health"))["process"]["pid"] == child
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_child_that_cannot_read_the_files_says_so():
    if os.getuid():
        raise harness.Skip("chroot is for root")
    host = start(
        [harness.build("process_tree.c", "-O1")], address="127.0.0.1:%d" % harness.free_port()
    )
    tls_port(host)
    child = fork(host, "chroot:" + harness.scratch())
    try:
        harness.poll(lambda: host.get("/pid/%d/debug/pprof/health" % child)[0] == 200, "the child")
        os.kill(host.pid, signal.SIGKILL)

        def reason():
            try:
                health = host.health()
            except OSError:
                return None  # nobody holds the port yet
            return health["process"]["pid"] == child and (
                health["tls"]["off_reason"] or ""
            ).replace("not started yet", "")

        text = harness.poll(reason, "the reason")
        assert "libssl.so.3 cannot be loaded" in text or "cannot be opened" in text, text
    finally:
        os.kill(child, signal.SIGKILL)


# ---- settings that cannot work -------------------------------------------------------------------


def check_off(tls, *words, **options):
    host = start(tls=tls, **options)
    reason = lambda: (lambda text: text if text and "not started" not in text else None)(
        host.health()["tls"]["off_reason"]
    )
    text = harness.poll(reason, "a reason")
    assert all(word in text for word in words), text
    assert "Remote admin is off" in host.text("") and text.split(":")[0] in host.log(), host.log()
    assert host.text("cmdline") and host.stderr() == ""
    host.process.stdin.close()
    assert host.process.wait(harness.DEADLINE) == 0


def test_files_that_cannot_be_used():
    directory = certificates()
    path = lambda name: os.path.join(directory, name)
    openssl(
        "pkey",
        "-in",
        path("server.key"),
        "-aes128",
        "-passout",
        "pass:secret",
        "-out",
        path("locked.key"),
    )
    openssl(
        "req",
        "-x509",
        "-newkey",
        "rsa:512",
        "-nodes",
        "-keyout",
        path("weak.key"),
        "-out",
        path("weak.crt"),
        "-subj",
        "/CN=weak",
    )
    with open(path("broken.crt"), "w") as file:
        file.write(
            open(path("authority.crt")).read()
            + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        )
    open(path("empty.crt"), "w").close()
    if not os.path.exists(path("fifo.crt")):
        os.mkfifo(path("fifo.crt"))
    for change, variable, words in (
        ({"certificate": "nowhere.crt"}, "PPROFAGENT_TLS_CERT", "no such file"),
        ({"certificate": "empty.crt"}, "PPROFAGENT_TLS_CERT", "no certificate in PEM form"),
        ({"certificate": "fifo.crt"}, "PPROFAGENT_TLS_CERT", "not a regular file"),
        ({"certificate": "weak.crt", "key": "weak.key"}, "PPROFAGENT_TLS_CERT", "too short"),
        ({"key": "client.key"}, "PPROFAGENT_TLS_KEY", "is not the key of the certificate"),
        ({"key": "rsa.key"}, "PPROFAGENT_TLS_KEY", "is not the key of the certificate"),
        ({"key": "locked.key"}, "PPROFAGENT_TLS_KEY", "password"),
        ({"key": "server.crt"}, "PPROFAGENT_TLS_KEY", "no private key"),
        ({"authority": "broken.crt"}, "PPROFAGENT_TLS_CLIENT_CA", "broken certificate"),
    ):
        name = list(change.values())[0]
        check_off(settings(**change), variable, words, path(name))


def test_an_address_that_is_taken_comes_free():
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        host = start(tls=settings(address="127.0.0.1:%d" % port))
        harness.poll(lambda: "in use" in (host.health()["tls"]["off_reason"] or ""), "the reason")
        assert "libssl" not in open("/proc/%d/maps" % host.pid).read()
    assert tls_port(host) == port and get(port)
