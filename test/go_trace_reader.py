"""Reads Go's second trace format (header go 1.22) and plays it as Go's reader does: of the threads'
next events one that may happen now, the earliest first. What no thread can do any more, or what a
goroutine, processor or thread is not in the state for, is an error."""
import re

(BATCH, STACKS, STACK, STRINGS, STRING, SAMPLES, SAMPLE, FREQUENCY) = range(1, 9)
(
    PROC_STOP,
    PROC_STATUS,
    CREATE,
    START,
    DESTROY,
    STOP,
    BLOCK,
    UNBLOCK,
    CALL,
    RETURN,
    STATUS,
    HEAP,
    LABEL,
    BEGIN,
    END,
    LOG,
) = (11, 13, 14, 16, 17, 19, 20, 21, 22, 23, 25, 37, 39, 42, 43, 44)
FIELDS = {
    PROC_STOP: 0,
    PROC_STATUS: 2,
    CREATE: 3,
    START: 2,
    DESTROY: 0,
    STOP: 2,
    BLOCK: 2,
    UNBLOCK: 3,
    CALL: 2,
    RETURN: 0,
    STATUS: 3,
    HEAP: 1,
    LABEL: 1,
    BEGIN: 3,
    END: 3,
    LOG: 4,
}
NO_THREAD = 2**64 - 1
BATCH_MAX, STRING_MAX, FRAMES_MAX = 64 << 10, 1 << 10, 128


class Bytes:
    def __init__(self, data):
        self.data, self.at = data, 0

    def more(self):
        return self.at < len(self.data)

    def byte(self):
        self.at += 1
        return self.data[self.at - 1]

    def number(self):
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                assert value < 1 << 64
                return value

    def take(self, size):
        assert self.at + size <= len(self.data)
        self.at += size
        return self.data[self.at - size : self.at]


class Goroutine:
    def __init__(self, state):
        self.state, self.seq, self.regions, self.thread = state, 0, [], None
        self.since, self.spans, self.stack = None, [], 0


class Trace:
    def __init__(self, data):
        assert data[:16] == b"go 1.22 trace\0\0\0"
        self.strings, self.stacks, self.threads, self.samples = {0: ""}, {0: []}, {}, []
        self.frequency = None
        rest = Bytes(data[16:])
        while rest.more():
            assert rest.byte() == BATCH and rest.number() == 1
            thread, at, size = rest.number(), rest.number(), rest.number()
            assert size <= BATCH_MAX
            self.add_batch(thread, at, Bytes(rest.take(size)))
        assert self.frequency == 10**9
        assert any(self.threads.values())  # it refuses one without events
        assert all(stack in self.stacks for stack in self.samples)
        for frames in self.stacks.values():
            assert all(f in self.strings and file in self.strings for _, f, file, _ in frames)

    def add_batch(self, thread, at, batch):
        kind = batch.data[0]
        if kind not in (STACKS, STRINGS, SAMPLES, FREQUENCY):
            events = self.threads.setdefault(thread, [])
            assert not events or events[-1][0] <= at
            while batch.more():
                kind = batch.byte()
                at += batch.number()
                events.append((at, kind, [batch.number() for _ in range(FIELDS[kind])]))
            return
        assert thread == NO_THREAD
        batch.byte()
        while batch.more():
            {
                STACKS: self.add_stack,
                STRINGS: self.add_string,
                SAMPLES: self.add_sample,
                FREQUENCY: self.add_frequency,
            }[kind](batch)

    def add_string(self, batch):
        assert batch.byte() == STRING
        number, size = batch.number(), batch.number()
        assert size <= STRING_MAX and number not in self.strings
        self.strings[number] = batch.take(size).decode("utf-8")

    def add_stack(self, batch):
        assert batch.byte() == STACK
        number, count = batch.number(), batch.number()
        assert count <= FRAMES_MAX and number not in self.stacks
        frames = [tuple(batch.number() for _ in range(4)) for _ in range(count)]
        self.stacks[number] = frames

    def add_sample(self, batch):
        assert batch.byte() == SAMPLE
        self.samples.append([batch.number() for _ in range(5)][4])

    def add_frequency(self, batch):
        assert self.frequency is None
        self.frequency = batch.number()

    # ---- the order of things ----

    def play(self):
        self.goroutines, self.bound, self.processors, self.calls = {}, {}, {}, {}
        self.wakes, self.labels, self.reasons, self.regions, self.heap = [], {}, {}, [], []
        self.reason_stacks, self.now, self.ended, self.logs = {}, 0, [], []
        left = {thread: list(reversed(events)) for thread, events in self.threads.items()}
        while any(left.values()):
            for thread in sorted((t for t in left if left[t]), key=lambda t: left[t][-1][0]):
                at, kind, words = left[thread][-1]
                if self.may(kind, words):
                    left[thread].pop()
                    self.now = max(self.now, at)
                    self.happen(thread, at, kind, words)
                    break
            else:
                raise AssertionError("nobody can go on: %s" % [e[-1] for e in left.values() if e])

    def may(self, kind, words):
        state = {START: "Runnable", UNBLOCK: "Waiting"}.get(kind)
        if not state:
            return True
        goroutine = self.goroutines.get(words[0])
        return goroutine and goroutine.state == state and goroutine.seq + 1 == words[1]

    def change(self, goroutine, state, at):
        if goroutine.since is not None:
            goroutine.spans.append((goroutine.state, goroutine.since, at))
        goroutine.state, goroutine.since = state, at

    def happen(self, thread, at, kind, words):
        bound = self.goroutines.get(self.bound.get(thread))
        if kind == PROC_STATUS:
            assert words[0] not in self.processors and words[1] == 1 and thread not in self.calls
            self.processors[words[0]], self.calls[thread] = thread, 0
        elif kind == PROC_STOP:
            del self.calls[thread]
            self.ended.append(at)
        elif kind == STATUS:
            assert words[0] not in self.goroutines and words[1:] == [NO_THREAD, 1]
            self.goroutines[words[0]] = Goroutine("")
            self.change(self.goroutines[words[0]], "Runnable", at)
        elif kind == CREATE:
            assert words[0] not in self.goroutines and thread in self.calls
            assert not bound or bound.state == "Running"
            self.goroutines[words[0]] = Goroutine("")
            self.change(self.goroutines[words[0]], "Runnable", at)
        elif kind == UNBLOCK:
            self.goroutines[words[0]].seq += 1
            assert words[2] or not self.goroutines[words[0]].stack  # else -pprof=sync goes on
            self.change(self.goroutines[words[0]], "Runnable", at)
            self.wakes.append((thread, words[0], at))
        elif kind == START:
            assert thread in self.calls and not bound
            self.goroutines[words[0]].seq += 1
            self.bound[thread] = words[0]
            self.change(self.goroutines[words[0]], "Running", at)
        elif kind == HEAP:
            assert thread in self.calls
            self.heap.append(words[0])
        else:
            self.happen_to_bound(thread, at, kind, words, bound)

    def happen_to_bound(self, thread, at, kind, words, bound):
        assert bound and thread in self.calls
        number = self.bound[thread]
        if kind == RETURN:
            assert bound.state == "Syscall"
            self.change(bound, "Running", at)
            return
        if kind in (DESTROY, STOP, BLOCK, CALL):
            assert bound.state == "Running"
        if kind in (DESTROY, STOP, BLOCK):
            del self.bound[thread]
            self.change(bound, {STOP: "Runnable", BLOCK: "Waiting"}.get(kind, "Ended"), at)
        if kind == BLOCK:
            self.reasons.setdefault(number, []).append(self.strings[words[0]])
            self.reason_stacks[self.strings[words[0]]] = bound.stack = words[1]
        elif kind == CALL:
            self.calls[thread] += 1
            assert words[0] == self.calls[thread]
            self.change(bound, "Syscall", at)
        elif kind == LABEL:
            self.labels[number] = self.strings[words[0]]
        elif kind == BEGIN:
            bound.regions.append((self.strings[words[1]], at))
        elif kind == END:
            name, begin = bound.regions.pop()
            assert name == self.strings[words[1]]
            self.regions.append((number, name, begin, at))
        elif kind == LOG:
            self.logs.append((number, self.strings[words[1]], self.strings[words[2]]))
        if kind in (STOP, BLOCK, CALL, LOG, BEGIN, END):
            assert words[-1] in self.stacks

    def spans(self, number, end):
        goroutine = self.goroutines.get(number)
        if not goroutine:
            return []
        spans = goroutine.spans + (
            [] if goroutine.state == "Ended" else [(goroutine.state, goroutine.since, end)]
        )
        return [span for span in spans if span[1] != span[2]]

    def stack_of_reason(self, reason):
        return [
            (pc, self.strings[function], self.strings[file], line)
            for pc, function, file, line in self.stacks[self.reason_stacks[reason]]
        ]


def parsed_spans(text, end):
    """{(goroutine, state): nanoseconds} of `go tool trace -d=parsed`."""
    since, totals = {}, {}
    for at, number, before, after in re.findall(
        r"Time=(\d+) Resource=Goroutine\((\d+)\).* (\w+)->(\w+)$", text, re.M
    ):
        at, number = int(at), int(number)
        if number in since:
            totals[number, before] = totals.get((number, before), 0) + at - since[number]
        since[number] = at
        if after == "NotExist":
            del since[number]
        else:
            totals.setdefault((number, after), 0)
            totals["last", number] = after
    for number, at in since.items():
        state = totals["last", number]
        totals[number, state] += end - at
    return totals
