"""Recordings as Chrome's JSON, Perfetto's protobuf and Go's second format: what their unit tests
write of a hand-made log and of random ones is read back with parsers that are not the agent's. What
it must say is reckoned from the log itself (test/fixture_trace.c prints it beside)."""
import json
import os
import re
import subprocess

import harness
import perfetto_reader
import go_trace_reader
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


# ---- what nests ---------------------------------------------------------------------------------


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


# ---- Chrome's JSON ------------------------------------------------------------------------------


class Chrome:
    def __init__(self, data):
        self.all = json.loads(data.decode("utf-8"))
        assert list(self.all)[0] not in ("meta", "libs") and data.startswith(b'{"')
        self.events = self.all["traceEvents"]
        self.start = self.all["metadata"]["start_ns"]

    def time(self, event, key="ts"):
        return round(event[key] * 1000) + (self.start if key == "ts" else 0)

    def of(self, phase, category=None):
        return [
            event
            for event in self.events
            if event["ph"] == phase and category in (None, event.get("cat"))
        ]

    def spans(self, events):
        return [
            (event["tid"], self.time(event), self.time(event) + self.time(event, "dur"))
            for event in events
        ]


def check_chrome_states(log, chrome):
    names = {RUNNING: "Running", RUNNABLE: "R", BLOCKED: "S"}
    for tid in log.states:
        said = [
            (event["name"], self_from, self_to)
            for event, (_, self_from, self_to) in zip(chrome.of("T"), chrome.spans(chrome.of("T")))
            if event["tid"] == tid
        ]
        assert said == [
            ("D" if kind == BLOCKED and event.reason == DISK else names[kind], begin, end)
            for kind, begin, end, event in log.lasting(tid)
        ]
        check_apart(said)
    gaps = sorted(chrome.spans(chrome.of("X", "gap")))
    for tid in log.states:  # cut by marks
        assert sum(end - begin for of, begin, end in gaps if of == tid) == sum(
            end - begin for of, begin, end, _ in log.gaps if of == tid
        )


def check_chrome_slices(log, chrome):
    slices = chrome.spans(chrome.of("X"))
    for tid in log.states:
        check_nested([(begin, end) for of, begin, end in slices if of == tid])
        waited = sum(
            end - begin for of, begin, end in chrome.spans(chrome.of("X", "wait")) if of == tid
        )
        assert waited == sum(
            end - begin for kind, begin, end, _ in log.states[tid] if kind == BLOCKED
        )
    assert sorted(chrome.spans(chrome.of("X", "mark"))) == sorted(log.marks)
    assert len(chrome.of("i", "mark")) == log.number(MARK)
    samples = [event for event in log.events if event.kind == SAMPLE]
    assert [event.get("args", {}).get("cpu_ns", 0) for event in chrome.of("i", "sample")] == [
        event.value for event in samples
    ]
    bytes_of = [event.get("args", {}).get("bytes", 0) for event in chrome.of("i", "mark")]
    assert bytes_of == [event.value for event in log.events if event.kind == MARK]
    assert len(chrome.of("C")) == log.number(COUNTER)


def check_chrome_arrows(log, chrome):
    begins = {event["id"]: event for event in chrome.of("s")}
    ends = {event["id"]: event for event in chrome.of("f")}
    assert len(begins) == len(chrome.of("s")) and len(ends) == len(chrome.of("f"))
    assert set(begins) == set(ends)
    arrows = {
        (begins[i]["tid"], ends[i]["tid"], chrome.time(begins[i]), chrome.time(ends[i]))
        for i in begins
    }
    assert log.arrows <= arrows
    starts = {(tid, begin) for tid, begin, _ in chrome.spans(chrome.of("X"))}
    for of, to, released, woken in arrows:
        assert released <= woken and (of, released) in starts and (to, woken) in starts
    assert len(arrows - log.arrows) <= log.number(BORN) + log.number(*STATES)


def check_chrome_rest(log, chrome):
    about = chrome.all["metadata"]
    assert about["lost"] == log.lost and about["pid"] == log.pid
    assert about["states"] == ("sampled" if log.sampled else "recorded")
    assert about["cpu_sample_hz"] == log.sample_hz
    assert about["cpu_samples_off"] == (REASON if log.has_no_samples else None)
    names = {
        event["tid"]: event["args"]["name"]
        for event in chrome.of("M")
        if event["name"] == "thread_name"
    }
    assert {tid: shown(name) for tid, name in log.names.items() if name} == {
        tid: re.sub("[\ufffd]+", "\ufffd", name) for tid, name in names.items()
    }
    frames = chrome.all["stackFrames"]
    for event in chrome.events:
        frame = event.get("sf")
        while frame is not None:
            frame = frames[frame].get("parent")


def test_chrome(tmp_path):
    for number, log, data in recordings("unit_chrome_trace", tmp_path):
        chrome = Chrome(data)
        check_chrome_states(log, chrome)
        check_chrome_slices(log, chrome)
        check_chrome_arrows(log, chrome)
        check_chrome_rest(log, chrome)
        if number == 0:
            check_chrome_hand_made(chrome)


def check_chrome_hand_made(chrome):
    def micro(event):
        return event["tid"] - 100, event["ts"], event["dur"]

    assert [micro(event) for event in chrome.of("T") if event["name"] == "Running"] == [
        (0, 0, 60),
        (2, 75, 15),
        (2, 100, 10),
        (0, 120, 30),
    ]  # not 1 at 45: lost
    assert {event["args"]["cpu"] for event in chrome.of("T") if event["name"] == "Running"} == {0}
    assert {event["name"]: micro(event) for event in chrome.of("X", "wait")} == {
        "futex": (1, 0, 41),
        "read: pipe:[1]": (0, 60, 60),
        "D": (2, 90, 10),
        "sleep": (1, 140, 60),
    }
    assert {event["name"]: micro(event) for event in chrome.of("X", "mark")} == {
        "outer": (0, 20, 110),
        "inner": (0, 30, 20),
    }
    assert [(event["tid"], event["ts"], event["id"]) for event in chrome.of("s")] == [
        (100, 40, 1),
        (101, 70, 2),
    ]
    assert [(event["tid"], event["ts"], event["id"]) for event in chrome.of("f")] == [
        (101, 41, 1),
        (102, 70, 2),
    ]
    assert [(event["name"], event["args"]["value"]) for event in chrome.of("C")] == [
        ("heap in use", 4096),
        ("threads", 2),
    ]
    assert [(event["name"], event.get("args")) for event in chrome.of("i", "mark")] == [
        ("instant", None),
        ("allocation", {"bytes": 1048576}),
    ]
    names, frame = [], [event["sf"] for event in chrome.of("X", "wait") if "sf" in event][0]
    while frame is not None:
        names.append(chrome.all["stackFrames"][frame]["name"])
        frame = chrome.all["stackFrames"][frame].get("parent")
    assert names == ["futex_wait", 'inlined<"a">', 'inlined<"a">', "work", "main"]


# ---- Perfetto -----------------------------------------------------------------------------------


def check_perfetto_states(log, trace):
    kinds = {RUNNING: "RUNNING", RUNNABLE: "RUNNABLE", BLOCKED: "INTERRUPTIBLE_SLEEP"}
    by_cpu = not log.sampled and bool(trace.states)
    for tid in log.states:
        said = [
            (name, begin, end)
            for name, begin, end in trace.state_spans(tid, log.end)
            if name not in ("DEAD", "DESTROYED")
        ]
        ended = [event.at for event in log.events if event.tid == tid and event.kind == ENDED]
        wanted = [
            (
                "UNINTERRUPTIBLE_SLEEP"
                if kind == BLOCKED and event.reason == DISK
                else kinds[kind],
                begin,
                end,
            )
            for kind, begin, end, event in log.lasting(tid)
        ]
        wanted += [
            ("STOPPED", begin, end) for of, begin, end, _ in log.gaps if of == tid and begin != end
        ]
        if not by_cpu:
            wanted = [(perfetto_reader.SLICE_NAMES[name], *span) for name, *span in wanted]
            said = trace.state_slices(tid)
        wanted.sort(key=lambda span: span[1])
        assert perfetto_reader.merged(said) == perfetto_reader.merged(wanted)
        check_apart(said)
        for at, name, cpu in trace.states.get(tid, []):
            assert name != "RUNNING" or cpu in [
                event.cpu
                for kind, begin, _, event in log.states[tid]
                if kind == RUNNING and begin == at
            ], (tid, at)
        if by_cpu and ended:
            last = "DEAD" if tid == log.pid else "DESTROYED"
            assert trace.states[tid][-1][:2] == (ended[0], last)


def check_perfetto_slices(log, trace):
    for tid in log.states:
        slices = trace.slices(trace.thread_tracks[tid])
        check_nested([(piece.begin, piece.end) for piece in slices])
        waited = sum(piece.end - piece.begin for piece in slices if piece.category == "wait")
        assert waited == sum(
            end - begin for kind, begin, end, _ in log.states[tid] if kind == BLOCKED
        )
        lost = sum(piece.end - piece.begin for piece in slices if piece.category == "gap")
        assert lost == sum(end - begin for of, begin, end, _ in log.gaps if of == tid)
    marks = [
        (tid, piece.begin, piece.end)
        for tid, track in trace.thread_tracks.items()
        for piece in trace.slices(track)
        if piece.category == "mark"
    ]
    assert sorted(marks) == sorted(log.marks)
    instants = [instant.category for instant in trace.instants]
    assert instants.count("mark") == log.number(MARK)
    sampled = [each.notes.get("cpu_ns", 0) for each in trace.instants if each.category == "sample"]
    assert sampled == [event.value for event in log.events if event.kind == SAMPLE]
    counted = [event for event in log.events if event.kind == COUNTER]
    assert [value for _, _, value in trace.counters] == [
        min(event.value, 2**63 - 1) for event in counted
    ]


def check_perfetto_arrows(log, trace):
    assert set(trace.flows_out) == set(trace.flows_in)
    arrows = {trace.flows_out[flow][::-1] + trace.flows_in[flow] for flow in trace.flows_out}
    said = {
        (trace.tid_of(of), trace.tid_of(to), released, woken)
        for of, released, to, woken in {(a[0], a[1], a[3], a[2]) for a in arrows}
    }
    assert log.arrows <= said
    for _, _, released, woken in said:
        assert released <= woken


def test_perfetto(tmp_path):
    with_tables = with_slices = 0
    for number, log, data in recordings("unit_perfetto_trace", tmp_path):
        trace = perfetto_reader.Trace(data)
        check_perfetto_states(log, trace)
        check_perfetto_slices(log, trace)
        check_perfetto_arrows(log, trace)
        assert {tid: name for tid, name in trace.names.items() if name} == {
            tid: perfetto_reader.as_utf8(name) for tid, name in log.names.items() if name
        }
        recording = [instant for instant in trace.instants if instant.category == "recording"]
        assert [instant.notes["lost"] for instant in recording] == [log.lost]
        assert recording[0].notes["states"] == ("sampled" if log.sampled else "recorded")
        assert recording[0].notes["cpu_sample_hz"] == log.sample_hz
        assert recording[0].notes.get("cpu_samples_off") == (REASON if log.has_no_samples else None)
        with_tables += bool(trace.states)
        with_slices += not trace.states
        if number == 0:
            check_perfetto_hand_made(trace)
    assert with_tables > 20 and with_slices > 20  # of both kinds


def check_perfetto_hand_made(trace):
    def micro(spans):
        return [
            (name, (begin - START) // MICRO, (end - START) // MICRO) for name, begin, end in spans
        ]

    assert micro(trace.state_spans(101, START + 200 * MICRO)) == [
        ("INTERRUPTIBLE_SLEEP", 0, 41),
        ("RUNNABLE", 41, 45),
        ("STOPPED", 45, 140),
        ("INTERRUPTIBLE_SLEEP", 140, 200),
    ]
    assert [cpu for at, state, cpu in trace.states[102] if state == "RUNNING"] == [0, 0]
    waits = [piece for piece in trace.slices(trace.thread_tracks[101]) if piece.name == "futex"]
    assert waits[0].stack == [
        ("main", "/src/main.c", 30),
        ("work", "/src/work.c", 20),
        ('inlined<"a">', "/src/in.h", 9),
        ('inlined<"a">', "/src/in.h", 7),
        ("futex_wait", "", 0),
    ]
    assert {name for name, _, _ in trace.counters} == {"heap in use", "threads"}
    release = [instant for instant in trace.instants if instant.name == "release"][0]
    assert release.notes == {"thread": 101, "lock": 0x7F00}


# ---- Go -----------------------------------------------------------------------------------------


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
