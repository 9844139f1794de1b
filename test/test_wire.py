"""The wire: what Go's clients and scripts rely on, asked of a real host, and the encoders' fixtures
given to the real pprof."""
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import time

import harness
from pprof_reader import Profile

TEXT, HTML, BINARY = (
    "text/plain; charset=utf-8",
    "text/html; charset=utf-8",
    "application/octet-stream",
)
SAMPLE_TYPES = ("alloc_objects", "alloc_space", "inuse_objects", "inuse_space")


def start_host():
    host = harness.Host(
        [harness.build("exact.c", "-O1", "-fno-optimize-sibling-calls"), "without-pvalloc"], rate=1
    )
    host.ready()
    return host


# ---- fixtures: tables built by hand, so the right answer is known --------------------------------


def fixtures():
    """The directory into which unit_profile_proto wrote its profiles."""
    program = os.path.join(harness.BUILD, "test", "unit_profile_proto")
    if not os.path.exists(program):
        raise harness.Skip("unit_profile_proto is not built")
    directory = harness.scratch()
    subprocess.run([program, directory], check=True)
    return lambda name: os.path.join(directory, name)


def pprof_total(path, sample_type, unit="B"):
    stdout, _ = harness.pprof(
        "-top", "-unit=" + unit, "-nodecount=1000", "-sample_index=" + sample_type, path
    )
    return int(
        re.search(r"Showing nodes accounting for .* of (-?\d+)(?:%s)? total" % unit, stdout).group(
            1
        )
    )


def test_fixture_is_read_by_an_independent_reader():
    path = fixtures()
    profile = Profile(open(path("exact.pb.gz"), "rb").read())
    assert profile.sample_types == [
        ("alloc_objects", "count"),
        ("alloc_space", "bytes"),
        ("inuse_objects", "count"),
        ("inuse_space", "bytes"),
    ]
    assert profile.period_type == ("space", "bytes") and profile.period == 1
    assert profile.total() == [36, 5279396, 20, 3149108]
    assert profile.by_leaf()["foo_alloc"] == [5, 5242880, 3, 3145728]
    stacks = {tuple(frame.function for frame in sample.frames) for sample in profile.samples}
    assert ("ns::make<int>(int)", "inner", "outer", "main") in stacks
    assert ("", "main", "[truncated: no unwind information]") in stacks
    assert sorted(sample.labels["bytes"] for sample in profile.samples) == [
        24,
        48,
        64,
        100,
        512,
        512,
        4096,
        1048576,
    ]


def test_fixture_text_and_proto_agree_under_pprof():
    path = fixtures()
    for name in ("default", "exact", "mixed", "unfreed"):
        records = len(Profile(open(path(name + ".pb.gz"), "rb").read()).samples)
        for sample_type in SAMPLE_TYPES:
            proto, text = (
                pprof_total(path(name + extension), sample_type) for extension in (".pb.gz", ".txt")
            )
            # pprof cuts each scaled record of a text down to an integer, the agent rounds to the
            # nearest
            slack = 0 if name in ("exact", "mixed") else records
            assert abs(proto - text) <= slack, "%s %s: proto %d, text %d" % (
                name,
                sample_type,
                proto,
                text,
            )


def test_fixture_contention_text_and_proto_agree_under_pprof():
    path = fixtures()
    for name, contentions, delay in (
        ("block", 5, 128457789),
        ("mutex", 1000003, (1 << 52) + 7001),
        ("block-empty", 0, 0),
        ("mutex-empty", 0, 0),
    ):
        for extension in (".pb.gz", ".txt"):
            got = [
                pprof_total(path(name + extension), sample_type, "ns")
                for sample_type in ("contentions", "delay")
            ]
            assert got == [contentions, delay], "%s%s: %s" % (name, extension, got)
    profile = Profile(open(path("mutex.pb.gz"), "rb").read())
    assert profile.sample_types == [
        ("contentions", "count"),
        ("delay", "nanoseconds"),
    ], profile.sample_types
    assert (
        profile.period_type == ("contentions", "count")
        and profile.period == 1
        and profile.duration_nanos == 0
    )
    assert profile.total() == [1000003, (1 << 52) + 7001] and profile.by_leaf()[
        "ns::make<int>"
    ] == [3, 7000], dict(profile.by_leaf())
    assert (
        "4 waits whose releasers were not looked for"
        in harness.pprof("-top", path("mutex.pb.gz"))[0]
    )


def test_fixture_delta_is_the_difference():
    path = fixtures()
    difference = harness.pprof(
        "-top", "-unit=B", "-diff_base", path("default.pb.gz"), path("later.pb.gz")
    )[0]
    delta = harness.pprof("-top", "-unit=B", path("delta.pb.gz"))[0]
    rows = [
        {
            line.split()[5]: line.split()[0]
            for line in text.splitlines()
            if re.match(r" *-?\d+B? ", line)
        }
        for text in (difference, delta)
    ]
    assert (
        rows[0] == rows[1]
        and rows[0]["foo_alloc"] == "3638090B"
        and rows[0]["ns::make<int>(int)"] == "-3145920B"
    ), rows


def test_fixture_empty_profiles_are_valid():
    path = fixtures()
    for name in ("empty.pb.gz", "empty.txt"):
        assert "0 total" in harness.pprof_clean("-top", path(name))


def test_complete_names_need_no_file():
    stdout = harness.pprof_clean(
        "-traces", fixtures()("unfreed.pb.gz")
    )  # its object files do not exist
    assert "ns::make<int>(int)" in stdout and "foo_alloc" in stdout


TABWRITER = """package main
import ("bufio"; "fmt"; "os"; "text/tabwriter")
func main() {
	out := tabwriter.NewWriter(os.Stdout, 1, 8, 1, '\\t', 0)
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<24)
	for in.Scan() { fmt.Fprintln(out, in.Text()) }
	out.Flush()
}
"""


def check_padding(text):
    """Takes the padding out of the frame lines and lets Go's own tabwriter put it in again."""
    program = os.path.join(harness.scratch(), "pad.go")
    with open(program, "w") as file:
        file.write(TABWRITER)
    head = b"".join(
        re.findall(
            rb"(?ms)^(?:\w+ profile:|--- (?!Memory)\w+:).*?(?=^# runtime.MemStats|^--- Memory map)",
            text,
        )
    )
    head = head.replace(b"\xff", b"?")  # which Go's tabwriter takes for the beginning of an escape
    bare = re.sub(rb"\t+", b"\t", head)
    padded = subprocess.run(
        [harness.need("go"), "run", program],
        input=bare,
        capture_output=True,
        timeout=harness.DEADLINE * 2,
        env=dict(os.environ, GOFLAGS="-mod=mod", GOCACHE=harness.scratch(), GO111MODULE="off"),
    )
    assert padded.returncode == 0, padded.stderr
    for ours, go in zip(head.split(b"\n"), padded.stdout.split(b"\n")):
        assert ours == go, "%r, Go pads %r" % (ours, go)


def test_text_is_padded_like_gos():
    path = fixtures()
    host = start_host()
    texts = [
        host.text(name + "?debug=1").encode() for name in ("heap", "goroutine", "threadcreate")
    ]
    fixed = [open(path(name + ".txt"), "rb").read() for name in ("default", "block")]
    check_padding(b"".join(fixed + texts))


# ---- a real host ---------------------------------------------------------------------------------


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


# ---- block and mutex -----------------------------------------------------------------------------

EVERY_WAIT = {"PPROFAGENT_BLOCKPROFILERATE": "1", "PPROFAGENT_MUTEXPROFILEFRACTION": "1"}
RECORD = r"(?m)^(\d+) (\d+) @((?: 0x[0-9a-f]+)+)\n((?:#\t.*\n)+)\n"


def start_contention(**extra):
    host = harness.Host(
        [harness.build("contention_counts.c", "-O1", "-fno-optimize-sibling-calls")],
        extra=dict(EVERY_WAIT, **extra),
    )
    return host, {
        function: int(count) for _, function, count in (line.split() for line in host.ready())
    }


def test_contention_reads_the_same_in_both_forms():
    host, counts = start_contention()
    directory = harness.scratch()
    for name, head, leaf, prefix in (
        ("block", "--- contention:\ncycles/second=1000000000\n", "pthread_mutex_lock", "wait_"),
        (
            "mutex",
            "--- mutex:\ncycles/second=1000000000\nsampling period=1\n",
            "pthread_mutex_unlock",
            "release_",
        ),
    ):
        text = host.text(name + "?debug=1")
        records = re.findall(RECORD, text)
        assert (
            text.startswith(head + "%s %s @ 0x" % records[0][:2])
            and "\n\n--- Memory map: ---\n" in text
        ), text[:500]
        delays = [int(delay) for delay, _, _, _ in records]
        assert delays == sorted(delays, reverse=True) and all(delay > 0 for delay in delays), delays
        for function, count in counts.items():
            found = [
                int(number)
                for _, number, _, frames in records
                if re.match(
                    r"#\t0x[0-9a-f]+\t%s\+0x[0-9a-f]+\t.*\n#\t0x[0-9a-f]+\t%s\+0x"
                    % (leaf, prefix + function),
                    frames,
                )
            ]
            assert found == [count], "%s %s: %s\n%s" % (name, function, found, text[:3000])
        profile = host.profile(name)
        assert (
            profile.sample_types == [("contentions", "count"), ("delay", "nanoseconds")]
            and profile.period == 1
        )
        assert (
            profile.period_type == ("contentions", "count")
            and abs(profile.time_nanos / 1e9 - time.time()) < 60
        )
        assert profile.total() == [sum(counts.values()), sum(delays)], profile.samples
        saved = {
            extension: os.path.join(directory, name + extension) for extension in (".txt", ".pb.gz")
        }
        with open(saved[".txt"], "w") as file:
            file.write(text)
        with open(saved[".pb.gz"], "wb") as file:
            file.write(host.get(name)[2])
        for source in (saved[".txt"], saved[".pb.gz"], host.url(name), host.url(name + "?debug=1")):
            assert [
                pprof_total(source, kind, "ns") for kind in ("contentions", "delay")
            ] == profile.total(), source
            top = harness.pprof_clean(
                "-top", "-nodefraction=0", "-sample_index=contentions", source
            )
            assert re.search(r"(?m)^ +%d .*%% +%s$" % (sum(counts.values()), leaf), top), top
            assert prefix + "often" in harness.pprof_clean(
                "-traces", source
            ) and "Type: delay" in harness.pprof_clean("-top", source)


def test_delta_of_contention():
    host, _ = start_contention()
    before = {name: host.profile(name).total() for name in ("block", "mutex")}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        running = {name: pool.submit(host.profile, name + "?seconds=1") for name in before}
        while not all(
            delta.done() for delta in running.values()
        ):  # some of these waits are in the window, all of them in `after`
            host.go_on()
            assert host.line() == "again"
    after = {name: host.profile(name).total() for name in before}
    for name, function in (("block", "wait_often"), ("mutex", "release_often")):
        profile = running[name].result()
        assert (
            len(profile.samples) == 1 and profile.samples[0].frames[1].function == function
        ), profile.samples  # nobody's of before
        assert all(
            0 < value <= last - first
            for value, first, last in zip(profile.total(), before[name], after[name])
        ), (before, after)
        assert 0.99e9 < profile.duration_nanos < 60e9, profile.duration_nanos


def test_contention_that_is_off_says_so():
    host, _ = start_contention(PPROFAGENT_BLOCKPROFILERATE="0", PPROFAGENT_MUTEXPROFILEFRACTION="0")
    for name, variable in (
        ("block", "PPROFAGENT_BLOCKPROFILERATE"),
        ("mutex", "PPROFAGENT_MUTEXPROFILEFRACTION"),
    ):
        for query in ("", "?debug=1", "?seconds=1"):
            status, headers, body = host.get(name + query)
            assert status == 503 and headers["X-Go-Pprof"] == "1", body
            assert body.decode() == "%s profiling is off: %s is 0\n" % (name, variable), body
        assert host.health()["profiles"][name] == {
            "on": False,
            "reason": variable + " is 0",
            "count": 0,
        }
    page = host.text("")
    assert (
        "<a href='block" not in page
        and "<a href='mutex" not in page
        and "block: off" in page
        and "mutex: off" in page
    ), page


def test_index_page_tells_the_rates():
    page = start_host().text("")
    assert (
        "block: every wait of 100 &micro;s or more, one per that much of the shorter ones on "
        "average" in page
    ), page
    assert "mutex: one in 10 waits for a lock on average" in page, page


# ---- count profiles ------------------------------------------------------------------------------


def start_threads():
    host = harness.Host(
        [harness.build("cpu_shares.c", "-O1", "-fno-optimize-sibling-calls"), "amounts"]
    )
    host.ready()
    return host


def test_count_profiles_read_the_same_in_both_forms():
    host = start_threads()
    directory = harness.scratch()
    for name, total, function in (("goroutine", 5, "run"), ("threadcreate", 4, "start")):
        text = host.text(name + "?debug=1")
        assert text.startswith("%s profile: total %d\n" % (name, total)), text[:500]
        records = re.findall(r"(?m)^(\d+) @(?: 0x[0-9a-f]+)+\n# labels: \{\"state\":", text)
        assert "--- Memory map: ---" in text and records == (
            ["1"] * 5 if name == "goroutine" else ["4"]
        ), text
        saved = os.path.join(directory, name + ".txt")
        with open(saved, "w") as file:
            file.write(text)
        profile = host.profile(name)
        assert (
            profile.sample_types == [(name, "count")]
            and profile.period_type == (name, "count")
            and profile.period == 1
        )
        assert (
            profile.total() == [total]
            and profile.duration_nanos == 0
            and abs(profile.time_nanos / 1e9 - time.time()) < 60
        )
        assert profile.by_function()[function] == [4], dict(profile.by_function())
        for source in (saved, host.url(name), host.url(name + "?debug=1")):
            top = harness.pprof_clean("-top", "-nodefraction=0", source)
            assert "Type: " + name in top and re.search(
                r"(?m)accounting for %d, 100%% of %d total" % (total, total), top
            ), top
            assert re.search(r"(?m) 4 .*%% +%s$" % function, top), top


def test_labels_keep_threads_apart():
    host = start_threads()
    grouped, apart = host.profile("goroutine"), host.profile("goroutine?tid=1")
    assert sorted(sample.values[0] for sample in apart.samples) == [1] * 5
    tids = {int(tid) for tid in os.listdir("/proc/%d/task" % host.pid)}
    assert {sample.labels["tid"] for sample in apart.samples} <= tids
    assert all(set(sample.labels) == {"thread_name", "state"} for sample in grouped.samples)
    names = {sample.labels["thread_name"] for sample in grouped.samples}
    assert (
        names >= {"burner-0", "burner-1", "burner-2", "burner-3"} and "pprofagent" not in names
    ), names


def test_delta_of_counts():
    host = start_threads()
    for name in ("goroutine", "threadcreate"):
        profile = host.profile(name + "?seconds=1")
        assert profile.samples == [] and 0.99e9 < profile.duration_nanos < 60e9, profile.samples
    host.go_on()
    harness.poll(
        lambda: any(
            sample.labels["state"].startswith("run") for sample in host.profile("goroutine").samples
        ),
        "the threads to run",
    )
    profile = host.profile("goroutine?seconds=8")  # in which they come to rest
    assert profile.total() == [0] and len(profile.samples) >= 2, profile.samples
    went = {sample.frames[0].function for sample in profile.samples if sample.values[0] < 0}
    assert any(function.startswith("burn_") for function in went), went


def copy_of_workload(stripped):
    path = os.path.join(harness.scratch(), "copied")
    shutil.copy(harness.build("exact.c", "-O1", "-fno-optimize-sibling-calls"), path)
    if stripped:
        subprocess.run([harness.need("strip"), path], check=True)
    return path


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
