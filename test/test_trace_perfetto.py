"""Recordings as Perfetto's protobuf, read back with a parser that is not the agent's."""
import perfetto_reader
from trace_log import (
    BLOCKED,
    COUNTER,
    DISK,
    ENDED,
    MARK,
    MICRO,
    REASON,
    RUNNABLE,
    RUNNING,
    SAMPLE,
    START,
    check_apart,
    check_nested,
    recordings,
)


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
