"""A program's outcome under a CPU profile at 1000 Hz, against that without the agent."""
import collections
import difflib
import http.client
import socket
import subprocess
import threading

import harness
from pprof_reader import Profile, bare

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
    lines = done.stdout.decode().splitlines()
    for line in lines:
        if line.startswith("#"):
            harness.note("%s, without the agent: %s" % (" ".join(argv[1:]), line[2:]))
    return done.returncode, compared(lines), done.stderr


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
