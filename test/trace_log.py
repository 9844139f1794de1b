"""The log that test/fixture_trace.c prints beside each recording: what a format must say of it."""
import os
import re
import subprocess

import harness
import pytest

(
    FOUND,
    BORN,
    NAMED,
    ENDED,
    RUNNING,
    RUNNABLE,
    BLOCKED,
    RELEASED,
    LOST,
    SAMPLE,
    MARK,
    MARK_BEGIN,
    MARK_END,
    COUNTER,
) = range(14)
STATES = (RUNNING, RUNNABLE, BLOCKED)
DISK, LOCK, CALLS = 6, 1, (3, 4, 5)
START, MICRO = 5000000, 1000
COUNT, SEED = 200, 1
REASON = 'for "no" reason'
APART = 400  # nanoseconds, for what Go's form sets apart


class Event:
    def __init__(self, words):
        (
            self.kind,
            self.at,
            self.tid,
            self.other,
            self.cpu,
            self.frames,
            self.reason,
            self.value,
        ) = [int(word) for word in words[:8]]
        self.text = bytes.fromhex(words[8].rstrip("."))


class Log:
    """states: tid -> [(kind, from, to, event)], gaps: [(tid, from, to, lost)], marks: [(tid, from,
    to)], arrows: {(from tid, to tid, released at, woken at)}, each as the log's rules say."""

    def __init__(self, path):
        with open(path) as file:
            lines = [line.split() for line in file]
        words = [int(word) for word in lines[0]]
        self.pid, self.start, self.end, self.sampled, self.lost = words[:5]
        self.sample_hz, self.has_no_samples = words[5:]
        self.events = [Event(words) for words in lines[1:]]
        self.end = max([self.end] + [event.at for event in self.events])
        self.states, self.gaps, self.arrows, self.names = {}, [], set(), {}
        self.open, self.releases, self.marks, self.open_marks = {}, {}, [], {}
        for event in self.events:
            self.add(event)
        for tid in list(self.open):
            self.close(tid, self.end)
        self.ended_marks = list(self.marks)  # those that did before the recording's end
        for tid in list(self.open_marks):
            self.close_marks(tid, self.end)

    def close(self, tid, at):
        state = self.open.pop(tid, None)
        if state:
            self.states[tid].append((state.kind, state.at, at, state))
        return state

    def close_marks(self, tid, at):
        for begin in self.open_marks.pop(tid, []):
            self.marks.append((tid, begin, at))

    def add(self, event):
        tid = event.tid
        if event.kind in (LOST, ENDED):
            self.close_marks(tid, event.at)
        elif event.kind == MARK_BEGIN:
            self.open_marks.setdefault(tid, []).append(event.at)
        elif event.kind == MARK_END and self.open_marks.get(tid):
            self.marks.append((tid, self.open_marks[tid].pop(), event.at))
        if event.kind in (FOUND, BORN):
            self.states[tid] = []
        elif event.kind == NAMED:
            self.names[tid] = event.text
        elif event.kind in STATES:
            before, release = self.close(tid, event.at), self.releases.pop(tid, None)
            if release and before.kind == BLOCKED and event.kind != BLOCKED:
                self.arrows.add((release.tid, tid, release.at, event.at))
            self.open[tid] = event
        elif event.kind == LOST:
            state = self.open.pop(tid)
            self.releases.pop(tid, None)
            self.gaps.append((tid, state.at, event.at, event.value))
        elif event.kind == ENDED:
            self.close(tid, event.at)
            self.releases.pop(tid, None)
        elif event.kind == RELEASED:
            waiting = self.open.get(event.other)
            if waiting and waiting.kind == BLOCKED:
                self.releases[event.other] = event

    def number(self, *kinds):
        return sum(event.kind in kinds for event in self.events)

    def lasting(self, tid):
        """Its states but for those of no time."""
        return [state for state in self.states[tid] if state[1] != state[2]]


def recordings(unit, tmp_path, count=COUNT):
    program = os.path.join(harness.BUILD, "test", unit)
    if not os.access(program, os.X_OK):
        pytest.skip("not built: make units")
    subprocess.run([program, str(tmp_path), str(count), str(SEED)], check=True, timeout=120)
    for number in range(count):
        with open(tmp_path / ("%d.out" % number), "rb") as file:
            yield number, Log(tmp_path / ("%d.log" % number)), file.read()


def shown(text):
    """As text_sink_json shows foreign bytes."""
    return re.sub("[\ufffd]+", "\ufffd", text.decode("utf-8", "replace"))


def check_nested(slices):
    """[(from, to)] of one lane, in the order that a viewer has them."""
    opened = []
    for begin, end in sorted(slices, key=lambda piece: piece[0]):
        while opened and opened[-1] <= begin:
            opened.pop()
        assert not opened or end <= opened[-1], (begin, end, opened)
        opened.append(end)


def check_apart(spans):
    for (_, _, end), (_, begin, _) in zip(spans, spans[1:]):
        assert end <= begin, spans
