"""The wire: what Go's clients and scripts rely on, asked of a real host."""
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import time

import harness
from pprof_reader import Profile
from wire_hosts import SAMPLE_TYPES, copy_of_workload, pprof_total, start_host

TEXT, HTML, BINARY = (
    "text/plain; charset=utf-8",
    "text/html; charset=utf-8",
    "application/octet-stream",
)


def test_headers():
    host = start_host()
    cases = [
        ("", 200, HTML, None),
        ("heap", 200, BINARY, 'attachment; filename="heap"'),
        ("allocs", 200, BINARY, 'attachment; filename="allocs"'),
        ("heap?debug=1", 200, TEXT, None),
        ("cmdline", 200, TEXT, None),
        ("symbol", 200, TEXT, None),
        ("health", 200, "application/json", None),
        ("nothing", 404, TEXT, None),
        ("heap/", 404, TEXT, None),
        ("heap?seconds=0", 400, TEXT, None),
        ("heap?seconds=1&debug=1", 400, TEXT, None),
        ("profile?seconds=1&debug=1", 200, BINARY, 'attachment; filename="profile"'),
        ("profile?hz=0", 400, TEXT, None),
        ("profile?seconds=3601", 503, TEXT, None),
        ("goroutine", 200, BINARY, 'attachment; filename="goroutine"'),
        ("goroutine?debug=1", 200, TEXT, None),
        ("goroutine?debug=2", 200, TEXT, None),
        ("goroutine?seconds=1", 200, BINARY, 'attachment; filename="goroutine-delta"'),
        ("goroutine?seconds=1&debug=2", 400, TEXT, None),
        ("peak", 200, BINARY, 'attachment; filename="peak"'),
        ("peak?debug=1", 200, TEXT, None),
        ("peak?seconds=1", 400, TEXT, None),
        ("leaks", 200, BINARY, 'attachment; filename="leaks"'),
        ("leaks?debug=1&window=1h", 200, TEXT, None),
        ("leaks?window=x", 400, TEXT, None),
        ("heap?age=1m", 200, BINARY, 'attachment; filename="heap"'),
        ("heap?age=1m&debug=1", 200, TEXT, None),
        ("allocs?labels=age,thread", 200, BINARY, 'attachment; filename="allocs"'),
        ("goroutineleak", 200, BINARY, 'attachment; filename="goroutineleak"'),
        ("goroutineleak?debug=2", 200, TEXT, None),
        ("deadlock?debug=1", 200, TEXT, None),
        ("thread", 200, BINARY, 'attachment; filename="thread"'),
        ("threadcreate?debug=1", 200, TEXT, None),
        ("threadcreate", 200, BINARY, 'attachment; filename="threadcreate"'),
        ("threadcreate?seconds=x", 400, TEXT, None),
        ("block", 200, BINARY, 'attachment; filename="block"'),
        ("block?debug=1", 200, TEXT, None),
        ("block?seconds=1", 200, BINARY, 'attachment; filename="block-delta"'),
        ("mutex", 200, BINARY, 'attachment; filename="mutex"'),
        ("mutex?debug=2", 200, TEXT, None),
        ("mutex?seconds=0", 400, TEXT, None),
        ("trace?seconds=0.1", 200, BINARY, 'attachment; filename="trace"'),
        ("trace?format=x", 400, TEXT, None),
        ("trace?seconds=3601", 503, TEXT, None),
        ("/debug/pprof", 301, HTML, None),
    ]
    for path, status, content_type, disposition in cases:
        for method in ("GET", "HEAD"):
            got, headers, body = host.get(path, method=method)
            what = "%s %s: %d %s" % (method, path, got, dict(headers))
            assert got == status and headers["Content-Type"] == content_type, what
            assert (
                headers["X-Content-Type-Options"] == "nosniff"
                and headers["Cache-Control"] == "no-store"
            ), what
            assert headers["Content-Disposition"] == disposition, what
            assert (headers["X-Go-Pprof"] == "1") == (status >= 400), what
            assert method == "GET" or body == b"", what
    assert host.get("/debug/pprof")[1]["Location"] == "/debug/pprof/"


def test_error_texts_and_their_order():
    host = start_host()
    invalid = b'invalid value for "seconds" - must be a positive integer\n'
    cases = [
        ("nothing?seconds=x", 404, b"Unknown profile\n"),
        ("heap?seconds=x&debug=1", 400, invalid),
        ("heap?seconds=-1", 400, invalid),
        ("allocs?seconds=1&debug=1", 400, b"seconds and debug params are incompatible\n"),
        ("goroutine?seconds=x&debug=2", 400, invalid),
        ("threadcreate?seconds=1&debug=1", 400, b"seconds and debug params are incompatible\n"),
        ("block?seconds=x&debug=1", 400, invalid),
        ("mutex?seconds=1&debug=1", 400, b"seconds and debug params are incompatible\n"),
        (
            "trace?format=x&seconds=3601",
            400,
            b'invalid value for "format" - must be go, go22, perfetto or json\n',
        ),
        ("trace?seconds=3601", 503, b"a trace takes at most 3600 seconds: ask for fewer\n"),
        (
            "profile?hz=x&seconds=3601",
            400,
            b'invalid value for "hz" - must be an integer from 1 to 1000\n',
        ),
        ("profile?seconds=3601", 503, b"a CPU profile takes at most 3600 seconds: ask for fewer\n"),
    ]
    for path, status, text in cases:
        got, _, body = host.get(path)
        assert (got, body) == (status, text), "%s: %d %r" % (path, got, body)


def test_pprof_prints_our_error():
    host = start_host()
    go = harness.need("go")
    done = subprocess.run(
        [go, "tool", "pprof", "-top", host.url("heap?seconds=99999")],
        capture_output=True,
        text=True,
    )
    assert "must not exceed 3600" in done.stderr, done.stderr


def test_cmdline_and_symbol():
    host = start_host()
    status, _, body = host.get("cmdline")
    assert body == open("/proc/%d/cmdline" % host.pid, "rb").read()[:-1] and body.count(b"\0") == 1
    profile = host.profile("heap")
    named = {
        frame.address: frame.function
        for sample in profile.samples
        for frame in sample.frames
        if frame.function and not frame.inlined
    }
    addresses = sorted(named)[:50]
    query = "+".join("%#x" % address for address in addresses)
    for body in (host.get("symbol?" + query)[2], host.get("symbol", method="POST", body=query)[2]):
        lines = body.decode().splitlines()
        assert lines[0] == "num_symbols: 1"
        assert [int(line.split(" ", 1)[0], 16) for line in lines[1:]] == addresses
    plain = host.get("symbol?0x1")[2]
    assert plain == b"num_symbols: 1\n"


def test_delta_of_an_idle_program_is_empty_and_takes_its_time():
    host = start_host()
    start = time.monotonic()
    profile = host.profile("heap?seconds=1")
    assert time.monotonic() - start >= 1 and profile.samples == []
    assert (
        0.99e9 < profile.duration_nanos < 60e9 and abs(profile.time_nanos / 1e9 - time.time()) < 60
    )
    assert profile.sample_types[3] == ("inuse_space", "bytes")
    start = time.monotonic()
    status, headers, _ = host.get("heap?seconds=50", method="HEAD")
    assert (
        status == 200
        and time.monotonic() - start < 50
        and headers["Content-Disposition"] == 'attachment; filename="heap-delta"'
    )


def test_too_many_deltas_are_refused():
    host = start_host()
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: host.get("heap?seconds=2"), range(5)))
    refused = [body for status, _, body in answers if status == 503]
    assert len(refused) >= 1 and all(status in (200, 503) for status, _, _ in answers), [
        answer[0] for answer in answers
    ]
    assert host.get("heap?seconds=1")[0] == 200


def test_index_page_can_be_scraped_as_gos():
    host = start_host()
    page = host.text("")
    rows = re.findall(r"<tr><td>(\d+)</td><td><a href='([^']*)'>([^<]*)</a></td></tr>", page)
    names = [name for _, _, name in rows]
    assert names == sorted(names) and {
        "allocs",
        "block",
        "heap",
        "mutex",
        "cmdline",
        "symbol",
    } <= set(names), names
    assert all(
        int(count) > 0 and href == name + "?debug=1"
        for count, href, name in rows
        if name in ("heap", "allocs")
    ), rows
    for _, href, _ in rows:
        assert (
            host.get(href, method="HEAD" if href in ("profile", "wall") else "GET")[0] == 200
        ), href  # which would take 30 s
    assert {"goroutine", "profile", "threadcreate"} <= set(
        names
    ) and '<a href="goroutine?debug=2">full goroutine stack dump</a>' in page
    assert (
        dict((name, int(count)) for count, _, name in rows)["goroutine"] == 1
    ), rows  # the host's first thread; the agent's are no one's business
    assert (
        "<li><div class=profile-name>heap: </div> " in page
        and "Types of profiles available:" in page
    )
    assert (
        "pid %d" % host.pid in page
        and "libc.so.6" in page
        and "every allocation" in page
        and not re.search(r'(src|href)=.?https?:', page)
    )


def test_health_is_json_with_everything():
    health = json.loads(start_host().text("health"))
    for key in ("version", "process", "profiles", "losses", "tables", "agent", "config"):
        assert key in health, key
    assert health["profiles"]["heap"]["on"] is True and health["profiles"]["heap"]["count"] > 0
    assert health["config"]["memprofilerate"] == 1 and health["agent"]["memory_bytes"]["total"] > 0
    assert all(
        0 <= table["used"] <= table.get("limit", 1 << 62) for table in health["tables"].values()
    )
    assert {
        "heap_lost_stack_table_full",
        "contention_lost_table_full",
        "mutex_lost_releases",
        "stacks_truncated_depth",
        "symbols_unnamed",
    } <= set(health["losses"])
    assert {"contention", "lock_waiters"} <= set(health["tables"]) and health["lock_waits"][
        "waiting_now"
    ] == 0, health
    assert health["profiles"]["block"]["on"] is True and health["profiles"]["mutex"] == {
        "on": True,
        "count": 0,
    }, health


def test_pprof_reads_everything_without_a_warning():
    host = start_host()
    directory = harness.scratch()
    saved, text = os.path.join(directory, "saved.pb.gz"), os.path.join(directory, "saved.txt")
    with open(saved, "wb") as file:
        file.write(host.get("heap")[2])
    with open(text, "wb") as file:
        file.write(host.get("heap?debug=1")[2])
    for source in (host.url("heap"), host.url("allocs"), host.url("heap?debug=1"), saved, text):
        for command in ("-top", "-traces", "-raw", "-tree"):
            assert "by_malloc" in harness.pprof_clean(
                command, "-nodefraction=0", source
            ), "%s %s" % (command, source)
    assert "by_malloc" not in harness.pprof_clean(
        "-top", "-nodefraction=0", "-diff_base", saved, host.url("heap")
    )
    assert "Type: alloc_space" in harness.pprof_clean("-top", host.url("allocs"))
    assert "Type: inuse_space" in harness.pprof_clean("-top", host.url("heap"))
    for sample_type in SAMPLE_TYPES:
        proto, from_text = pprof_total(saved, sample_type), pprof_total(text, sample_type)
        # an allocation of no bytes: pprof's reader of texts does not count it, the agent does
        slack = 8 if "objects" in sample_type else 0
        assert 0 <= proto - from_text <= slack, "%s: proto %d, text %d" % (
            sample_type,
            proto,
            from_text,
        )


def test_stripped_program_gives_no_warning_and_no_wrong_name():
    host = harness.Host([copy_of_workload(stripped=True), "without-pvalloc"], rate=1)
    host.ready()
    directory = harness.scratch()
    for name, path in (("saved.pb.gz", "heap"), ("saved.txt", "heap?debug=1")):
        saved = os.path.join(directory, name)
        with open(saved, "wb") as file:
            file.write(host.get(path)[2])
        for source in (host.url(path), saved):
            stdout = harness.pprof_clean("-top", "-nodefraction=0", source)
            assert "[copied]" in stdout and "by_malloc" not in stdout, stdout
    main = Profile(open(os.path.join(directory, "saved.pb.gz"), "rb").read()).mappings[0]
    page = host.text("")
    assert (
        "class=warn" not in page and "symbols_unnamed" in page and "-dbgsym package" in page
    ), page
    assert main.filename.endswith("/copied") and main.build_id and not main.has_functions, main


def test_replaced_program_gives_no_wrong_name():
    path = copy_of_workload(stripped=True)
    host = harness.Host([path, "without-pvalloc"], rate=1)
    host.ready()
    os.unlink(path)
    shutil.copy(harness.build("accuracy.c", "-O1", "-fno-optimize-sibling-calls"), path)
    text = host.text("heap?debug=1")
    assert re.search(r"(?m)^[0-9a-f]+-[0-9a-f]+ r-xp .*/\[deleted\]copied$", text), text[-3000:]
    saved = os.path.join(harness.scratch(), "saved.txt")
    with open(saved, "w") as file:
        file.write(text)
    assert "[[deleted]copied]" in harness.pprof_clean("-top", "-nodefraction=0", saved)
    profile = host.profile("heap")
    assert profile.mappings[0].filename == path and profile.mappings[0].build_id
