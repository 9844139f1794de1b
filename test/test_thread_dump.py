"""Blocked threads are read whole, from the system call to the thread's entry, without any of them
noticing."""
import os
import re
import signal

import harness
from blocked_threads import LIBC_START, THREAD_START, is_blocked_in, task_file, threads_of

# chain: the system call it waits in, the state, and the functions between libc's wrapper and
# middle_X
CHAINS = {
    "epoll_wait": (232, "IO wait", ["leaf_epoll_wait"]),
    "poll": (7, "IO wait", ["leaf_poll"]),
    "select": (270, "select", ["leaf_select"]),
    "read": (0, "IO wait", ["leaf_read"]),
    "accept": (43, "IO wait", ["leaf_accept"]),
    "recvmsg": (47, "IO wait", ["leaf_recvmsg"]),
    "nanosleep": (230, "sleep", ["leaf_nanosleep"]),
    "mutex": (202, "sync.Mutex.Lock", ["leaf_mutex"]),
    "inheriting": (202, "sync.Mutex.Lock", ["leaf_inheriting"]),
    "cond": (202, "sync.Cond.Wait", ["leaf_cond"]),
    "sem": (202, "semacquire", ["leaf_sem"]),
    "rdlock": (202, "sync.RWMutex.RLock", ["leaf_rdlock"]),
    "wrlock": (202, "sync.RWMutex.Lock", ["leaf_wrlock"]),
    "sigwait": (128, "syscall", ["leaf_sigwait"]),
    "waitpid": (61, "syscall", ["leaf_waitpid"]),
    "flock": (73, "syscall", ["leaf_flock"]),
    "pause": (34, "syscall", ["leaf_pause"]),
    "join": (202, "semacquire", ["leaf_join"]),
    "sigsuspend": (130, "syscall", ["leaf_sigsuspend"]),
    "record_lock": (72, "syscall", ["leaf_record_lock"]),
    "handler": (0, "IO wait", ["in_handler", "handler", ..., "leaf_handler"]),
    "altstack": (0, "IO wait", ["in_handler", "handler", ..., "leaf_altstack"]),
    "coroutine": (230, "sleep", ["in_coroutine", "coroutine"]),
    "arguments": (230, "sleep", ["with_many_arguments", "leaf_arguments"]),
    "recursion": (34, "syscall", ["recursive"] * 41 + ["leaf_recursion"]),
    "realigned": (34, "syscall", ["realigned", "leaf_realigned"]),
}
OURS = {
    part + "_" + name for part in ("leaf", "middle", "outer", "detour", "start") for name in CHAINS
} | {
    "litter",
    "litter_inner",
    "in_handler",
    "handler",
    "in_coroutine",
    "coroutine",
    "with_many_arguments",
    "recursive",
    "realigned",
    "main_waits",
    "main",
}


def fits(frames, pattern, ours=OURS):
    """None: any one frame of libc's; ...: any number of them."""
    if not pattern:
        return not frames
    if pattern[0] is ...:
        return (
            any(name not in ours for name in frames[:1])
            and fits(frames[1:], pattern, ours)
            or fits(frames, pattern[1:], ours)
        )
    if not frames or pattern[0] is None and frames[0] in ours:
        return False
    return pattern[0] in (None, frames[0]) and fits(frames[1:], pattern[1:], ours)


def expected_chain(name):
    if name == "coroutine":
        return [
            ...,
            "in_coroutine",
            "coroutine",
            None,
            "[truncated: no unwind information]",
        ]  # __start_context
    return (
        [...]
        + CHAINS[name][2]
        + ["middle_" + name, "outer_" + name, "start_" + name]
        + THREAD_START
    )


class Chains:
    """The workload, every thread of it blocked where it will stay."""

    def __init__(self, *flags):
        self.host = harness.Host(
            [harness.build("blocked_chains.c", "-fno-optimize-sibling-calls", *flags)]
        )
        self.tids, self.facts = {}, {}
        for line in self.host.ready():
            words = line.split()
            if words[0] == "thread":
                self.tids[words[1]] = int(words[2])
            else:
                self.facts[words[0]] = int(words[1])
        assert set(self.tids) == set(CHAINS), set(self.tids) ^ set(CHAINS)
        for name, tid in self.tids.items():
            harness.poll(
                lambda: is_blocked_in(self.host.pid, tid, CHAINS[name][0]), name + " blocked"
            )
        harness.poll(lambda: is_blocked_in(self.host.pid, self.host.pid, 0), "main blocked")


def check_chains(*flags, unknown=()):
    """unknown: chains of which nothing is asked but what they wait in."""
    chains = Chains(*flags)
    wrong = []
    for _ in range(2):
        threads = threads_of(chains.host.profile("goroutine?tid=1"))
        for name, tid in chains.tids.items():
            frames, labels = threads[tid]
            if name not in unknown and not fits(frames, expected_chain(name)):
                wrong.append("%s: %s" % (name, " <- ".join(frames)))
            if labels["thread_name"] != name[:15] or labels["state"] != CHAINS[name][1]:
                wrong.append("%s: %s" % (name, labels))
        frames, labels = threads[chains.facts["main"]]
        if not fits(frames, [..., "main_waits"] + LIBC_START):
            wrong.append("main: " + " <- ".join(frames))
        assert set(threads) == set(chains.tids.values()) | {
            chains.facts["main"]
        }, "threads: %s" % sorted(threads)
    assert not wrong, "flags %s\n%s" % (" ".join(flags), "\n".join(wrong))
    chains.host.go_on()
    assert chains.host.finish() == 0


def test_O0():
    check_chains("-O0")


def test_O2():
    check_chains("-O2")


def test_O2_frame_pointer():
    check_chains("-O2", "-fno-omit-frame-pointer")


def test_O0_dynamic_frames():
    check_chains("-O0", "-DDYNAMIC")


def test_O2_dynamic_frames():
    check_chains("-O2", "-DDYNAMIC")


def test_O2_frame_pointer_dynamic_frames():
    check_chains("-O2", "-fno-omit-frame-pointer", "-DDYNAMIC")


def test_unwind_information_on_disk_alone():
    # As much hand-written assembly, and all of Go: in .debug_frame, which is not loaded. The search
    # for a frame pointer that the kernel does not tell judges by tables that are.
    check_chains(
        "-O2",
        "-fno-asynchronous-unwind-tables",
        "-fno-unwind-tables",
        "-Wl,--build-id",
        unknown=("realigned",),
    )


def test_stack_protector_and_clash_protection():
    check_chains(
        "-O2", "-fno-omit-frame-pointer", "-fstack-protector-all", "-fstack-clash-protection"
    )


# ---- what they wait for --------------------------------------------------------------------------


def waited_for(text):
    """{tid: what it waits for}, from the comments of debug=2."""
    return {
        int(tid): what for tid, what in re.findall(r"^# (\d+) waits for (.*)$", text, re.MULTILINE)
    }


def test_what_is_waited_for():
    chains = Chains("-O2")
    facts, tids = chains.facts, chains.tids
    told = waited_for(chains.host.text("goroutine?debug=2"))

    def link(fd):
        return os.readlink("/proc/%d/fd/%d" % (chains.host.pid, fd))

    expected = {
        "read": "fd %d (%s)" % (facts["read_fd"], link(facts["read_fd"])),
        "recvmsg": "fd %d (%s)" % (facts["recvmsg_fd"], link(facts["recvmsg_fd"])),
        "accept": "fd %d (%s)" % (facts["accept_fd"], link(facts["accept_fd"])),
        "epoll_wait": "fd %d (anon_inode:[eventpoll]) watching %d"
        % (facts["epoll_fd"], facts["read_fd"]),
        "poll": "fds %d %d" % (facts["read_fd"], facts["accept_fd"]),
        "select": "fds %d" % facts["read_fd"],
        "nanosleep": "a sleep of 100000.000000000 s",
        "waitpid": "process %d" % facts["child"],
        "flock": "a lock on fd %d (%s)" % (facts["flock_fd"], link(facts["flock_fd"])),
        "record_lock": "a lock on fd %d (%s)" % (facts["flock_fd"], link(facts["flock_fd"])),
        "sigwait": "signal %d %d" % (signal.SIGRTMIN + 3, signal.SIGRTMIN + 4),
        "pause": "a signal",
        "join": "thread %d" % tids["epoll_wait"],
    }
    wrong = {
        name: told.get(tids[name])
        for name, what in expected.items()
        if told.get(tids[name]) != what
    }
    assert not wrong, "%s\nexpected %s" % (wrong, expected)
    for name in ("mutex", "inheriting", "rdlock"):
        assert re.fullmatch(r"futex 0x[0-9a-f]+ held by %d" % facts["main"], told[tids[name]]), (
            name,
            told[tids[name]],
        )
    for name in ("cond", "sem", "wrlock"):  # a lock held for reading has no holder to name
        assert re.fullmatch(r"futex 0x[0-9a-f]+", told[tids[name]]), (name, told[tids[name]])


def test_page_fault():
    host = harness.Host([harness.build("blocked_fault.c", "-O1")])
    lines = host.ready()
    if "refused" in lines:
        raise harness.Skip("userfaultfd is not allowed here")
    tid = int(lines[0].split()[1])
    harness.poll(lambda: task_file(host.pid, tid, "syscall").startswith("-1 "), "the fault")
    profile = host.profile("goroutine?tid=1")
    frames, labels = threads_of(profile)[tid]
    assert fits(frames, ["leaf_fault", "outer_fault", "start_fault"] + THREAD_START), frames
    assert labels["state"] == "IO wait", labels
    leaf = [sample.frames[0] for sample in profile.samples if sample.labels["tid"] == tid][0]
    assert (
        "%x" % leaf.address == task_file(host.pid, tid, "syscall").split()[2][2:]
    ), "the leaf is the faulting instruction itself"
    assert waited_for(host.text("goroutine?debug=2"))[tid] == "a page of memory"


# ---- threads that run ----------------------------------------------------------------------------


def test_running_threads():
    host = harness.Host(
        [harness.build("blocked_and_running.c", "-O1", "-fno-optimize-sibling-calls")]
    )
    tids = {line.split()[1]: int(line.split()[2]) for line in host.ready()}
    moves = set()
    for _ in range(6):
        text = host.text("goroutine?debug=2")
        threads = threads_of(host.profile("goroutine?tid=1"))
        frames, labels = threads[tids["spins"]]
        assert (
            fits(frames, ["spin", "start_spins"] + THREAD_START) and labels["state"] == "running"
        ), (frames, labels)
        frames, labels = threads[tids["moves"]]
        assert fits(frames, [..., "move", "start_moves"] + THREAD_START), (frames, labels)
        moves.add(labels["state"])
        assert "blocks signal" in text, text
        assert threads[tids["masked"]][1]["state"] == "running", threads[tids["masked"]]
    assert moves <= {"running", "sleep"}, moves
    assert host.finish() == 0


def test_first_thread_has_ended():
    host = harness.Host(
        [harness.build("blocked_and_running.c", "-O1", "-fno-optimize-sibling-calls"), "alone"]
    )
    tids = {line.split()[1]: int(line.split()[2]) for line in host.ready()}
    harness.poll(
        lambda: task_file(host.pid, host.pid, "stat").split()[2] == "Z", "the first thread's end"
    )
    harness.poll(lambda: is_blocked_in(host.pid, tids["reads"], 0), "the reading thread blocked")
    threads = threads_of(host.profile("goroutine?tid=1"))
    assert threads[host.pid][1]["state"] == "dead", threads[host.pid]
    assert fits(threads[tids["reads"]][0], [..., "start_reads"] + THREAD_START), threads[
        tids["reads"]
    ]


def test_process_whose_files_are_closed_to_it():
    if os.getuid() != 0:
        raise harness.Skip("it needs to be root, to give that up")
    host = harness.Host(
        [harness.build("blocked_and_running.c", "-O1", "-fno-optimize-sibling-calls"), "changed"]
    )
    host.ready()
    assert host.address
    host.go_on()
    tids = {line.split()[1]: int(line.split()[2]) for line in host.ready()}
    harness.poll(lambda: is_blocked_in(host.pid, tids["reads"], 0), "the reading thread blocked")
    threads = threads_of(host.profile("goroutine?tid=1"))
    frames, labels = threads[tids["spins"]]
    assert fits(frames, ["spin", "start_spins"] + THREAD_START) and labels["state"] == "running", (
        frames,
        labels,
    )
    frames, labels = threads[tids["reads"]]
    assert labels["state"] == "IO wait", (frames, labels)
    assert fits(frames, [..., "start_reads"] + THREAD_START), (frames, labels)
    text = host.text("goroutine?debug=2")
    assert re.search(r"(?m)^# .*\b%d\b.*asked by a signal" % tids["reads"], text), text
