"""A program's own marks in its traces, by include/pprof_trace.h: of a program that knows when it
set them (test/workloads/trace_marks.c)."""
import collections
import json
import os
import re
import subprocess

import go_trace_reader
import harness
import perfetto_reader
import pytest
from test_trace import Trace

Line = collections.namedtuple("Line", "tid begin end what")
MILLISECOND = 1000000
LONG = "x" * 79


def program(*flags):
    return harness.build("trace_marks.c", *(flags or ("-O1",)))


class Marked:
    """A host, and what it says of its marks."""

    def __init__(self, **options):
        self.journal = os.path.join(harness.scratch(), "journal")
        with open(self.journal, "wb") as file:
            self.host = harness.Host([program()], stdout=file, **options)
        harness.poll(lambda: os.path.getsize(self.journal), "a first round")

    def record(self, query):
        status, headers, body = self.host.get("trace?seconds=1&hz=0&" + query, timeout=60)
        assert status == 200, body[:200]
        return body

    def regions(self, begin, end):
        """[(tid, name, its begin's line, its end's)] and the marks, that lie within."""
        assert self.host.finish() == 0
        regions, marks, opened = [], [], collections.defaultdict(list)
        with open(self.journal) as file:
            lines = [Line(*map(int, words[:3]), words[3]) for words in map(split, file)]
        for line in lines:
            kind, _, name = line.what.partition(" ")
            if kind == "begin":
                opened[line.tid].append((name, line))
            elif kind == "end" and name:
                name, first = opened[line.tid].pop()
                if begin < first.begin and line.end < end:
                    regions.append((line.tid, name, first, line))
            elif kind == "mark" and begin < line.begin and line.end < end:
                marks.append(line._replace(what=LONG if name == "long" else name))
        assert len(regions) > 100 and len(marks) > 60
        return regions, marks


def split(line):
    return line.rstrip("\n").split(" ", 3)


def check(wanted_regions, wanted_marks, regions, marks, slack=0):
    """regions: {(tid, name): [(begin, end)]}; marks: {(tid, name): [at]}. Each is where the program
    says, once, and there are no others within."""
    for tid, name, first, last in wanted_regions:
        found = [
            (begin, end)
            for begin, end in regions[tid, name]
            if first.begin - slack <= begin <= first.end + slack
        ]
        assert len(found) == 1, (tid, name, first, last, found)
        assert last.begin - slack <= found[0][1] <= last.end + slack, (name, first, last, found)
    for line in wanted_marks:
        found = [
            at for at in marks[line.tid, line.what] if line.begin - slack <= at <= line.end + slack
        ]
        assert len(found) == 1, (line, found)
    names = {name for _, name, _, _ in wanted_regions}
    assert {name for _, name in regions} == names and names == {"outer", "inner", 'quo"te'}
    assert {name for _, name in marks} == {"here", LONG}


@pytest.mark.parametrize("cpu", ["auto", "timer"])
def test_json(cpu):
    marked = Marked(extra={"PPROFAGENT_CPU": cpu})
    trace = json.loads(marked.record("format=json"))
    cut = marked.host.health()["trace"]["names_cut"]
    start = trace["metadata"]["start_ns"]
    regions, marks = collections.defaultdict(list), collections.defaultdict(list)
    stacks = set()
    for event in trace["traceEvents"]:
        if event.get("cat") != "mark":
            continue
        key, at = (event["tid"], event["name"]), start + round(event["ts"] * 1000)
        if event["ph"] == "X":
            regions[key].append((at, at + round(event["dur"] * 1000)))
        else:
            marks[key].append(at)
        stacks.add(trace["stackFrames"][event["sf"]]["name"])
    wanted = marked.regions(
        start + MILLISECOND, start + trace["metadata"]["duration_ns"] - MILLISECOND
    )
    check(*wanted, regions, marks, slack=2)
    assert stacks == {"mark_a_round"}, stacks
    assert cut >= len([line for line in wanted[1] if line.what == LONG])


def test_perfetto():
    marked = Marked()
    trace = perfetto_reader.Trace(marked.record("format=perfetto"))
    regions, marks = collections.defaultdict(list), collections.defaultdict(list)
    for tid, track in trace.thread_tracks.items():
        for piece in trace.slices(track):
            if piece.category == "mark":
                regions[tid, piece.name].append((piece.begin, piece.end))
    instants = [instant for instant in trace.instants if instant.category == "mark"]
    at_once = collections.Counter(instant.name for instant in instants)
    recording = [each for each in trace.instants if each.category == "recording"][0]
    start, end = recording.begin, recording.begin + recording.notes["duration_ns"]
    wanted_regions, wanted_marks = marked.regions(start + MILLISECOND, end - MILLISECOND)
    for line in wanted_marks:  # an instant says no thread to this reader
        found = [
            each
            for each in instants
            if each.name == line.what and line.begin <= each.begin <= line.end
        ]
        assert found
        marks[line.tid, line.what].append(found[0].begin)
    check(wanted_regions, wanted_marks, regions, marks)
    assert set(at_once) == {"here", LONG}


def test_go_1_22():
    marked = Marked()
    trace = go_trace_reader.Trace(marked.record("format=go22"))
    trace.play()
    regions = collections.defaultdict(list)
    for tid, name, begin, end in trace.regions:
        regions[tid, name].append((begin, end))
    times = [at for events in trace.threads.values() for at, _, _ in events]
    wanted_regions, wanted_marks = marked.regions(
        min(times) + MILLISECOND, max(times) - MILLISECOND
    )
    logs = collections.Counter((tid, key) for tid, key, _ in trace.logs)
    for tid, name in {(line.tid, line.what) for line in wanted_marks}:
        wanted = [line for line in wanted_marks if (line.tid, line.what) == (tid, name)]
        assert len(wanted) <= logs[tid, name] <= len(wanted) + 3
    marks = {(line.tid, line.what): [] for line in wanted_marks}
    for line in wanted_marks:
        marks[line.tid, line.what].append(line.begin)
    check(wanted_regions, wanted_marks, regions, marks, slack=1000)


@pytest.mark.parametrize("cpu", ["auto", "timer"])
def test_go_1_11(cpu):
    harness.need("go")
    marked = Marked(extra={"PPROFAGENT_CPU": cpu})
    path = os.path.join(harness.scratch(), "trace")
    with open(path, "wb") as file:
        file.write(marked.record(""))
    trace = Trace(path)
    regions, marks = collections.defaultdict(list), collections.defaultdict(list)
    opened = collections.defaultdict(list)
    for event in trace.events:
        if event.kind == "UserLog":
            if event.arguments["category"] == "mark":
                marks[event.g, event.arguments["message"]].append(event.at)
        elif event.kind == "UserRegion":
            if event.arguments["mode"] == "0":
                opened[event.g].append(event.at)
            else:
                name = event.arguments["name"]
                regions[event.g, name].append((opened[event.g].pop(), event.at))
    check(
        *marked.regions(trace.start + MILLISECOND, trace.end - MILLISECOND),
        regions,
        marks,
        slack=1000
    )


@pytest.mark.parametrize(
    "flags", [("-O1",), ("-O2", "-fPIE", "-pie"), ("-O2", "-fPIE", "-no-pie"), ("-O0", "-xc++")]
)
def test_with_nobody_to_be_told(flags):
    """Linked with nothing; without the agent it says so and runs as ever."""
    argv = [program(*flags), "-"]
    plain, found = harness.run(argv, plain=True), harness.run(argv)
    assert (plain.returncode, plain.stdout) == (0, b"nobody\n"), plain
    assert (found.returncode, found.stdout) == (0, b"told\n"), found


def test_functions_of_others_by_these_names_are_theirs():
    library = harness.build("marks_of_others.c", "-O1", shared=True)
    others = harness.build("marks_of_others.c", "-O1", "-DPROGRAM", "-Wl,--no-as-needed", library)
    for options in ({"plain": True}, {}, {"extra": {"LD_BIND_NOW": "1"}}):
        found = harness.run([others], **options)
        assert (found.returncode, found.stdout) == (0, b"mark\nbegin\nend\n"), (options, found)


def test_it_is_installed(tmp_path):
    subprocess.run(
        ["make", "-s", "install", "DESTDIR=%s" % tmp_path, "PREFIX=/usr"],
        cwd=harness.ROOT,
        check=True,
        capture_output=True,
    )
    header = tmp_path / "usr/include/pprof_trace.h"
    for compiler in (["gcc", "-std=c99"], ["gcc", "-std=c11", "-Wpedantic"], ["g++"]):
        subprocess.run(
            [
                *compiler,
                "-Wall",
                "-Wextra",
                "-Werror",
                "-fsyntax-only",
                "-x",
                "c++" if compiler == ["g++"] else "c",
                str(header),
            ],
            check=True,
        )
    assert re.search("pprof_trace_end", header.read_text())
