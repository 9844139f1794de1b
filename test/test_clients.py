"""What clients send that servers of Go take: large bodies, names of hosts in any case, absolute
targets."""
import os
import subprocess

import harness
from http_guest import check_error, raw

MEGABYTE = 1 << 20


def curl(host, *options):
    """(status, body) of a POST to symbol."""
    command = [harness.need("curl"), "-s", "-w", "\n%{http_code}", *options, host.url("symbol")]
    done = subprocess.run(command, capture_output=True, timeout=harness.DEADLINE)
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), body


def test_pprof_asks_for_ninety_thousand_names():
    host = harness.Host([harness.build("many_call_sites.c", "-O1", "-s")], rate=1)
    host.ready()
    saved = os.path.join(host.directory, "heap.pb.gz")
    with open(saved, "wb") as file:
        file.write(host.get("heap")[2])
    addresses = sorted(
        {
            frame.address
            for sample in host.profile("heap").samples
            for frame in sample.frames[:1]
            if not frame.function
        }
    )
    assert len(addresses) == 90000
    status, _, body = host.get(
        "symbol", "POST", body="+".join("%#x" % address for address in addresses), timeout=120
    )
    assert (status, body) == (200, b"num_symbols: 1\n")
    top = harness.pprof_clean("-top", "-sample_index=alloc_objects", host.url("heap"), timeout=300)
    assert "90000" in top, top


def test_large_bodies():
    host = harness.Host([harness.build("guest.c")])
    function = int(host.profile("goroutine").samples[0].frames[-1].address)
    named = host.text("symbol?%#x" % function).splitlines()
    assert len(named) == 2, named
    count = 100000
    path = os.path.join(host.directory, "body")
    with open(path, "w") as file:
        file.write("+".join(["%#x" % function] * count))
    assert os.path.getsize(path) > MEGABYTE
    for options in ((), ("-H", "Transfer-Encoding: chunked")):
        status, body = curl(host, "--data-binary", "@" + path, *options)
        assert status == 200 and body.decode().splitlines() == named[:1] + named[1:] * count
    for size, expected in ((16 * MEGABYTE, 200), (16 * MEGABYTE + 1, 413), (64 * MEGABYTE, 413)):
        with open(path, "wb") as file:
            file.write(b"+" * size)
        for options in ((), ("-H", "Transfer-Encoding: chunked")):
            status, body = curl(host, "--data-binary", "@" + path, *options)
            assert (status, body) == (
                expected,
                b"num_symbols: 1\n" if expected == 200 else b"request body too large\n",
            ), (size, options)


def test_names_of_hosts_have_no_case():
    host = harness.Host([harness.build("guest.c")])
    port = host.address[1]
    for name in ("LocalHost", "LOCALHOST", "localhost."):
        for target in (
            "/debug/pprof/cmdline",
            "http://%s:%d/debug/pprof/cmdline" % (name.swapcase(), port),
        ):
            for extra in (
                "",
                "ORIGIN: http://lOCALHOST:%d\r\n" % port,
                "Referer: HTTP://LOCALHOST:%d/debug/pprof/\r\n" % port,
            ):
                status, headers, _ = raw(
                    host, "GET %s HTTP/1.1\r\nHOST: %s:%d\r\n%s\r\n" % (target, name, port, extra)
                )
                assert status == 200 and "access-control-allow-origin" not in headers, (
                    name,
                    target,
                    extra,
                    status,
                )
    for name in ("localhost.evil", "evil.localhost", "xlocalhost", "localhost..", "LOCALHOST\x00"):
        assert raw(host, "GET /debug/pprof/cmdline HTTP/1.1\r\nHost: %s:%d\r\n\r\n" % (name, port))[
            0
        ] in (400, 403), name
    check_error(
        raw(host, "GET /debug/pprof/cmdline HTTP/1.1\r\nHost: LocalHost:%d\r\n\r\n" % (port + 1)),
        403,
        "host not allowed: LocalHost:%d" % (port + 1),
    )
