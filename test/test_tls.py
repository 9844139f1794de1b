"""Remote admin: mutual TLS, with certificates made by openssl and asked by curl and openssl
s_client. Who has no certificate of the right authority gets nothing. What the program sees of it:
test_tls_guest.py."""
import json
import os
import re
import select
import shutil
import socket
import subprocess

import harness
import pprof_reader
from tls_hosts import (
    bytes_back,
    certificates,
    curl,
    get,
    identity,
    s_client,
    settings,
    start,
    tls_port,
    tls_socket,
)


# ---- who has a certificate -----------------------------------------------------------------------


def test_everything_is_there_with_a_certificate():
    host = start(["/bin/sh", "-c", "while :; do :; done"], rate=1)
    port = tls_port(host)
    assert get(port).rstrip(b"\0").startswith(b"/bin/sh")
    harness.poll(
        lambda: pprof_reader.Profile(get(port, "profile?seconds=1")).total()[0] > 0,
        "a second in which it is sampled",
    )
    pprof_reader.Profile(get(port, "heap"))
    assert get(port, "symbol", "--data", "0x1").startswith(b"num_symbols: 1")
    assert b"goroutine" in get(port, "goroutine?debug=1")
    health = json.loads(get(port, "health"))
    assert (
        health["tls"]["listen_address"] == "127.0.0.1:%d" % port
        and health["tls"]["off_reason"] is None
    ), health["tls"]
    assert get(port, "/pid/%d/debug/pprof/cmdline" % host.pid) == get(port)
    assert (
        b"<html" in get(port, "", "-H", "Host: profiler.example:443").lower()
    )  # its name is known to whoever gave it a certificate
    assert host.text("cmdline") and get(port, who="rsa") == get(port)


def test_files_that_are_out_of_reach_after_the_start():
    """Relative names and a new directory; a key that only root can read, and another user; files
    that are gone."""
    script = "import os, shutil, sys; %s; print('there', flush=True); input()"
    acts = {"os.chdir('/')": None, "shutil.rmtree(sys.argv[1])": None}
    if os.getuid() == 0:
        acts["os.setgid(65534); os.setuid(65534)"] = 65534
    for act, user in acts.items():
        directory, port = harness.scratch(), harness.free_port()
        for name in ("server.crt", "server.key", "authority.crt"):
            shutil.copy(os.path.join(certificates(), name), directory)
            os.chmod(os.path.join(directory, name), 0o600)
        tls = {
            name: os.path.basename(value) for name, value in settings("127.0.0.1:%d" % port).items()
        }
        host = start([harness.need("python3"), "-c", script % act, directory], tls, cwd=directory)
        assert host.line() == "there"
        assert harness.poll(lambda: curl(port)[1], "remote admin: " + act).startswith(
            harness.need("python3").encode()
        ), act
        if user:
            assert os.stat("/proc/%d" % host.pid).st_uid == user
        host.kill()


def test_certificates_made_as_the_document_says():
    directory = harness.scratch()
    with open(os.path.join(os.path.dirname(__file__), "..", "docs", "remote.md")) as file:
        lines = re.search(r"^    newkey=.*?^    done$", file.read(), re.M | re.S).group(0)
    harness.need("openssl")
    assert (
        subprocess.run(
            ["/bin/sh", "-e", "-c", lines],
            cwd=directory,
            capture_output=True,
            timeout=harness.DEADLINE,
        ).returncode
        == 0
    )
    in_it = lambda name: os.path.join(directory, name)
    port = tls_port(
        start(
            tls={
                "PPROFAGENT_TLS_ADDR": "127.0.0.1:0",
                "PPROFAGENT_TLS_CERT": in_it("server.crt"),
                "PPROFAGENT_TLS_KEY": in_it("server.key"),
                "PPROFAGENT_TLS_CLIENT_CA": in_it("ca.crt"),
            }
        )
    )
    own = ["--cacert", in_it("ca.crt"), "--resolve", "server:%d:127.0.0.1" % port]
    me = ["--cert", in_it("me.crt"), "--key", in_it("me.key")]
    for host in ("server", "127.0.0.1"):
        assert b"remote_admin" in get(port, "cmdline", *own, *me, who=None, host=host)
    assert curl(port, "cmdline", None, *own, host="server")[0] != 0


def test_both_versions_and_no_older_ones():
    port = tls_port(start())
    for version in ("1.2", "1.3"):
        assert b"remote_admin" in get(port, "cmdline", "--tlsv" + version, "--tls-max", version)
        answer = s_client(port, "-tls" + version.replace(".", "_"), "-ign_eof", *identity("client"))
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), (version, answer)
    for version in ("-tls1", "-tls1_1"):
        assert s_client(port, version, "-cipher", "ALL:@SECLEVEL=0", *identity("client")) == b""
    assert get(port)


def test_a_client_that_has_gone_is_noticed():
    """At most four deltas are served at a time; those of clients that have hung up, in each of
    three ways, do not count."""
    host = start()
    port = tls_port(host)
    for way in ("close_notify", "end", "reset"):
        gone = [tls_socket(port) for _ in range(5)]
        for connection in gone:
            connection.sendall(b"GET /debug/pprof/heap?seconds=300 HTTP/1.1\r\nHost: x\r\n\r\n")
        refused = select.select(gone, [], [], harness.DEADLINE)[
            0
        ]  # then the other four are under way
        assert len(refused) == 1 and refused[0].recv(4096).startswith(b"HTTP/1.1 503 "), (
            way,
            refused,
        )
        for connection in gone:
            if way == "close_notify":
                connection.settimeout(0)
                try:
                    connection.unwrap()
                except OSError:
                    pass  # ours is sent; the other side's is not waited for
                continue
            if way == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()
        harness.poll(
            lambda: curl(port, "heap?seconds=1", "client", "-f")[0] == 0,
            "a free place after " + way,
        )
        for connection in gone:
            connection.close()


def test_a_chain_and_an_address_of_version_six():
    port = tls_port(start(tls=settings(certificate="chain.crt", key="chained.key")))
    assert get(port)
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            raise harness.Skip("no IPv6 here")
    port = tls_port(start(tls=settings(address="[::]:0")))
    assert get(port, host="[::1]")
    assert curl(port, "cmdline", "client")[0] == 7  # [::] is not 0.0.0.0 as well


# ---- who has none --------------------------------------------------------------------------------


def test_without_the_right_certificate_there_is_nothing():
    host = start()
    port = tls_port(host)
    for who in (None, "stranger", "expired", "wrong_purpose"):
        for version in ("1.2", "1.3"):
            code, body = curl(port, "cmdline", who, "--tlsv" + version, "--tls-max", version)
            assert code in (35, 56, 60) and body == b"", (
                who,
                version,
                code,
                body,
            )  # the alert's: handshake, certificate
            assert (
                s_client(
                    port,
                    "-tls" + version.replace(".", "_"),
                    "-ign_eof",
                    *(identity(who) if who else []),
                )
                == b""
            )
    assert (
        "certificate has expired" in host.log() and "unable to get local issuer" in host.log()
    ), host.log()
    assert get(port)


def test_what_is_not_tls_gets_no_text():
    port = tls_port(start())
    for text in (
        b"GET /debug/pprof/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\0" * 5000,
        b"",
        b"\x16\x03\x01\xff\xff" + b"a" * 70000,
        b"\x16",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"\x80\x2e\x01\x00\x02" + b"\0" * 60,
    ):
        back = bytes_back(port, text)
        assert len(back) <= 7 and (back == b"" or back[0] == 21), (
            text[:20],
            back,
        )  # at most an alert
    assert get(port)
