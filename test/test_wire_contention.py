"""The wire of the block and mutex profiles: both forms agree, deltas, rates."""
import concurrent.futures
import os
import re
import time

import harness
from wire_hosts import pprof_total, start_host


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
