"""Nobody notices a thread dump: no call is interrupted, thousands of threads are quick, and what
comes and goes meanwhile is no harm."""
import os
import re
import signal
import threading
import time

import harness
from blocked_threads import THREAD_START, is_blocked_in, task_file, threads_of
from test_thread_dump import CHAINS, Chains, expected_chain, fits


def test_calls_that_go_on_after_a_stop():
    """The kernel shows them as restart_syscall; they are still what they were."""
    restart_syscall = 219
    chains = Chains()
    os.kill(chains.host.pid, signal.SIGSTOP)
    harness.poll(
        lambda: all(
            "\nState:\tT" in task_file(chains.host.pid, tid, "status")
            for tid in chains.tids.values()
        ),
        "every thread stopped",
    )
    os.kill(chains.host.pid, signal.SIGCONT)
    for name in ("nanosleep", "arguments"):
        harness.poll(
            lambda: is_blocked_in(chains.host.pid, chains.tids[name], restart_syscall),
            name + " goes on",
        )
    threads = threads_of(chains.host.profile("goroutine?tid=1"))
    for name in ("nanosleep", "arguments"):
        frames, labels = threads[chains.tids[name]]
        assert fits(frames, expected_chain(name)), frames
        assert labels["state"] == CHAINS[name][1], (name, labels)
    assert chains.host.finish() == 0


class Dumps:
    """Thread dumps one after the other, until the block ends."""

    def __init__(self, host, path="goroutine"):
        self.host, self.path, self.count, self.failure, self.stop = host, path, 0, None, False
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            while not self.stop:
                status, _, body = self.host.get(self.path)
                assert status == 200, (status, body)
                self.count += 1
        except Exception as failure:
            self.failure = failure

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop = True
        self.thread.join()


def test_no_call_is_interrupted():
    check_calls("count")


def test_no_call_is_interrupted_where_threads_are_asked_by_a_signal():
    if os.getuid() != 0:
        raise harness.Skip("it needs to be root, to give that up")
    check_calls("count_as_nobody")


def text_once_served(host):
    try:
        return host.text("goroutine?debug=2")
    except ConnectionError:
        return None


def test_a_signal_that_could_not_say_whose_it_is_is_not_sent():
    if os.getuid() != 0:
        raise harness.Skip("it needs to be root, to give that up")
    host = harness.Host([harness.build("no_pending_signals.c", "-O1")])
    host.ready()
    assert host.address
    host.go_on()
    host.ready()
    # the agent's threads, which cannot be called either, are replaced after the change of user
    text = harness.poll(lambda: text_once_served(host), "the agent to answer again")
    assert "may not read its own" in text and "asked by a signal" not in text, text
    assert host.finish() == 0, host.describe()


def check_calls(mode):
    host = harness.Host([harness.build("cpu_interrupted_calls.c", "-O1"), mode, "1000000"])
    host.ready()
    assert host.address
    with Dumps(host) as dumps:
        host.go_on()
        if mode != "count":
            harness.poll(
                lambda: "asked by a signal" in host.text("goroutine?debug=2"),
                "a thread is asked by a signal",
            )
        lines = host.ready(180)
    assert dumps.failure is None and dumps.count > 10, (dumps.failure, dumps.count)
    assert len(lines) > 10 and all(": 0 interrupted, 0 odd of " in line for line in lines), lines
    harness.note("%d dumps meanwhile" % dumps.count)
    assert host.finish() == 0


def switches(host):
    counts = {}
    for tid in harness.tasks(host.pid):
        text = harness.proc_text("/proc/%d/task/%d/status" % (host.pid, tid))
        if text and "\nName:\tpprofagent\n" not in "\n" + text:
            counts[tid] = re.findall(r"voluntary_ctxt_switches:\s*(\d+)", text)
    return counts


def check_many(way, number):
    host = harness.Host([harness.build("blocked_many.c", "-O0"), "5000", way])
    host.ready()
    start = [tid for tid in map(int, os.listdir("/proc/%d/task" % host.pid)) if tid != host.pid]
    blocked = set()

    def all_blocked():
        for tid in set(start) - blocked:
            if "pprofagent" in task_file(host.pid, tid, "comm") or is_blocked_in(
                host.pid, tid, number
            ):
                blocked.add(tid)
        return len(blocked) == len(start)

    harness.poll(all_blocked, "5,000 threads blocked")
    before = switches(host)
    assert len(before) == 5001, len(before)
    cpu = host.health()["agent"]["cpu_seconds"]
    profile = host.profile("goroutine")
    cpu = host.health()["agent"]["cpu_seconds"] - cpu
    text = host.text("goroutine?debug=2")
    assert switches(host) == before, "threads were scheduled for a dump"
    counts = {
        tuple(frame.function for frame in sample.frames if not frame.inlined): sample.values[0]
        for sample in profile.samples
    }
    many = [frames for frames, count in counts.items() if count == 5000]
    assert len(many) == 1, counts
    assert fits(
        list(many[0]),
        [..., "waiting"] + ["working"] * 6 + ["start"] + THREAD_START,
        {"waiting", "working", "start"},
    ), many
    assert len(re.findall(r"^goroutine \d+ \[", text, re.MULTILINE)) == 5001
    harness.note("%s: 5,001 threads in %.2f s of CPU time, the profile included" % (way, cpu))


def test_five_thousand_sleep():
    check_many("sleep", 230)


def test_five_thousand_wait_for_a_mutex():
    check_many("futex", 202)


def test_five_thousand_in_epoll_wait():
    check_many("epoll", 232)


def test_threads_and_libraries_that_come_and_go():
    library = harness.build(
        "blocked_churn.c", "-O1", "-DLIBRARY", shared=True, name="blocked_churn_library"
    )
    host = harness.Host(
        [harness.build("blocked_churn.c", "-O0", "-fno-optimize-sibling-calls"), library]
    )
    lines = [line.split() for line in host.ready()]
    for tid in [int(tid) for word, tid in lines if word == "stays"]:
        harness.poll(lambda: is_blocked_in(host.pid, tid, 202), "a staying thread blocked")
    staying, moving = (
        {int(tid) for word, tid in lines if word == what} for what in ("stays", "moves")
    )
    assert len(staying) == 4 and len(moving) == 4, lines
    moving_functions = {
        "nap",
        "left_inner",
        "left",
        "right_inner",
        "right_middle",
        "right",
        "start_moves",
    }
    at_nap = [
        ["nap", "left_inner", "left", "start_moves"],
        ["nap", "right_inner", "right_middle", "right", "start_moves"],
    ]
    inside, naps, dumps = 0, set(), 0
    end = time.monotonic() + 4 * harness.DEADLINE
    while dumps < 150 or inside <= 10 or len(naps) < 2:
        assert time.monotonic() < end, (dumps, inside, naps)
        dumps += 1
        threads = threads_of(host.profile("goroutine?tid=1"))
        for tid in staying:
            assert fits(
                threads[tid][0], [..., "stay", "start_stay"] + THREAD_START, {"stay", "start_stay"}
            ), threads[tid]
        for tid in moving:
            frames, labels = threads[tid]
            ours = [name for name in frames if name in moving_functions]
            if labels["state"] == "sleep":
                assert ours in at_nap and frames[-3] == "start_moves", threads[tid]
                naps.add(tuple(ours))
        for frames, labels in threads.values():
            if "in_library_inner" in frames and labels["state"] == "sleep":
                inside += 1
                at = frames.index("in_library_inner")
                assert frames[at + 1 : at + 3] == ["in_library", "start_short"], frames
    harness.note("%d stacks through the library" % inside)
    assert host.finish() == 0
