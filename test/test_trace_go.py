"""Recordings in Go's second format, read back with a parser that is not the agent's, and by Go."""
import os
import subprocess

import go_trace_reader
import perfetto_reader
import pytest
from trace_log import (
    APART,
    BLOCKED,
    CALLS,
    ENDED,
    MARK,
    MICRO,
    REASON,
    RUNNABLE,
    RUNNING,
    SAMPLE,
    START,
    recordings,
)


def go_spans(log, tid):
    """What Go calls the thread's states; waits of system calls apart."""
    spans = [
        (
            {RUNNING: "Running", RUNNABLE: "Runnable"}.get(kind)
            or ("Syscall" if event.reason in CALLS else "Waiting"),
            begin,
            end,
        )
        for kind, begin, end, event in log.lasting(tid)
    ]
    spans += [
        ("Waiting", begin, end) for of, begin, end, _ in log.gaps if of == tid and begin != end
    ]
    return perfetto_reader.merged(sorted(spans, key=lambda span: span[1]))


def check_go_states(wanted, said, happened):
    """What is at one time in the log is set apart, so that no end is at its very time; and there
    are states for a moment between others: in the log itself, and for a mark within a wait."""
    for name, begin, end in wanted:
        begin, end = begin + APART, end - APART
        there = sum(
            max(0, min(until, end) - max(since, begin)) for of, since, until in said if of == name
        )
        assert there >= end - begin - 10 * happened, (name, begin, end, said)


def check_go_regions(log, trace):
    """Those open at a thread's end have none."""
    ends = {(event.tid, event.at) for event in log.events if event.kind == ENDED}
    marks = [mark for mark in log.ended_marks if (mark[0], mark[2]) not in ends]
    for tid, begin, end in marks:
        assert any(
            of == tid and 0 <= since - begin <= APART and 0 <= until - end <= APART
            for of, _, since, until in trace.regions
        ), (tid, begin, end)
    assert len(marks) <= len(trace.regions) <= len(log.marks)


def check_go_stacks(log, trace):
    """Of the samples: at most 128 frames, and that some are missing is said."""
    frames = [event.frames for event in log.events if event.kind == SAMPLE]
    stacks = [trace.stacks[stack] for stack in trace.samples]
    assert [len(stack) for stack in stacks] == [min(count, 128) for count in frames]
    for count, stack in zip(frames, stacks):
        if count > 128:
            assert trace.strings[stack[-1][1]] == "[truncated]"


def test_go(tmp_path):
    for number, log, data in recordings("unit_go_trace_v2", tmp_path):
        trace = go_trace_reader.Trace(data)
        trace.play()
        for tid in log.states:
            happened = sum(event.tid == tid for event in log.events)
            check_go_states(go_spans(log, tid), trace.spans(tid, log.end), happened)
        check_go_stacks(log, trace)
        said = [value for _, key, value in trace.logs if key == "recording"]
        assert len(trace.logs) == log.number(MARK) + len(said) and len(said) <= 1
        assert all(("sampled" in value) == bool(log.sampled) for value in said)
        assert all((REASON in value) == bool(log.has_no_samples) for value in said)
        has_samples = log.sample_hz and not log.has_no_samples
        assert all(
            ("%d CPU samples a second" % log.sample_hz in value) == bool(has_samples)
            for value in said
        )
        check_go_regions(log, trace)
        wakes = trace.wakes
        alive = {event.tid: event.at for event in log.events if event.kind == ENDED}
        for of, to, _, woken in log.arrows:
            waits = [
                event.reason
                for kind, _, end, event in log.states[to]
                if kind == BLOCKED and end == woken
            ]
            if not set(waits) & set(CALLS) and alive.get(of, woken + 1) > woken:
                assert any(
                    (of, to) == wake[:2] and woken <= wake[2] <= woken + APART for wake in wakes
                ), (of, to, woken)
        if number == 0:
            check_go_hand_made(trace)


def check_go_hand_made(trace):
    assert trace.labels == {100: "main", 101: "wor\"k\\er?\n1"}
    assert (100, 101, START + 41 * MICRO) in trace.wakes
    assert trace.reasons[101] == ["sync: futex"] + ["12 records lost"] * 3 + ["sleep"]
    assert trace.heap == [4096]
    assert trace.logs == [
        (100, "recording", "states recorded, 12 records lost"),
        (101, "instant", ""),
        (101, "allocation", "1048576 bytes"),
    ]
    assert trace.ended == [START + 200 * MICRO, START + 200 * MICRO + 1]
    assert sorted(trace.regions) == [
        (100, "inner", START + 30 * MICRO, START + 50 * MICRO),
        (100, "outer", START + 20 * MICRO, START + 130 * MICRO),
    ]
    stack = trace.stack_of_reason("sync: futex")
    assert [frame[1:] for frame in stack] == [
        ("futex_wait", "", 0),
        ('inlined<"a">', "/src/in.h", 7),
        ('inlined<"a">', "/src/in.h", 9),
        ("work", "/src/work.c", 20),
        ("main", "/src/main.c", 30),
    ]
    assert len({frame[0] for frame in stack}) == 5  # the inlined ones have pcs of their own


def newer_go():
    for root in [os.environ.get("PPROFAGENT_GO22", "")] + [
        "/usr/lib/go-1.%d" % minor for minor in range(40, 21, -1)
    ]:
        tool = os.path.join(root, "pkg/tool/linux_amd64/trace")
        if root and os.access(tool, os.X_OK):
            return tool
    return pytest.skip("no Go >= 1.22 (PPROFAGENT_GO22 may name its directory)")


def test_go_by_its_own_reader(tmp_path):
    tool = newer_go()
    for number, log, _ in recordings("unit_go_trace_v2", tmp_path, 40):
        done = subprocess.run(
            [tool, "-d=parsed", str(tmp_path / ("%d.out" % number))],
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, (number, done.stderr[:1000])
        spans = go_trace_reader.parsed_spans(done.stdout.decode(), log.end)
        for tid in log.states:
            wanted = {}
            for name, begin, end in go_spans(log, tid):
                wanted[name] = wanted.get(name, 0) + end - begin
            for name, total in wanted.items():  # it moves what is at one time apart, by 1 ns each
                assert abs(spans.get((tid, name), 0) - total) <= 4 * len(log.events), (number, tid)
