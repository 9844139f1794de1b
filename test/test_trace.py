"""Execution traces, read by the real `go tool trace`; what they say against a workload that knows
its own schedule (test/workloads/trace_schedule.c)."""
import collections
import http.client
import os
import re
import subprocess

import harness
import pytest

WORKLOAD = "trace_schedule.c"
MICROSECOND, MILLISECOND, SECOND = 1000, 1000000, 1000000000

Line = collections.namedtuple("Line", "tid what begin end cpu")
Event = collections.namedtuple("Event", "at kind g arguments")
Span = collections.namedtuple("Span", "begin end state")


def start(**options):
    harness.need("go")
    journal = os.path.join(harness.scratch(), "journal")
    with open(journal, "wb") as file:
        host = harness.Host(
            [harness.build(WORKLOAD, "-O1", "-g", "-pthread")], stdout=file, **options
        )
    host.journal = journal
    harness.poll(lambda: os.path.getsize(journal), "a first round")
    return host


def record(host, query="seconds=1"):
    status, headers, body = host.get("trace?" + query, timeout=60)
    assert status == 200, (status, body[:200])
    assert headers["Content-Disposition"] == 'attachment; filename="trace"'
    path = os.path.join(harness.scratch(), "trace")
    with open(path, "wb") as file:
        file.write(body)
    return path


def lines_until_the_end(host):
    assert host.finish() == 0
    with open(host.journal) as file:
        text = file.read()
    found = []
    for line in text.splitlines():
        tid, what, begin, end, cpu = line.split()
        found.append(Line(int(tid), what, int(begin), int(end), int(cpu)))
    return found


def go_trace(*arguments):
    done = subprocess.run(
        ["go", "tool", "trace", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def leb128(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 0x80:
            return value, at


class Trace:
    """What `go tool trace -d` prints, at the times of CLOCK_MONOTONIC."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.bytes = file.read()
        assert self.bytes[:16] == b"go 1.11 trace\0\0\0"
        _, at = leb128(self.bytes, 17)  # the first event is a batch: its P and its ticks
        self.start, _ = leb128(self.bytes, at)
        self.events = []
        for line in go_trace("-d", path).decode(errors="replace").splitlines():
            match = re.match(r"(\d+) (\w+) p=\d+ g=(\d+) off=\d+(.*)", line)
            if match:
                at, kind, g, rest = match.groups()
                self.events.append(
                    Event(
                        self.start + int(at), kind, int(g), dict(re.findall(r" (\w+)=(\S*)", rest))
                    )
                )
        assert self.events
        self.end = self.events[-1].at
        self.spans = self._spans()

    def of(self, kind):
        return [event for event in self.events if event.kind == kind]

    def _spans(self):
        spans, now = collections.defaultdict(list), {}

        def become(g, at, state):
            if g in now:
                spans[g].append(Span(now[g][0], at, now[g][1]))
            now[g] = (at, state)

        for event in self.events:
            target = int(event.arguments.get("g", event.g))
            if event.kind in ("GoCreate", "GoUnblock", "GoSysExit"):
                become(target, event.at, "runnable")
            elif event.kind == "GoPreempt":
                become(event.g, event.at, "runnable")
            elif event.kind == "GoStart":
                become(event.g, event.at, "running")
            elif event.kind in (
                "GoWaiting",
                "GoInSyscall",
                "GoSleep",
                "GoSysBlock",
            ) or event.kind.startswith("GoBlock"):
                become(event.g, event.at, "blocked")
            elif event.kind == "GoEnd":
                become(event.g, event.at, "ended")
        for g in now:
            become(g, self.end, None)
        return spans

    def state_at(self, tid, at):
        near = [
            span.state
            for span in self.spans[tid]
            if span.begin - 20 * MICROSECOND <= at <= span.end + 20 * MICROSECOND
        ]
        return set(near)

    def time_in(self, tid, state, begin, end):
        return sum(
            min(span.end, end) - max(span.begin, begin)
            for span in self.spans[tid]
            if span.state == state and span.begin < end and span.end > begin
        )

    def covers(self, line):
        return self.start + MILLISECOND < line.begin and line.end < self.end - MILLISECOND


def recorded_lines(trace, lines):
    found = collections.defaultdict(list)
    for line in lines:
        if trace.covers(line):
            found[line.what].append(line)
    return found


def need_switch_records(host):
    record(host, "seconds=0.01")
    reason = host.health()["trace"]["sampled_because"]
    if reason:
        raise harness.Skip("no switch records here: " + reason)


def pprof_of(path, kind):
    profile = os.path.join(harness.scratch(), kind + ".pb.gz")
    with open(profile, "wb") as file:
        file.write(go_trace("-pprof=" + kind, path))
    return harness.pprof("-traces", profile)[0]


def test_each_thread_is_where_it_says():
    host = start()
    need_switch_records(host)
    path = record(host)
    health = host.health()["trace"]
    trace, lines = Trace(path), lines_until_the_end(host)
    assert health["lost"] == 0 and health["left_out"] == 0, health
    found = recorded_lines(trace, lines)
    assert {
        "holds",
        "waits",
        "is_signalled",
        "sleeps",
        "reads",
        "fills",
        "lives",
        "creates",
    } <= set(found)
    for line in sum(found.values(), []):
        # It has read the clock: it ran then. (One that was born had no ring at first.)
        for moment in (line.begin, line.end)[line.what == "lives" :]:
            assert "running" in trace.state_at(line.tid, moment), (line, moment - line.begin)
    for line in found["sleeps"]:
        blocked = trace.time_in(line.tid, "blocked", line.begin, line.end)
        awake = sum(
            trace.time_in(line.tid, state, line.begin, line.end)
            for state in ("running", "runnable")
        )
        assert blocked >= 3 * MILLISECOND - awake - 100 * MICROSECOND, (line, blocked, awake)
    # The CPU clock also counts the switch to the thread, of which the record is at the end.
    errors = []
    for line in found["holds"] + found["lives"]:
        running = trace.time_in(line.tid, "running", line.begin, line.end)
        switches = len(
            [
                span
                for span in trace.spans[line.tid]
                if span.state == "running" and line.begin < span.end and span.begin < line.end
            ]
        )
        errors.append((abs(running - line.cpu) - 20 * MICROSECOND * switches) / line.cpu)
    assert sorted(errors)[len(errors) // 2] < 0.01, sorted(errors)


def test_births_and_ends():
    host = start()
    need_switch_records(host)
    path = record(host)
    trace, lines = Trace(path), lines_until_the_end(host)
    found = recorded_lines(trace, lines)
    creations = {int(event.arguments["g"]): event for event in trace.of("GoCreate")}
    ends = {event.g: event.at for event in trace.of("GoEnd")}
    checked = 0
    for line in found["lives"]:
        created = creations[line.tid]
        if created.at < trace.start + MILLISECOND:
            continue  # it was there, and had to wait for its first CPU
        checked += 1
        creators = [
            other
            for other in lines
            if other.what == "creates" and other.begin <= created.at <= other.end
        ]
        assert len(creators) == 1 and created.g == creators[0].tid, (line, created)
        assert ends[line.tid] >= line.end
    assert checked > 5
    assert b"born" in trace.bytes and b"sleeper" in trace.bytes
    assert "create_it" in pprof_of(path, "sched")


def test_each_arrow_comes_from_who_released():
    host = start()
    need_switch_records(host)
    path = record(host)
    trace, lines = Trace(path), lines_until_the_end(host)
    found = recorded_lines(trace, lines)
    checked = 0
    for line in found["waits"]:
        if trace.time_in(line.tid, "blocked", line.begin, line.end) < MILLISECOND:
            continue  # it came late
        holds = [
            other for other in lines if other.what == "holds" and line.begin < other.end < line.end
        ]
        wakes = [
            event
            for event in trace.of("GoUnblock")
            if event.g
            and int(event.arguments["g"]) == line.tid
            and line.begin < event.at < line.end
        ]
        assert len(holds) == 1 and wakes, (line, holds, wakes)
        assert wakes[-1].g == holds[0].tid and wakes[-1].at > holds[0].end - 20 * MICROSECOND
        assert wakes[-1].at < holds[0].end + 100 * MICROSECOND + line.end - holds[0].end
        checked += 1
    assert checked > 5
    assert "give_back_the_mutex" in pprof_of(path, "sched")


def wakes_of(trace, line):
    """Those of its thread by another one, while it waited."""
    return [
        event
        for event in trace.of("GoUnblock")
        if int(event.arguments["g"]) == line.tid
        and event.g not in (0, line.tid)
        and line.begin < event.at < line.end
    ]


@pytest.mark.parametrize("cpu", ["auto", "timer"])
def test_who_signals_comes_last_or_ends_is_who_wakes(cpu):
    host = start(extra={"PPROFAGENT_CPU": cpu})
    path = record(host, "seconds=2&hz=0")
    is_recorded = not host.health()["trace"]["sampled_because"]
    trace, lines = Trace(path), lines_until_the_end(host)
    found = recorded_lines(trace, lines)
    checked = collections.Counter()

    def check(line, waker, begin, end):
        wakes = wakes_of(trace, line)
        if is_recorded and trace.time_in(line.tid, "blocked", line.begin, line.end) == 0:
            return  # it came late
        assert [wake.g for wake in wakes] == [waker], (line, wakes, waker)
        assert begin - 20 * MICROSECOND <= wakes[0].at <= end + 20 * MICROSECOND
        checked[line.what] += 1

    # Who wakes tells of it after it has: that too must be in the recording.
    for line in found["is_signalled"]:
        for by in [each for each in found["signals"] if overlap(each, line)]:
            if by.begin > line.begin + MILLISECOND:
                check(line, by.tid, by.begin, by.end)
    for line in found["joins"]:
        (of,) = [each for each in lines if each.what == "lives" and overlap(each, line)]
        if of.end > line.begin + MILLISECOND:
            check(line, of.tid, of.end, line.end)
    for line in found["comes"]:
        for by in [each for each in found["begins"] if overlap(each, line)]:
            if by.begin > line.begin + MILLISECOND:
                check(line, by.tid, by.begin, by.end)
    assert checked["is_signalled"] > 10 and checked["joins"] > 10 and checked["comes"] > 50, checked
    assert "hand_over" in pprof_of(path, "sched") or not is_recorded


def overlap(one, other):
    return one.begin < other.end and other.begin < one.end


def test_waits_for_locks_are_exact_where_states_are_sampled():
    host = start(extra={"PPROFAGENT_CPU": "timer"})
    path = record(host)
    trace, lines = Trace(path), lines_until_the_end(host)
    found = recorded_lines(trace, lines)
    checked = 0
    for line in found["waits"]:
        blocked = [
            span
            for span in trace.spans[line.tid]
            if span.state == "blocked" and line.begin <= span.begin and span.end <= line.end
        ]
        if line.end - line.begin < MILLISECOND:
            continue
        # One span from the call to the release, which the waiter only sees when it has a CPU.
        assert len(blocked) == 1, (line, trace.spans[line.tid])
        holds = [
            other for other in lines if other.what == "holds" and line.begin < other.end < line.end
        ]
        assert len(holds) == 1 and abs(blocked[0].end - holds[0].end) < line.end - holds[0].end
        wakes = [
            event
            for event in trace.of("GoUnblock")
            if int(event.arguments["g"]) == line.tid and event.at == blocked[0].end
        ]
        assert wakes and wakes[0].g == holds[0].tid, wakes
        checked += 1
    assert checked > 5


def test_stacks_of_long_waits():
    host = start()
    path = record(host)
    lines_until_the_end(host)
    sync, calls = pprof_of(path, "sync"), pprof_of(path, "syscall")
    assert "wait_for_the_mutex" in sync and "wait_for_my_turn" in sync
    assert "read_from_the_pipe" in calls and "wait_for_the_mutex" not in calls


def test_sampled_where_there_are_no_records():
    host = start(extra={"PPROFAGENT_CPU": "timer"})
    path = record(host)
    assert host.health()["trace"]["sampled_because"] == "PPROFAGENT_CPU is timer"
    assert "The last trace was sampled" in host.text("")
    trace = Trace(path)
    lines_until_the_end(host)
    notes = [event for event in trace.of("UserLog") if event.arguments["category"] == "states"]
    assert len(notes) == 1 and notes[0].arguments["message"].startswith("sampled"), notes
    assert len(trace.spans) >= 9
    assert any(span.state == "running" for spans in trace.spans.values() for span in spans)
    assert "wait_for_the_mutex" in pprof_of(path, "sync")


def test_clients_share_a_recording_and_may_go_away():
    host = start()
    connection = http.client.HTTPConnection(*host.address, timeout=60)
    connection.request("GET", "/debug/pprof/trace?seconds=600")
    harness.poll(lambda: host.health()["trace"]["running"] == 1, "the first client")
    path = record(host, "seconds=0.3")
    status, _, body = host.get("/pid/%d/debug/pprof/trace?seconds=0.1" % host.pid)
    assert status == 200 and body.startswith(b"go 1.11 trace")
    connection.close()
    harness.poll(lambda: host.health()["trace"]["running"] == 0, "the end of the recording")
    assert host.health()["trace"]["threads_with_ring"] == 0
    assert len(Trace(path).spans) >= 9
    lines_until_the_end(host)


@pytest.mark.parametrize("cpu", ["auto", "timer"])
def test_while_threads_are_born_and_end_without_pause(cpu):
    harness.need("go")
    host = harness.Host(
        [harness.build("birth_storm.c", "-O1", "-pthread")], extra={"PPROFAGENT_CPU": cpu}
    )
    host.ready()
    host.go_on()
    path = record(host, "seconds=1")
    health = host.health()["trace"]
    host.go_on()
    trace = Trace(path)  # its reader refuses what makes no sense
    born = {int(event.arguments["g"]) for event in trace.of("GoCreate")}
    ended = [event.g for event in trace.of("GoEnd")]
    assert len(ended) == len(set(ended)) and set(ended) <= born
    assert health["left_out"] == 0
    creators = {event.g for event in trace.of("GoCreate") if event.g}
    assert not creators & set(ended), "these have not ended"
    early = {
        int(event.arguments["g"])
        for event in trace.of("GoCreate")
        if event.at < (trace.start + trace.end) // 2
    }
    if not health["sampled_because"]:  # four creators, and each has four at once
        assert len(ended) > 20 and len(early - set(ended)) <= 1 + 4 + 4 * 4, early - set(ended)
    host.kill()


@pytest.mark.parametrize("number", range(6))
def test_random_logs_are_read(number):
    harness.need("go")
    directory = harness.scratch()
    subprocess.run([os.path.join(harness.BUILD, "test", "unit_go_trace"), directory], check=True)
    trace = Trace(os.path.join(directory, "%d.trace" % number))
    with open(os.path.join(directory, "%d.expected" % number)) as file:
        starts, ends, unblocks = map(int, file.read().split())
    assert len(trace.of("GoStart")) >= starts and len(trace.of("GoEnd")) == ends
    assert len([event for event in trace.of("GoUnblock") if event.g]) == unblocks
