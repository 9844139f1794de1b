"""The flight recorder: `trace?last=` gives what has just happened, of a program that knows its own
schedule (test/workloads/trace_schedule.c)."""
import collections
import html
import json
import socket
import time

import harness
import pytest
from process_tree import Port, Process
from test_trace import (
    MILLISECOND,
    SECOND,
    Trace,
    lines_until_the_end,
    overlap,
    pprof_of,
    record,
    recorded_lines,
    start,
    wakes_of,
)

FEW = {"PPROFAGENT_FLIGHT": "2s"}


def flight(host):
    return host.health()["trace"]["flight"]


def await_seconds(host, seconds):
    harness.poll(lambda: flight(host)["kept_seconds"] >= seconds, "%g s of flight" % seconds)


@pytest.mark.parametrize("cpu", ["auto", "timer"])
def test_what_has_just_happened(cpu):
    host = start(extra=dict(FEW, PPROFAGENT_CPU=cpu))
    await_seconds(host, 2)
    path = record(host, "last=1s")
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    health = host.health()["trace"]
    trace, lines = Trace(path), lines_until_the_end(host)
    assert now - 3 * SECOND < trace.start < trace.end < now
    assert 0.9 * SECOND < trace.end - trace.start < 1.1 * SECOND
    assert health["lost"] == 0 and health["left_out"] == 0, health
    found, checked = recorded_lines(trace, lines), collections.Counter()
    for line in found["waits"]:
        if line.end - line.begin < 2 * MILLISECOND:
            continue
        holds = [each for each in found["holds"] if overlap(each, line) and each.end < line.end]
        if len(holds) == 1 and line.begin < holds[0].end - MILLISECOND:
            assert [wake.g for wake in wakes_of(trace, line)] == [holds[0].tid], line
            checked["waits"] += 1
    for line in found["is_signalled"]:
        for by in [each for each in found["signals"] if overlap(each, line)]:
            if by.begin > line.begin + MILLISECOND:
                assert [wake.g for wake in wakes_of(trace, line)] == [by.tid], line
                checked["is_signalled"] += 1
    if not health["sampled_because"]:
        for line in found["holds"]:
            for moment in (line.begin, line.end):
                assert "running" in trace.state_at(line.tid, moment), line
            checked["holds"] += 1
    assert min(checked.values()) > 5 and checked["waits"] > 5, checked
    assert "wait_for_the_mutex" in pprof_of(path, "sync")


def test_no_second_is_missing_when_the_parts_take_turns():
    host = start(extra={"PPROFAGENT_FLIGHT": "1s"})
    await_seconds(host, 1)
    kept = []
    for _ in range(8):
        path = record(host, "last=1s")
        kept.append(flight(host)["kept_seconds"])
        trace = Trace(path)
        assert trace.end - trace.start > 0.95 * SECOND, kept
        assert b"sleeper" in trace.bytes, "a name that was given long ago"
        begins = sorted(span.begin for spans in trace.spans.values() for span in spans)
        gaps = [later - sooner for sooner, later in zip(begins, begins[1:])]
        assert max(gaps) < 100 * MILLISECOND, "rounds take some 20 ms"
    assert all(1 <= seconds < 2.5 for seconds in kept), kept
    lines_until_the_end(host)


def test_it_stays_within_its_memory_and_goes_on():
    host = start(extra={"PPROFAGENT_FLIGHT": "1h", "PPROFAGENT_TRACE_BUFFER": "1M"})
    each = 2 << 20

    def turned():
        state = flight(host)
        assert state["bytes"] <= 2 * each + (64 << 10), state
        return state["kept_seconds"] + 2 < time.monotonic() - begun

    begun = time.monotonic()
    harness.poll(turned, "the older part to go", seconds=60)
    path = record(host, "last=1h")
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    trace = Trace(path)
    assert now - trace.end < 3 * SECOND, "what has just happened is there, not what was first"
    assert host.health()["trace"]["lost"] == 0
    lines_until_the_end(host)


def test_others_record_at_the_same_time():
    host = start(extra=FEW)
    await_seconds(host, 1)
    path = record(host, "seconds=0.5&hz=0")
    last = record(host, "last=0.4s")
    assert flight(host)["runs"] and flight(host)["kept_seconds"] >= 1
    assert host.health()["trace"]["threads_with_ring"] >= 9
    assert len(Trace(path).spans) >= 9 and len(Trace(last).spans) >= 9
    lines_until_the_end(host)


def test_no_more_than_four_are_answered_at_once():
    """Each has a copy, for as long as it reads: here one byte of more than the kernel buffers."""
    host = start(extra={"PPROFAGENT_FLIGHT": "8s"})
    await_seconds(host, 8)
    slow = []
    for _ in range(4):
        connection = socket.create_connection(host.address)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(
            b"GET /debug/pprof/trace?last=8s&format=json HTTP/1.1\r\n"
            b"Host: %s:%d\r\n\r\n" % (host.address[0].encode(), host.address[1])
        )
        assert connection.recv(1)
        slow.append(connection)
    asked = host.get("trace?last=1s")
    assert asked[0] == 503 and asked[2] == b"too many traces are running: at most 4 at once\n"
    for connection in slow:
        connection.close()
    harness.poll(lambda: host.get("trace?last=1s")[0] == 200, "a place")
    lines_until_the_end(host)


def test_each_process_keeps_its_own():
    port = Port()
    parent = Process(port, extra={"PPROFAGENT_FLIGHT": "30s"})
    child = parent.do("fork spin")
    port.await_processes([parent.pid, child])
    for pid in (parent.pid, child):
        harness.poll(lambda: port.health(pid)["trace"]["flight"]["kept_seconds"] > 0.5, "%d" % pid)
        events = json.loads(port.ok("trace?last=10s&format=json", pid))["traceEvents"]
        assert {event["pid"] for event in events} == {pid}


def test_off_and_wrong_values():
    host = harness.Host(["/bin/sleep", "600"])
    asked = host.get("trace?last=5s")
    assert asked[0] == 500 and asked[2] == (
        b"the flight recorder is off: start the program with PPROFAGENT_FLIGHT=10s\n"
    )
    assert flight(host) == {
        "seconds": 0,
        "runs": False,
        "kept_seconds": 0,
        "bytes": 0,
        "off_because": None,
    }
    assert host.health()["trace"]["events"] == 0, "nothing is armed"
    host.kill()
    host = harness.Host(["/bin/sleep", "600"], extra={"PPROFAGENT_FLIGHT": "ten"})
    assert 'PPROFAGENT_FLIGHT: "ten" is not a duration' in html.unescape(host.text(""))
    assert not flight(host)["runs"]
    host.kill()
    host = harness.Host(["/bin/sleep", "600"], extra={"PPROFAGENT_FLIGHT": "1500ms"})
    assert flight(host)["seconds"] == 2
    for query, text in (
        ("last=x", b'invalid value for "last" - must be a duration such as 90s, 10m or 2h\n'),
        ("last=1s&seconds=1", b"seconds and last params are incompatible\n"),
        ("last=1s&hz=100", b"hz and last params are incompatible\n"),
    ):
        assert (400, text) == (lambda answer: (answer[0], answer[2]))(host.get("trace?" + query))
    host.kill()
