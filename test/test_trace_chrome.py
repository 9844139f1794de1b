"""Recordings as Chrome's JSON: what its unit test writes of a hand-made log and of random ones is
read back with a parser that is not the agent's."""
import json
import re

from trace_log import (
    BLOCKED,
    BORN,
    COUNTER,
    DISK,
    MARK,
    REASON,
    RUNNABLE,
    RUNNING,
    SAMPLE,
    STATES,
    check_apart,
    check_nested,
    recordings,
    shown,
)


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
