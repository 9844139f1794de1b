"""Remote admin: mutual TLS, with certificates made by openssl and asked by curl and openssl
s_client. Who has no certificate of the right authority gets nothing. What the program sees of it:
test_tls_guest.py."""
import json
import os
import re
import resource
import select
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time

import harness
import pprof_reader

PAIR = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
_directory = tempfile.TemporaryDirectory(prefix="pprofagent-test-")


def openssl(*arguments, check=True, **options):
    done = subprocess.run(
        [harness.need("openssl")] + list(arguments),
        capture_output=True,
        timeout=harness.DEADLINE,
        **options,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def certificates():
    """The directory of NAME.crt and NAME.key: of an authority, a server, its clients, and of
    others."""
    directory = _directory.name
    if os.path.exists(directory + "/rsa.crt"):
        return directory
    path = lambda name: os.path.join(directory, name)

    def root(name):
        openssl(
            "req",
            "-x509",
            *PAIR,
            "-keyout",
            path(name + ".key"),
            "-out",
            path(name + ".crt"),
            "-subj",
            "/CN=" + name,
            "-days",
            "2",
        )

    def leaf(name, authority, purpose, days=2, extra="", kind=PAIR):
        with open(path("extensions"), "w") as file:
            file.write("extendedKeyUsage=%s\n%s" % (purpose, extra))
        openssl(
            "req",
            *kind,
            "-keyout",
            path(name + ".key"),
            "-out",
            path(name + ".csr"),
            "-subj",
            "/CN=" + name,
        )
        sign = [
            "x509",
            "-req",
            "-in",
            path(name + ".csr"),
            "-CA",
            path(authority + ".crt"),
            "-CAkey",
            path(authority + ".key"),
            "-CAcreateserial",
            "-extfile",
            path("extensions"),
            "-out",
            path(name + ".crt"),
        ]
        done = openssl(*sign, "-days", str(days), check=days > 0)
        if done.returncode != 0:  # 3.4 and later take no negative number, older ones no dates
            openssl(*sign, "-not_before", "20200101000000Z", "-not_after", "20200102000000Z")

    root("authority")
    root("foreign")
    leaf(
        "server",
        "authority",
        "serverAuth",
        extra="subjectAltName=IP:127.0.0.1,IP:::1,DNS:localhost\n",
    )
    leaf(
        "intermediate",
        "authority",
        "clientAuth,serverAuth",
        extra="basicConstraints=critical,CA:true\n",
    )
    leaf("chained", "intermediate", "serverAuth", extra="subjectAltName=IP:127.0.0.1\n")
    with open(path("chain.crt"), "w") as file:
        file.write(open(path("chained.crt")).read() + open(path("intermediate.crt")).read())
    leaf("client", "authority", "clientAuth")
    leaf("expired", "authority", "clientAuth", days=-1)
    leaf("wrong_purpose", "authority", "serverAuth")
    leaf("stranger", "foreign", "clientAuth")
    leaf("rsa", "authority", "clientAuth", kind=["-newkey", "rsa:2048", "-nodes"])
    return directory


def settings(
    address="127.0.0.1:0", certificate="server.crt", key="server.key", authority="authority.crt"
):
    in_it = lambda name: os.path.join(certificates(), name) if name else ""
    return {
        "PPROFAGENT_TLS_ADDR": address,
        "PPROFAGENT_TLS_CERT": in_it(certificate),
        "PPROFAGENT_TLS_KEY": in_it(key),
        "PPROFAGENT_TLS_CLIENT_CA": in_it(authority),
    }


def start(argv=None, tls=None, **options):
    host = harness.Host(
        argv or [harness.build("remote_admin.c", "-O1")],
        extra=dict(tls or settings(), **options.pop("more", {})),
        **options,
    )
    if not argv:
        host.ready()
    return host


def tls_port(host, nth=1):
    """The port that its log tells, the nth time that it listens."""

    def look():
        assert host.process.poll() is None, "the host ended" + host.describe()
        found = re.findall(r"remote admin on https://\S+:(\d+)/", host.log())
        return found[nth - 1] if len(found) >= nth else None

    return int(harness.poll(look, "remote admin"))


def curl(
    port,
    path="cmdline",
    who="client",
    *options,
    host="127.0.0.1",
    authority="authority",
    seconds=harness.DEADLINE,
):
    """(exit code, body) of curl with a client's certificate; who=None: without."""
    directory = certificates()
    url = "https://%s:%d%s" % (host, port, path if path.startswith("/") else "/debug/pprof/" + path)
    command = [
        harness.need("curl"),
        "-sS",
        "--noproxy",
        "*",
        "--cacert",
        "%s/%s.crt" % (directory, authority),
        *options,
        url,
    ]
    if who:
        command[1:1] = [
            "--cert",
            "%s/%s.crt" % (directory, who),
            "--key",
            "%s/%s.key" % (directory, who),
        ]
    done = subprocess.run(command, capture_output=True, timeout=seconds)
    return done.returncode, done.stdout


def get(port, path="cmdline", *options, **more):
    code, body = curl(port, path, more.pop("who", "client"), *options, **more)
    assert code == 0, "%s: curl's exit code %d" % (path, code)
    return body


def s_client(port, *options, send=b"GET /debug/pprof/cmdline HTTP/1.1\r\nHost: x\r\n\r\n"):
    """All that the server sends inside TLS."""
    return openssl(
        "s_client", "-quiet", "-connect", "127.0.0.1:%d" % port, *options, input=send, check=False
    ).stdout


def identity(who):
    return [
        "-cert",
        "%s/%s.crt" % (certificates(), who),
        "-key",
        "%s/%s.key" % (certificates(), who),
    ]


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


def tls_socket(port):
    context = ssl.create_default_context(cafile=certificates() + "/authority.crt")
    context.load_cert_chain(certificates() + "/client.crt", certificates() + "/client.key")
    context.verify_flags &= (
        ~ssl.VERIFY_X509_STRICT
    )  # Python 3.13's default asks for more than openssl's own tool makes
    return context.wrap_socket(
        socket.create_connection(("127.0.0.1", port), timeout=harness.DEADLINE),
        server_hostname="127.0.0.1",
    )


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


def bytes_back(port, text):
    with socket.create_connection(("127.0.0.1", port), timeout=harness.DEADLINE) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        pieces = b""
        try:
            while piece := connection.recv(4096):
                pieces += piece
        except ConnectionResetError:
            pass
        return pieces


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


# ---- slow ones, many, and too many ---------------------------------------------------------------


def test_slow_handshakes_keep_nobody_waiting():
    def with_idle_connections():
        port = tls_port(start())
        return port, [socket.create_connection(("127.0.0.1", port)) for _ in range(15)]

    states = []

    def ask(state):
        states.append(state)
        assert get(state[0])

    harness.in_time(ask, 4, "a request beside 15 idle connections", with_idle_connections)
    port, idle = states[-1]
    idle += [socket.create_connection(("127.0.0.1", port)) for _ in range(1)]
    # All 16 places are taken until the handshakes' deadline; then there is room.
    harness.poll(lambda: curl(port)[0] == 0, "an answer after the deadline of the idle ones")
    idle[0].settimeout(harness.DEADLINE)
    assert idle[0].recv(100) == b""


def parallel(port, count, path="cmdline"):
    """The exit codes of that many curls at once."""
    with tempfile.TemporaryDirectory() as directory:
        command = [
            harness.need("curl"),
            "-sS",
            "--parallel",
            "--parallel-immediate",
            "--parallel-max",
            str(count),
            "--cacert",
            certificates() + "/authority.crt",
            "--cert",
            certificates() + "/client.crt",
            "--key",
            certificates() + "/client.key",
        ]
        for number in range(count):
            command += [
                "-o",
                "%s/%d" % (directory, number),
                "https://127.0.0.1:%d/debug/pprof/%s" % (port, path),
            ]
        subprocess.run(command, capture_output=True, timeout=harness.DEADLINE * 2)
        return [open(os.path.join(directory, name), "rb").read() for name in os.listdir(directory)]


def test_a_hundred_at_once():
    host = start()
    port = tls_port(host)
    expected = get(port)
    answers = [body for body in parallel(port, 100) if body]
    assert len(answers) >= 10 and set(answers) == {expected}, (len(answers), set(answers))
    harness.poll(lambda: curl(port)[0] == 0, "an answer after the crowd has gone")


def agent_memory(port):
    return json.loads(get(port, "health"))["agent"]["memory_bytes"]["allocator"]


def test_memory_is_bounded():
    host = start()
    port = tls_port(host)
    parallel(port, 16)
    before = agent_memory(port)
    for _ in range(12):
        parallel(port, 16)
        parallel(port, 8, "nope")
        curl(port, "cmdline", None)
        bytes_back(port, b"\x16\x03\x01\x02\x00" + b"a" * 100)
    assert agent_memory(port) <= before + 256 * 1024, (before, agent_memory(port))
    in_use = lambda: len([target for target in agent_descriptors(host) if "socket" in target])
    harness.poll(lambda: in_use() <= 4, "closed connections")


def agent_descriptors(host):
    return harness.proc_links("/proc/%d/task/%d/fd" % (host.pid, max(harness.tasks(host.pid))))


def cpu_seconds(pid):
    fields = open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_out_of_descriptors_does_not_spin():
    host = start(preexec_fn=harness.limit(resource.RLIMIT_NOFILE, 16))
    port = tls_port(host)
    assert get(port)
    crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(30)]
    before = cpu_seconds(host.pid)
    time.sleep(1.5)
    assert cpu_seconds(host.pid) - before < 0.3, "%.2f s of CPU time in 1.5 s" % (
        cpu_seconds(host.pid) - before
    )
    for connection in crowd:
        connection.close()
    harness.poll(lambda: curl(port)[0] == 0, "an answer after the crowd has gone")


# ---- the program is not disturbed ----------------------------------------------------------------


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
