"""Hosts that a CPU profiler is known to break run under it, at 1000 Hz, as they do without the
agent (cpu_hazards.c, one mode a test)."""
import resource
import subprocess

import harness
from cpu_outcomes import Profiling, check_mode, check_same, hazards, plain_outcome


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
        check_mode(
            "fork_large",
            size,
            kind,
            count,
            contains="%s of %s children well" % (count, count),
            expect_samples=1,
            seconds=180,
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
