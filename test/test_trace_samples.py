"""CPU samples in execution traces: how many there are of which function, when and of which thread,
of a program that knows where its CPU time goes (test/workloads/cpu_shares.c)."""
import collections
import concurrent.futures
import json
import math
import re

import go_trace_reader
import harness
import perfetto_reader
import pytest
from system_calls import under_filter

FLAGS = ("-O1", "-fno-optimize-sibling-calls")
HZ = 200
MICROSECOND = 1000


def start(mode, **options):
    host = harness.Host([harness.build("cpu_shares.c", *FLAGS), mode], **options)
    return host, host.ready()


def running(host):
    return host.health()["trace"]["running"]


def record(host, query):
    status, _, body = host.get("trace?" + query, timeout=100)
    assert status == 200, (status, body[:200])
    return body


def truth(host):
    host.go_on()
    found = {}
    while True:
        words = host.line().split()
        if words == ["end"]:
            return found
        if words[0] == "truth":
            found[words[1]] = int(words[2])


def trace_of_all(host):
    """A trace, and the truth of one line's work, all of which lies within it."""
    seconds = 5
    while True:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            query = "seconds=%d&format=json&hz=%d" % (seconds, HZ)
            recording = pool.submit(record, host, query)
            harness.poll(lambda: running(host) == 1, "the recording to begin")
            spent = truth(host)
            in_time = running(host) == 1
            body = recording.result()
        if in_time:
            return json.loads(body), spent
        seconds *= 2  # a slow machine
        assert seconds < 100, "the work is never done in time"


def samples_of(trace):
    """[(tid, nanoseconds since the start, innermost function, CPU time)]"""
    return [
        (
            event["tid"],
            round(event["ts"] * 1000),
            trace["stackFrames"][event["sf"]]["name"],
            event["args"]["cpu_ns"],
        )
        for event in trace["traceEvents"]
        if event["ph"] == "i" and event["cat"] == "sample"
    ]


def check_that_they_ran(trace, samples):
    """The kernel says when each thread was on a CPU: it was, when a sample was taken."""
    spans = collections.defaultdict(list)
    for event in trace["traceEvents"]:
        if event["ph"] == "T" and event["name"] == "Running":
            begin = round(event["ts"] * 1000)
            spans[event["tid"]].append((begin, begin + round(event["dur"] * 1000)))
    odd = [
        (tid, at)
        for tid, at, _, _ in samples
        if not any(
            begin - 20 * MICROSECOND <= at <= end + 20 * MICROSECOND for begin, end in spans[tid]
        )
    ]
    assert not odd, (len(odd), odd[:5])


@pytest.mark.alone
@pytest.mark.parametrize("cpu", ["auto", "timer"])
def test_shares_of_samples(cpu):
    host, _ = start("amounts", extra={"PPROFAGENT_CPU": cpu})
    trace, spent = trace_of_all(host)
    health = host.health()
    about, samples = trace["metadata"], samples_of(trace)
    assert about["cpu_sample_hz"] == HZ and about["cpu_samples_off"] is None
    assert health["trace"]["samples"] >= len(samples) and not health["trace"]["samples_off_because"]
    assert host.health()["cpu_sampling"]["timers"] == 0, "nobody samples any more"
    if not health["trace"]["sampled_because"]:
        check_that_they_ran(trace, samples)
    total = sum(spent.values())
    found = collections.Counter()
    for _, _, function, nanoseconds in samples:
        if function in spent:
            found[function] += nanoseconds
    flat = sum(found.values())
    assert abs(flat - total) < 0.05 * total, (found, spent)
    count = flat / max(1e9 / HZ, 4_000_000)
    for name, nanoseconds in spent.items():
        share = nanoseconds / total
        deviation = (found[name] / flat - share) / math.sqrt(share * (1 - share) / count)
        assert abs(deviation) < 4.5, (name, deviation, found, spent)


def functions(stacks):
    return {names[0] for names in stacks if names and names[0].startswith("burn_")}


def test_samples_in_the_other_forms():
    host, _ = start("endless")
    host.go_on()
    perfetto = perfetto_reader.Trace(record(host, "seconds=1&hz=500&format=perfetto"))
    samples = [instant for instant in perfetto.instants if instant.category == "sample"]
    assert len(samples) > 50 and all(sample.notes["cpu_ns"] > 0 for sample in samples)
    stacks = [[frame[0] for frame in reversed(sample.stack or [])] for sample in samples]
    assert len(functions(stacks)) >= 3, functions(stacks)
    recording = [each for each in perfetto.instants if each.category == "recording"]
    assert recording[0].notes["cpu_sample_hz"] == 500
    go = go_trace_reader.Trace(record(host, "seconds=1&hz=500&format=go22"))
    go.play()
    stacks = [[go.strings[frame[1]] for frame in go.stacks[stack]] for stack in go.samples]
    assert len(stacks) > 50 and len(functions(stacks)) >= 3, functions(stacks)
    assert any("500 CPU samples a second" in value for _, _, value in go.logs)
    host.kill()


def test_none_where_none_are_wanted():
    host, _ = start("endless")
    host.go_on()
    trace = json.loads(record(host, "seconds=0.3&format=json&hz=0"))
    assert trace["metadata"]["cpu_sample_hz"] == 0 and not samples_of(trace)
    assert host.health()["trace"]["samples"] == 0
    assert samples_of(json.loads(record(host, "seconds=0.5&format=json")))  # 100 Hz
    for wrong in ("hz=-1", "hz=1001", "hz=x", "hz=1.5"):
        status, _, body = host.get("trace?" + wrong)
        assert status == 400 and re.search(b"an integer from 0 to 1000", body), (wrong, body)
    host.kill()


def test_traces_and_profiles_share_the_sampler():
    """Each has its own samples, and the last to leave stops them all."""
    host, _ = start("endless")
    host.go_on()
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        slow = pool.submit(record, host, "seconds=2&format=json&hz=50")
        harness.poll(lambda: running(host) == 1, "the slow one")
        profile = pool.submit(host.profile, "profile?seconds=1")
        none = pool.submit(record, host, "seconds=0.5&format=json&hz=0")
        assert samples_of(json.loads(slow.result()))
        assert profile.result().total()[0] > 50
        assert not samples_of(json.loads(none.result()))
    sampling = host.health()["cpu_sampling"]
    assert sampling["profiles_running"] == 0 and sampling["timers"] == 0, sampling
    taken = host.health()["trace"]["samples"]
    host.profile("profile?seconds=1")
    assert host.health()["trace"]["samples"] == taken
    host.kill()


def test_why_there_are_none():
    """Where the sampler may not work a trace goes without, and says so."""
    argv = [harness.build("cpu_shares.c", *FLAGS), "endless"]
    host = harness.Host(under_filter("errno", ["swapon"], argv), extra={"PPROFAGENT_CPU": "perf"})
    host.ready()
    host.go_on()
    trace = json.loads(record(host, "seconds=0.3&format=json"))
    reason = "the process is under a seccomp filter"
    assert trace["metadata"]["cpu_samples_off"] == reason and not samples_of(trace)
    assert host.health()["trace"]["samples_off_because"] == reason
    assert "The last trace has no CPU samples: " + reason in host.text("")
    go = go_trace_reader.Trace(record(host, "seconds=0.3&format=go22"))
    go.play()
    assert any("no CPU samples: " + reason in value for _, _, value in go.logs), go.logs
    assert host.get("trace?seconds=0.1&hz=0")[0] == 200
    host.kill()


def test_no_signal_without_being_asked():
    """Where samples take a signal, there are none but for who says hz=."""
    host = harness.Host(
        [harness.build("cpu_shares.c", *FLAGS), "endless"], extra={"PPROFAGENT_CPU": "timer"}
    )
    host.ready()
    host.go_on()
    trace = json.loads(record(host, "seconds=0.5&format=json"))
    assert not samples_of(trace) and "signal" in trace["metadata"]["cpu_samples_off"], trace[
        "metadata"
    ]
    assert host.health()["cpu_sampling"]["source"] is None, host.health()["cpu_sampling"]
    trace = json.loads(record(host, "seconds=1&format=json&hz=200"))
    assert samples_of(trace) and trace["metadata"]["cpu_samples_off"] is None
    host.kill()
