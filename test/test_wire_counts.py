"""The wire of the profiles that count threads: both forms agree, labels, deltas."""
import os
import re
import time

import harness


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
