"""Reads a Perfetto trace by the field numbers of its public schema, and checks what trace_processor
demands of it: names and stacks known before their use, lanes described, slices that end, no state
of a thread twice at one time, no RUNNING twice in a row, nothing after a thread's end."""

STATES = (
    "UNKNOWN",
    "CREATED",
    "RUNNABLE",
    "RUNNING",
    "INTERRUPTIBLE_SLEEP",
    "UNINTERRUPTIBLE_SLEEP",
    "STOPPED",
    "DEAD",
    "DESTROYED",
)
SLICE_NAMES = {
    "RUNNING": "running",
    "RUNNABLE": "runnable",
    "INTERRUPTIBLE_SLEEP": "blocked",
    "UNINTERRUPTIBLE_SLEEP": "blocked",
    "STOPPED": "records lost",
}
BEGIN, END, INSTANT, COUNT = 1, 2, 3, 4
MONOTONIC = 3


def merged(spans):
    """What follows at once and is called the same is one."""
    out = []
    for name, begin, end in spans:
        if out and out[-1][0] == name and out[-1][2] == begin:
            out[-1] = (name, out[-1][1], end)
        elif begin != end:
            out.append((name, begin, end))
    return out


def as_utf8(text):
    """As proto strings show foreign bytes: each that is none as '?'."""
    out, at = "", 0
    while at < len(text):
        for size in (1, 2, 3, 4):
            try:
                out += text[at : at + size].decode("utf-8")
                at += size
                break
            except UnicodeDecodeError:
                continue
        else:
            out += "?"
            at += 1
    return out


def number(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at


def fields(data):
    """{field: [values]}: numbers, or bytes."""
    out, at = {}, 0
    while at < len(data):
        tag, at = number(data, at)
        if tag & 7 == 0:
            value, at = number(data, at)
        elif tag & 7 == 1:
            value, at = int.from_bytes(data[at : at + 8], "little"), at + 8
        else:
            assert tag & 7 == 2, tag
            size, at = number(data, at)
            assert at + size <= len(data)
            value, at = data[at : at + size], at + size
        out.setdefault(tag >> 3, []).append(value)
    return out


def first(message, field, otherwise=0):
    return message.get(field, [otherwise])[0]


class Happening:
    def __init__(self, name, category, begin, stack, notes):
        self.name, self.category, self.begin, self.end = name, category, begin, None
        self.stack, self.notes = stack, notes


class Trace:
    def __init__(self, data):
        self.thread_tracks, self.parents, self.tracks, self.names = {}, {}, {}, {}
        self.events, self.strings, self.frames, self.stacks = [], {2: {}, 5: {}, 18: {}}, {}, {}
        self.states, self.instants, self.counters = {}, [], []
        self.flows_out, self.flows_in = {}, {}
        packets = fields(data)
        assert set(packets) == {1}
        for index, packet in enumerate(packets[1]):
            self.add_packet(index, fields(packet))
        self.play()

    def add_packet(self, index, packet):
        assert first(packet, 10) == 1 and first(packet, 13) == (2 if index else 1)
        if index == 0:
            clock = fields(first(packet, 6))
            assert first(clock, 2) == MONOTONIC and first(fields(first(clock, 1)), 1) == MONOTONIC
            assert first(fields(first(packet, 59)), 58) == MONOTONIC
            return
        assert len([field for field in packet if field in (11, 60, 117, 122)]) == 1, packet
        if 12 in packet:
            self.add_interned(fields(first(packet, 12)))
        if 60 in packet:
            self.add_track(fields(first(packet, 60)))
        if 117 in packet:
            self.add_state(first(packet, 8), fields(first(packet, 117)))
        if 11 in packet:
            event = fields(first(packet, 11))
            assert 10 not in event or first(event, 10) in self.strings[2]
            assert 56 not in event or first(event, 56) in self.stacks
            self.events.append((first(packet, 8), event))

    def add_interned(self, data):
        for field in (2, 5, 18):
            for item in data.get(field, []):
                item = fields(item)
                assert first(item, 1) not in self.strings[field]
                self.strings[field][first(item, 1)] = first(item, 2).decode("utf-8")
        for item in data.get(6, []):
            item = fields(item)
            assert first(item, 1) not in self.frames
            path = self.strings[18][first(item, 5)] if 5 in item else ""
            self.frames[first(item, 1)] = (self.strings[5][first(item, 2)], path, first(item, 6))
        for item in data.get(7, []):
            item = fields(item)
            assert first(item, 1) not in self.stacks
            self.stacks[first(item, 1)] = [self.frames[frame] for frame in item[2]]

    def add_track(self, track):
        uuid = first(track, 1)
        assert uuid not in self.tracks
        self.tracks[uuid] = first(track, 2, b"").decode("utf-8")
        assert 5 not in track or first(track, 5) in self.tracks
        self.parents[uuid] = first(track, 5)
        if 4 in track:
            thread = fields(first(track, 4))
            self.thread_tracks[first(thread, 2)] = uuid
            self.names[first(thread, 2)] = first(thread, 5, b"").decode("utf-8")

    def add_state(self, at, state):
        assert first(state, 3) in self.thread_tracks
        self.states.setdefault(first(state, 3), []).append(
            (at, STATES[first(state, 4)], first(state, 1))
        )

    def play(self):
        for states in self.states.values():
            times = [at for at, _, _ in states]
            assert times == sorted(set(times))
            names = [name for _, name, _ in states]
            assert "UNKNOWN" not in names and "CREATED" not in names
            assert not set(names[:-1]) & {"DEAD", "DESTROYED"}
            assert all(a != "RUNNING" or a != b for a, b in zip(names, names[1:]))
            running = 0
            for _, name, cpu in states:  # a state closes what ran on its CPU
                assert name == "RUNNING" or cpu == running or running is None, states
                running = cpu
        self.lanes = {uuid: [] for uuid in self.tracks}
        opened = {uuid: [] for uuid in self.tracks}
        for at, event in sorted(self.events, key=lambda pair: pair[0]):
            self.add_event(at, event, opened[first(event, 11)], self.lanes[first(event, 11)])
        assert not any(opened.values())

    def add_event(self, at, event, opened, lane):
        kind, track = first(event, 9), first(event, 11)
        if kind == COUNT:
            self.counters.append((self.tracks[track], at, first(event, 30)))
            return
        if kind == END:
            opened.pop().end = at
            return
        notes = {}
        for note in event.get(4, []):
            note = fields(note)
            text = first(note, 6, None)
            value = first(note, 3, first(note, 7)) if text is None else text.decode("utf-8")
            notes[first(note, 10).decode()] = value
        what = Happening(
            self.strings[2][first(event, 10)],
            first(event, 22).decode(),
            at,
            self.stacks.get(first(event, 56)),
            notes,
        )
        for field, flows in ((47, self.flows_out), (48, self.flows_in)):
            for flow in event.get(field, []):
                assert flow not in flows
                assert field == 47 or flow in self.flows_out
                flows[flow] = (at, track)
        if kind == BEGIN:
            opened.append(what)
            lane.append(what)
        else:
            assert kind == INSTANT
            self.instants.append(what)

    def tid_of(self, track):
        return [tid for tid, uuid in self.thread_tracks.items() if uuid == track][0]

    def slices(self, track):
        return self.lanes[track]

    def state_spans(self, tid, end):
        states = self.states.get(tid, [])
        ends = [at for at, _, _ in states[1:]] + [end]
        return [(name, at, until) for (at, name, _), until in zip(states, ends)]

    def state_slices(self, tid):
        lanes = [
            uuid
            for uuid, parent in self.parents.items()
            if parent == self.thread_tracks[tid] and self.tracks[uuid] == "state"
        ]
        return [(piece.name, piece.begin, piece.end) for piece in self.lanes[lanes[0]]]
