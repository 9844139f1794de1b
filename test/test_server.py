"""The admin server: who is let in, what is refused and how, and that slow, many or broken clients
cost little (wire.md, hazards.md)."""
import html
import os
import re
import resource
import shlex
import signal
import socket
import stat
import time

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


# ---- who is let in -------------------------------------------------------------------------------


def test_host_header_allow_list():
    host = guest()
    port = host.address[1]
    for good in ("127.0.0.1:%d" % port, "localhost:%d" % port, "[::1]:%d" % port):
        assert request(host, host_header="Host: %s\r\n" % good)[0] == 200, good
    for bad in (
        "localhost",
        "127.0.0.1",
        "localhost:%d" % (port + 1),
        "evil.example:%d" % port,
        "127.0.0.1:%d.evil.example" % port,
        "localhost:%d@evil" % port,
        "LOCALHOST:%d:" % port,
        "0.0.0.0:%d" % port,
        "127.0.0.2:%d" % port,
    ):
        check_error(
            request(host, host_header="Host: %s\r\n" % bad), 403, "host not allowed: " + bad
        )
    check_error(request(host, host_header="", extra="X: y\r\n"), 403, "host not allowed: ")
    twice = "Host: localhost:%d\r\nHost: localhost:%d\r\n" % (port, port)
    check_error(request(host, host_header=twice), 403, "repeated Host header")


def test_space_after_a_header_is_no_part_of_it():
    host = guest()
    own = "localhost:%d" % host.address[1]
    assert request(host, host_header="Host:  %s  \r\n" % own)[0] == 200
    assert (
        request(
            host,
            host_header="Host:%s\r\n" % own,
            extra="Origin: http://%s \r\nSec-Fetch-Site: same-origin \r\n" % own,
        )[0]
        == 200
    )


def test_bound_address_is_an_own_host():
    port = harness.free_port()
    host = guest(address="127.0.0.2:%d" % port)
    assert host.address == ("127.0.0.2", port)
    own = "127.0.0.2:%d" % port
    assert host.get("cmdline")[0] == 200  # its own URL
    assert (
        request(host, host_header="Host: %s\r\n" % own, extra="Origin: http://%s\r\n" % own)[0]
        == 200
    )
    assert request(host, host_header="Host: localhost:%d\r\n" % port)[0] == 200
    for bad in (
        "127.0.0.2",
        "127.0.0.2:%d" % (port + 1),
        "127.0.0.3:%d" % port,
        "127.0.0.2:%d0" % port,
    ):
        check_error(
            request(host, host_header="Host: %s\r\n" % bad), 403, "host not allowed: " + bad
        )


def test_absolute_request_targets():
    host = guest()
    port = host.address[1]
    for name in ("localhost", "127.0.0.1"):
        assert request(host, "http://%s:%d/debug/pprof/cmdline?debug=1" % (name, port))[0] == 200
    for authority in ("evil.example:%d" % port, "localhost@evil:%d" % port):
        check_error(
            request(host, "http://%s/debug/pprof/cmdline" % authority),
            403,
            "host not allowed: " + authority,
        )
    own = "http://localhost:%d/debug/pprof/cmdline" % port
    check_error(request(host, own, host_header="Host: evil\r\n"), 403, "host not allowed: evil")
    check_error(request(host, own.replace("http:", "https:")), 400)
    check_error(request(host, "http://localhost:%d/" % (port + 1)), 400)


def test_cross_site_requests_are_refused():
    host = guest()
    own = "http://localhost:%d" % host.address[1]
    for extra in (
        "Origin: %s\r\n" % own,
        "Sec-Fetch-Site: none\r\n",
        "Sec-Fetch-Site: same-origin\r\n",
        "Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\n",
        "Sec-Fetch-Mode: cors\r\n",
        "Referer: %s/debug/pprof/\r\n" % own,
        "Upgrade: h2c\r\nConnection: Upgrade\r\n",
    ):
        status, headers, _ = request(host, extra=extra)
        assert status == 200 and "access-control-allow-origin" not in headers, (extra, status)
    for extra in (
        "Origin: http://evil.example\r\n",
        "Referer: http://evil.example/x\r\n",
        "Origin: https://localhost:%d\r\n" % host.address[1],
        "Origin: http://localhost:1\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Origin: %s\r\nSec-Fetch-Site: cross-site\r\n" % own,
    ):
        check_error(request(host, extra=extra), 403)
    for extra in (
        "Origin: null\r\n",
        "Sec-Fetch-Mode: no-cors\r\n",
        "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: no-cors\r\n",
        "Origin: %s\r\nOrigin: http://evil.example\r\n" % own,
        "Upgrade: websocket\r\nConnection: Upgrade\r\n",
    ):
        check_error(request(host, extra=extra), 400)
        check_error(request(host, extra=extra, host_header="Host: evil\r\n"), 400)


def test_configured_origins_may_read():
    host = guest(
        extra={"PPROFAGENT_ORIGINS": "https://speedscope.example, http://other.example:8080/"}
    )
    for origin in ("https://speedscope.example", "http://other.example:8080"):
        status, headers, _ = request(
            host, extra="Origin: %s\r\nSec-Fetch-Site: cross-site\r\n" % origin
        )
        assert (
            status == 200
            and headers["access-control-allow-origin"] == origin
            and headers["vary"] == "Origin"
        ), headers
        status, headers, _ = request(
            host,
            method="OPTIONS",
            extra="Origin: %s\r\nAccess-Control-Request-Method: GET\r\n" % origin,
        )
        assert status == 204 and headers["access-control-allow-origin"] == origin, headers
    for origin, status in (
        ("https://speedscope.example.evil", 403),
        ("https://speedscope", 403),
        ("null", 400),
        ("", 403),
    ):
        check_error(request(host, extra="Origin: %s\r\n" % origin), status)
    check_error(
        request(host, host_header="Host: evil\r\n", extra="Origin: https://speedscope.example\r\n"),
        403,
    )


def test_methods_and_bodies():
    host = guest()
    status, headers, body = request(host, method="HEAD")
    assert status == 200 and body == b"" and headers["content-type"].startswith("text/plain")
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "POST"):
        check_error(request(host, method=method), 405, "method not allowed")
    check_error(
        request(host, extra="Content-Length: 3\r\n\r\nabc"), 400, "request body not allowed"
    )
    status, headers, body = request(
        host, "/debug/pprof/symbol", "POST", extra="Content-Length: 3\r\n\r\n0x1"
    )
    assert status == 200 and body.find(b"num_symbols: 1") >= 0, body
    chunks = "Transfer-Encoding: chunked\r\n\r\n2\r\n0x\r\n1\r\n1\r\n0\r\n"
    assert request(host, "/debug/pprof/symbol", "POST", extra=chunks)[0] == 200
    check_error(
        request(host, "/debug/pprof/symbol", "POST", extra="Content-Length: 99999999\r\n"), 413
    )
    check_error(request(host, "/debug/pprof/symbol", "POST", extra="Content-Length: -1\r\n"), 411)
    big = b"+".join(b"0x%x" % number for number in range(100000))
    assert host.get("symbol", method="POST", body=big)[0] == 200
    assert host.get("symbol", method="POST", body=big, headers={"Expect": "100-continue"})[0] == 200


def test_redirect_and_unknown_paths():
    host = guest()
    status, headers, _ = request(host, "/debug/pprof")
    assert status == 301 and headers["location"] == "/debug/pprof/", headers
    own = "/pid/%d" % host.pid
    for path, prefix in (
        ("/debug/pprof", ""),
        (own + "/debug/pprof", own),
        (own, own),
        (own + "/", own),
    ):
        assert (
            request(host, path + "?x=%0d%0a&y=1?")[1]["location"]
            == prefix + "/debug/pprof/?x=%0d%0a&y=1?"
        )
        assert (
            request(host, path + "?" + "a" * 2000)[1]["location"]
            == prefix + "/debug/pprof/?" + "a" * 2000
        )
    with socket.create_connection(host.address) as connection:
        connection.sendall(
            b"GET %s HTTP/1.1\r\nHost: localhost:%d\r\n\r\n" % (own.encode(), host.address[1])
        )
        assert read_all(connection).startswith(b"HTTP/1.1 302 Found\r\n")
    for path in (
        "/debug/pprof/heap/",
        "/debug/pprof/nope",
        "/debug/pprof/../../etc/passwd",
        "/debug/pprof/%2e%2e/%2e%2e/etc/passwd",
        "//debug//x",
        "/etc/passwd",
    ):
        assert request(host, path)[0] == 404, path
    for path in ("/debug/pprof/heap%00", "/debug/pprof/%zz", "/debug/pprof/%1"):
        check_error(request(host, path), 400, "malformed URL")
    check_error(request(host, "*"), 400)
    status, headers, body = request(host, version="1.0")
    assert status == 200 and "transfer-encoding" not in headers and b"guest" in body


def test_limits_of_the_head():
    host = guest()
    assert request(host, "/debug/pprof/cmdline?" + "a" * 2000)[0] == 200
    check_error(request(host, "/debug/pprof/cmdline?" + "a" * 2100), 414)
    check_error(request(host, "/debug/pprof/" + "a" * 2100), 414)
    assert request(host, extra="".join("X-%d: y\r\n" % i for i in range(60)))[0] == 200
    check_error(request(host, extra="".join("X-%d: y\r\n" % i for i in range(70))), 431)
    assert request(host, extra="X: %s\r\n" % ("y" * 7000))[0] == 200
    check_error(request(host, extra="X: %s\r\n" % ("y" * 9000)), 431)


def test_garbage():
    host = guest()
    for text in (
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9,
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"\r\n" * 4000,
        b"GET / SPDY/3\r\n\r\n",
        b"a" * 9000,
    ):
        status, _, _ = raw(host, text, half_close=True)
        assert status is None or 400 <= status <= 505, (text[:30], status)
    assert request(host)[0] == 200


# ---- slow and many clients -----------------------------------------------------------------------


def cpu_seconds(pid):
    fields = open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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


def host_text_address(host):
    for line in open("/proc/%d/maps" % host.pid):
        if " r-xp " in line and "libc.so" in line:
            return int(line.split("-")[0], 16) + 0x100000


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


def descriptors(host):
    """What the agent's own table holds."""
    return harness.proc_links("/proc/%d/task/%d/fd" % (host.pid, max(harness.tasks(host.pid))))


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


# ---- addresses -----------------------------------------------------------------------------------


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
