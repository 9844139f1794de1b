"""The admin server: who is let in, what is refused and how."""
import socket

import harness
from http_guest import check_error, guest, raw, read_all, request


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
