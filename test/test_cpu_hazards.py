"""Hosts that a CPU profiler is known to break run under it, at 1000 Hz, as they do without the
agent (cpu_hazards.c and others, one mode a test)."""
import collections
import difflib
import http.client
import os
import resource
import socket
import subprocess
import threading

import harness
from pprof_reader import Profile, bare
from system_calls import under_filter

HZ = 1000


def hazards():
    return harness.build("cpu_hazards.c", "-O1")


def masks():
    return harness.build("cpu_masks.c", "-O1")


def calls():
    return harness.build("cpu_interrupted_calls.c", "-O1")


class Profiling:
    """Profiles a host without a pause: one client that stays, another that asks for one second
    again and again."""

    def __init__(self, host, hz=HZ):
        self.host, self.hz, self.stopped, self.profiles, self.answers = host, hz, False, [], []
        self.address = host.address
        self.stayer = self.request(3600)
        self.thread = threading.Thread(target=self.ask_again)
        self.thread.start()

    def request(self, seconds):
        connection = http.client.HTTPConnection(*self.address, timeout=harness.DEADLINE)
        connection.request("GET", "/debug/pprof/profile?seconds=%d&hz=%d" % (seconds, self.hz))
        return connection

    def ask_again(self):
        while not self.stopped:
            try:
                connection = self.request(1)
                response = connection.getresponse()
                body = response.read()
                connection.close()
            except (OSError, http.client.HTTPException):
                return  # the host has ended
            self.answers.append((response.status, body))
            if response.status != 200:
                return
            self.profiles.append(Profile(body))

    def armed(self):
        """Waits until the host's threads have timers or rings, or an answer has come without."""
        harness.poll(
            lambda: has_timers(self.host.pid)
            or has_rings(self.host.pid)
            or self.answers
            or self.host.process.poll() is not None,
            "the program is sampled",
        )
        return self

    def stop(self):
        """Ends the profiles; the current one is waited for."""
        self.stopped = True
        self.thread.join(harness.DEADLINE)
        assert not self.thread.is_alive(), (
            "a profile of one second never ends" + self.host.describe()
        )
        if self.stayer.sock:
            self.stayer.sock.shutdown(socket.SHUT_RDWR)
        self.stayer.close()

    def samples(self):
        return sum(profile.total()[0] for profile in self.profiles)

    def by_leaf(self):
        sums = collections.Counter()
        for profile in self.profiles:
            for sample in profile.samples:
                sums[bare(sample.frames[0].function)] += sample.values[0]
        return sums


def has_rings(pid):
    return "[perf_event]" in harness.proc_text("/proc/%d/maps" % pid)


def has_timers(pid):
    try:
        with open("/proc/%d/timers" % pid) as file:
            return "ID:" in file.read()
    except OSError:
        return False


def compared(lines):
    return [line for line in lines if not line.startswith("#")]


def plain_outcome(argv, **options):
    done = harness.run(argv, stdin=b"\n" * 50, plain=True, **options)
    return done.returncode, compared(done.stdout.decode().splitlines()), done.stderr


def outcome_under_profile(argv, expect_samples=20, seconds=None, by_timers=True, **options):
    """(exit code, lines) of a host that is profiled from its first `ready` to its last, and the
    Profiling."""
    host = harness.Host(argv, **(harness.by_timers(options) if by_timers else options))
    lines = host.ready() + ["ready"]
    profiling = Profiling(host).armed()
    try:
        host.go_on()
        while lines.count("ready") < 2:
            lines.append(host.line(seconds))
    except (AssertionError, BrokenPipeError):
        try:
            host.process.wait(5)
            what = "ended early"
        except subprocess.TimeoutExpired:
            what = "hangs"
        profiling.stop()
        raise AssertionError("the host %s: %s%s" % (what, lines, host.describe())) from None
    profiling.stop()
    while host.process.poll() is None:  # what it says after the profile
        try:
            host.go_on()
            lines.append(host.line(10))
        except (AssertionError, BrokenPipeError, OSError):
            break
    code = host.finish()
    for line in lines:
        if line.startswith("#"):
            harness.note("%s: %s" % (" ".join(argv[1:]), line[2:]))
    assert (
        profiling.samples() >= expect_samples
    ), "only %d samples: the hazard was not there; %s%s" % (
        profiling.samples(),
        profiling.answers[:1],
        host.describe(),
    )
    return (code, compared(lines), host.stderr().encode()), profiling


def check_same(argv, **options):
    run_options = {key: value for key, value in options.items() if key in ("extra", "preexec_fn")}
    expected = plain_outcome(argv, **run_options)
    found, profiling = outcome_under_profile(argv, **options)
    assert found == expected, "%s differs from a run without the agent:\n%s" % (
        " ".join(argv),
        difference(expected, found),
    )
    return expected, profiling


def difference(expected, found):
    texts = [
        ["exit code %d" % code] + lines + stderr.decode(errors="replace").splitlines()
        for code, lines, stderr in (expected, found)
    ]
    return "\n".join(list(difflib.unified_diff(*texts, "without", "with", lineterm="", n=0))[:40])


def check_mode(mode, *arguments, contains=None, **options):
    expected, profiling = check_same([hazards(), mode] + list(arguments), **options)
    assert expected[0] == 0 and (contains is None or contains in expected[1]), expected
    return profiling


def test_own_sigprof_timer():
    for when in ("before", "after"):
        check_mode(
            "own_sigprof",
            when,
            contains="ticks all there, 0 of somebody else's",
            expect_samples=200,
        )


def test_host_that_uses_every_signal():
    check_mode(
        "every_signal",
        contains="handled 0 unasked, 180 in all, 0 with a wrong mask, 0 with a wrong value",
    )


def test_signals_that_are_taken():
    check_mode(
        "taken_signals",
        "two",
        contains="unasked 0, SIGSTKFLT 50, SIGPROF 50, SIGURG 50",
        expect_samples=100,
    )


def test_every_signal_is_taken():
    """No signal is left for the profiler: it says so, and the host keeps its handlers."""
    argv = [hazards(), "taken_signals", "all"]
    expected = plain_outcome(argv)
    host = harness.Host(argv, **harness.by_timers())
    lines = host.ready() + ["ready"]
    status, _, body = host.get("profile?seconds=1")
    assert status in (500, 501, 503) and b"signal" in body, (status, body)
    host.go_on()
    lines += host.ready() + ["ready"]
    assert (host.finish(), lines, host.stderr().encode()) == expected


def test_default_actions():
    expected, _ = check_same([hazards(), "default_actions"], expect_samples=1)
    assert (
        expected[0] == -16
        and "signal 16: killed by 16" in expected[1]
        and "signal 27: killed by 27" in expected[1]
    ), expected


def test_tiny_alternate_stacks():
    for size in ("2048", "kernel", "8192"):
        for when in ("before", "during"):
            check_mode("tiny_altstack", size, when, contains="alive", expect_samples=50)


def test_alternate_stack_with_just_enough_room_for_the_host():
    check_mode("busy_altstack", contains="handled 40", expect_samples=50)


def test_coroutines_and_jumps_out_of_handlers():
    check_mode("contexts", contains="200 jumps out of a handler", expect_samples=50)


def large_megabytes():
    with open("/proc/meminfo") as file:
        available = (
            next(int(line.split()[1]) for line in file if line.startswith("MemAvailable")) >> 10
        )
    return "1024" if available > 3000 else "256"


def test_fork_of_a_large_process():
    """The kernel starts a fork again for each signal that is pending: with a tick every few
    milliseconds it would never end."""
    size = large_megabytes()
    for kind, count in (("fork", "40"), ("_Fork", "20"), ("vfork", "200"), ("spawn", "100")):
        plain = harness.run(
            [hazards(), "fork_large", size, kind, count], stdin=b"\n" * 9, plain=True
        )
        check_mode(
            "fork_large",
            size,
            kind,
            count,
            contains="%s of %s children well" % (count, count),
            expect_samples=1,
            seconds=180,
        )
        harness.note(
            "without: "
            + next(line for line in plain.stdout.decode().splitlines() if line.startswith("#"))
        )


def test_raw_clone_of_a_large_process():
    check_mode(
        "fork_large",
        large_megabytes(),
        "clone",
        "20",
        contains="20 of 20 children well",
        expect_samples=1,
        seconds=180,
    )


def test_exec_during_a_profile():
    """The new program must not die of a tick that was under way, again and again."""
    count = 25
    host = harness.Host([hazards(), "exec_chain", str(count)], **harness.by_timers())
    profilings = []
    for left in range(count, -1, -1):
        assert host.ready() == ([] if left else [])
        host._address = None
        listening = count - left + 1
        harness.poll(
            lambda: host.log().count("listening on http") >= listening
            or host.process.poll() is not None,
            "image %d listens%s" % (listening, host.describe()),
        )
        address = [line for line in host.log().splitlines() if "listening on http" in line][-1]
        host._address = harness.host_port(address[address.index("http://") :].split()[0])
        profilings.append(Profiling(host).armed())
        host.go_on()
    assert host.line() == "last one" and host.line() == "ready", host.describe()
    for profiling in profilings:
        profiling.stop()
    assert host.finish() == 0 and host.stderr() == "", host.describe()


def test_ten_thousand_short_threads():
    check_mode("churn", contains="10000 threads ended", expect_samples=50)


def test_cancelled_threads():
    check_mode("cancellation", contains="300 cancelled, 300 cleaned up", expect_samples=50)


def test_exceptions_dlopen_malloc_and_every_way_to_end():
    program = harness.build("cpu_exceptions.cc", "-std=c++17", "-O1")
    plugin = harness.build("plugin.c", "-O1", shared=True)
    for how in ("exit", "quick_exit", "_exit", "abort", "return"):
        core = harness.limit(resource.RLIMIT_CORE, 0)
        expected = harness.run([program, plugin, how], stdin=b"\n", plain=True, preexec_fn=core)
        for _ in range(3):
            host = harness.Host([program, plugin, how], preexec_fn=core, **harness.by_timers())
            lines = host.ready() + ["ready"]
            profiling = Profiling(host).armed()
            host.go_on()
            rest = host.process.stdout.read().decode().splitlines()
            code = host.process.wait(harness.DEADLINE)
            profiling.stop()
            assert (code, lines + rest) == (
                expected.returncode,
                expected.stdout.decode().splitlines(),
            ), (how, code, lines + rest, expected)
            assert host.stderr().encode() == expected.stderr, host.stderr()


# ---- masks and sandboxes -------------------------------------------------------------------------


def check_masks(mode, **options):
    expected, profiling = check_same([masks(), mode], **options)
    assert expected[0] == 0, expected
    return profiling


def test_blocked_signals_show_nothing():
    check_masks("masked")


def test_waiting_for_all_signals():
    check_masks("wait_for_signals")


def test_seccomp_strict():
    check_masks("seccomp_strict", expect_samples=0)  # the profile is cut off


def test_sandboxes_that_kill():
    for mode in ("deadly_timers", "deadly_prctl"):
        check_masks(mode, expect_samples=0)


def check_refusal(argv, words, **options):
    """No profile can be had: the agent says why, or gives an empty one that says it; the host goes
    on."""
    expected = plain_outcome(argv, **options)
    host = harness.Host(argv, **harness.by_timers(options))
    lines = host.ready() + ["ready"]
    status, _, body = host.get("profile?seconds=1&hz=1000")
    said = Profile(body).comments if status == 200 else [body.decode(errors="replace")]
    assert any(word in text for text in said for word in words), (status, said)
    profiling = Profiling(host)  # threads are born meanwhile
    host.go_on()
    lines += host.ready() + ["ready"]
    profiling.stop()
    assert (host.finish(), lines, host.stderr().encode()) == expected, (lines, expected)


def test_a_filter_that_refuses_timers():
    check_refusal(under_filter("errno", ["timer_create"], [masks(), "plain_burn"]), ("timer",))


def test_no_pending_signals_allowed():
    check_refusal(
        [masks(), "plain_burn"],
        ("timer", "RLIMIT_SIGPENDING"),
        preexec_fn=harness.limit(resource.RLIMIT_SIGPENDING, 0),
    )


# ---- EINTR ---------------------------------------------------------------------------------------


def test_a_million_calls_see_no_eintr():
    """While a thread's CPU timer fires 250 times a second (the kernel's tick), in the middle of
    calls that SA_RESTART does not cover."""
    expected, profiling = check_same([calls(), "count", "1000000"], expect_samples=500, seconds=180)
    leafs = profiling.by_leaf()
    inside = sum(
        count
        for name, count in leafs.items()
        if any(
            word in name
            for word in (
                "poll",
                "sleep",
                "select",
                "sem",
                "futex",
                "recv",
                "read",
                "msg",
                "sigtimedwait",
                "syscall",
            )
        )
    )
    harness.note(
        "%d samples, %d of them inside the calls: %s"
        % (profiling.samples(), inside, leafs.most_common(12))
    )
    assert inside > 100, leafs


def test_the_hosts_own_signals_interrupt():
    check_same([calls(), "own", "1000"], expect_samples=1, seconds=120)


def test_the_hosts_own_signals_that_come_with_a_tick():
    check_same([calls(), "tick", "500"], expect_samples=50, seconds=120)


# ---- where ticks hit -----------------------------------------------------------------------------


def leafs(mode):
    """{stack of function names, leaf first: samples} of a program that burns in one place."""
    library = harness.build("cpu_leafs_library.c", "-O1", shared=True)
    program = harness.build(
        "cpu_leafs.c",
        "-O1",
        "-fno-optimize-sibling-calls",
        "-Wl,--no-as-needed",
        library,
        "-Wl,-z,lazy",
        "-Wl,-rpath," + os.path.dirname(library),
    )
    host = harness.Host([program, mode], **harness.by_timers())
    host.ready()
    stacks = collections.Counter()

    def enough():  # a busy machine may give the program little of its time
        for sample in host.profile("profile?seconds=2&hz=250").samples:
            names = (
                frame.function or "[%s]" % (frame.mapping and frame.mapping.filename)
                for frame in sample.frames
            )
            stacks[tuple(names)] += sample.values[0]
        return sum(stacks.values()) > 100

    harness.poll(enough, "a hundred samples")
    assert host.finish() == 0
    return stacks


def share(stacks, condition):
    return sum(count for stack, count in stacks.items() if condition(stack)) / sum(stacks.values())


def test_leaf_in_the_vdso():
    stacks = leafs("vdso")
    assert share(stacks, lambda stack: "run" in stack and "ask_the_clock" in stack) > 0.95, stacks
    inside = share(
        stacks,
        lambda stack: any(
            name.endswith("clock_gettime") and name.startswith("__vdso") or name == "clock_gettime"
            for name in stack[:2]
        ),
    )
    assert inside > 0.5, stacks


def test_leaf_in_a_stub():
    stacks = leafs("stub")
    assert (
        share(
            stacks,
            lambda stack: stack[0] == "library_nothing@plt"
            and stack[1:3] == ("call_nothing", "run"),
        )
        > 0.02
    ), stacks
    assert (
        share(
            stacks,
            lambda stack: stack[0] in ("library_nothing@plt", "library_nothing", "call_nothing"),
        )
        > 0.95
    ), stacks


def test_leaf_in_code_without_unwind_information():
    stacks = leafs("jit")
    whole = share(stacks, lambda stack: stack[:3] == ("jitted_loop", "call_jit", "run"))
    assert whole > 0.95, stacks


def test_leaf_in_the_kernel():
    stacks = leafs("kernel")
    # glibc 2.41 has three functions of its own below read
    in_read = (
        lambda stack: any(name.endswith("read") for name in stack[:4])
        and "fill_from_kernel" in stack
    )
    assert share(stacks, in_read) > 0.9, stacks


# ---- others' tests -------------------------------------------------------------------------------


def test_stress_ng():
    """Its stressors are forked from the process that is profiled: they have the handler, but no
    timer."""
    stress = harness.need("stress-ng")
    argv = [stress, "-t", "4", "--temp-path", harness.scratch()]
    for stressor in (
        "context",
        "bad-altstack",
        "itimer",
        "fork",
        "dynlib",
        "pthread",
        "sigsuspend",
        "sigq",
        "timer",
        "vfork",
    ):
        argv += ["--" + stressor, "1"]
    expected = harness.run(argv, plain=True)
    host = harness.Host(argv, stdin=subprocess.DEVNULL, **harness.by_timers())
    profiling = Profiling(host)
    host.process.stdout.read()
    code = host.process.wait(harness.DEADLINE)
    profiling.stop()
    assert code == expected.returncode == 0, (
        code,
        expected.returncode,
        host.stderr(),
        expected.stderr,
    )
    assert (
        all(status == 200 for status, _ in profiling.answers) and profiling.answers
    ), profiling.answers
