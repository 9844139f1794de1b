"""Counters in execution traces, of a program that knows its numbers
(test/workloads/trace_counters.c)."""
import collections
import concurrent.futures
import json
import os

import go_trace_reader
import harness
import perfetto_reader
import pytest
from test_trace import Trace

BLOCKS, BLOCK, THREADS, BURN = 64, 1 << 20, 5, 500000000
EXACT = {"PPROFAGENT_MEMPROFILERATE": "1"}


def trace_of_all(host, query):
    """A trace and what the program says of the work that lies within it."""
    seconds = 3
    while True:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            recording = pool.submit(
                host.get, "trace?hz=0&seconds=%d%s" % (seconds, query), timeout=60
            )
            harness.poll(lambda: host.health()["trace"]["running"] == 1, "the recording to begin")
            host.go_on()
            line = host.line()
            in_time = host.health()["trace"]["running"] == 1
            status, _, body = recording.result()
            assert status == 200
            assert host.line() == "ready"
        if in_time:
            return body, [int(word) for word in line.split()]
        seconds *= 2
        assert seconds < 60, "the work is never done in time"


def at_time(points, at):
    return [value for when, value in points if when <= at][-1]


def integral(points, end):
    """Of what holds from each point to the next one."""
    ends = [at for at, _ in points[1:]] + [end]
    return sum(value * (until - at) for (at, value), until in zip(points, ends)) / 1e9


@pytest.mark.parametrize("cpu", ["auto", "timer"])
def test_their_values(cpu):
    host = harness.Host(
        [harness.build("trace_counters.c", "-O1")], extra=dict(EXACT, PPROFAGENT_CPU=cpu)
    )
    host.ready()
    before = host.health()["heap_estimate"]
    body, (all_there, until, _) = trace_of_all(host, "&format=json")
    after = host.health()["heap_estimate"]
    trace = json.loads(body)
    start = trace["metadata"]["start_ns"]
    counters = collections.defaultdict(list)
    for event in trace["traceEvents"]:
        if event["ph"] == "C":
            counters[event["name"]].append(
                (start + round(event["ts"] * 1000), event["args"]["value"])
            )
    assert set(counters) == {"heap in use", "allocation rate", "threads", "CPU"}
    heap, threads = counters["heap in use"], counters["threads"]
    assert len(heap) >= 6 and len(threads) == len(heap)
    assert heap[0][1] == before["inuse_bytes"]
    assert heap[-1][1] == after["inuse_bytes"] >= heap[0][1] + BLOCKS * BLOCK
    assert at_time(heap, until) - heap[0][1] >= BLOCKS * BLOCK and until - all_there > 290000000
    assert threads[0][1] == 1 and at_time(threads, until) == 1 + THREADS
    end = heap[-1][0]
    allocated = integral(counters["allocation rate"], end)
    truth = after["alloc_bytes"] - before["alloc_bytes"]
    assert truth >= BLOCKS * BLOCK and abs(allocated - truth) < 0.01 * truth, (allocated, truth)
    # In percent of a processor; what it uses beside the burning is little.
    used = integral(counters["CPU"], end) / 100
    assert 0.97 * BURN / 1e9 < used < 1.2 * BURN / 1e9, used
    host.kill()


def test_large_allocations():
    """Each that the heap profile samples: here all, as each block is larger than what is small."""
    host = harness.Host([harness.build("trace_counters.c", "-O1")], extra=EXACT)
    host.ready()
    trace = json.loads(trace_of_all(host, "&format=json")[0])
    found = [
        event
        for event in trace["traceEvents"]
        if event["ph"] == "i" and event["name"] == "allocation"
    ]
    assert [event["args"]["bytes"] for event in found] == [BLOCK] * BLOCKS
    assert {event["tid"] for event in found} == {host.pid}
    assert {trace["stackFrames"][event["sf"]]["name"] for event in found} == {"do_it"}
    times = [event["ts"] for event in found]
    assert all(5000 <= later - earlier for earlier, later in zip(times, times[1:]))
    harness.need("go")
    path = os.path.join(harness.scratch(), "trace")
    with open(path, "wb") as file:
        file.write(trace_of_all(host, "")[0])
    logs = [event.arguments for event in Trace(path).of("UserLog")]
    assert len([log for log in logs if log["category"] == "allocation"]) == BLOCKS, logs[:3]
    host.kill()


def test_in_the_other_forms():
    host = harness.Host([harness.build("trace_counters.c", "-O1")], extra=EXACT)
    host.ready()

    def check(heap):
        assert len(heap) >= 6 and max(heap) - min(heap) >= BLOCKS * BLOCK, heap

    perfetto = perfetto_reader.Trace(trace_of_all(host, "&format=perfetto")[0])
    assert {name for name, _, _ in perfetto.counters} == {
        "heap in use",
        "allocation rate",
        "threads",
        "CPU",
    }
    check([value for name, _, value in perfetto.counters if name == "heap in use"])
    go = go_trace_reader.Trace(trace_of_all(host, "&format=go22")[0])
    go.play()
    check(go.heap)
    harness.need("go")
    path = os.path.join(harness.scratch(), "trace")
    with open(path, "wb") as file:
        file.write(trace_of_all(host, "")[0])
    check([int(event.arguments["mem"]) for event in Trace(path).of("HeapAlloc")])
    host.kill()


def test_no_heap_where_that_is_off():
    host = harness.Host(
        [harness.build("trace_counters.c", "-O1")], extra={"PPROFAGENT_MEMPROFILERATE": "0"}
    )
    host.ready()
    trace = json.loads(host.get("trace?hz=0&seconds=0.6&format=json")[2])
    names = {event["name"] for event in trace["traceEvents"] if event["ph"] == "C"}
    assert names == {"threads", "CPU"}
    host.kill()
