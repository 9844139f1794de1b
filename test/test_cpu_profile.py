"""CPU profiles of programs that know what they do with their CPU time: shares, sums, threads of all
kinds, clients side by side.

Truth is what the program's threads read from their own CPU clocks. A sample stands for a period of
its thread's CPU time, and a thread's samples come one period apart from a random start: a sum over
n samples of all functions has at most the binomial standard error sqrt(n p (1 - p)) for a share p.
Bounds are 4.5 standard errors: a faithful sampler misses one in 150,000.
"""
import concurrent.futures
import math
import os
import re
import socket
import time

import harness
import pytest

pytestmark = pytest.mark.alone

FLAGS = ("-O1", "-fno-optimize-sibling-calls")
PERIOD = 10_000_000  # at the default 100 Hz


def start(source, *arguments, **options):
    host = harness.Host([harness.build(source, *FLAGS)] + list(arguments), **options)
    return host, host.ready()


def truth(host):
    """({function: nanoseconds of CPU time}, {thread's name: nanoseconds}) of what the host does for
    one line."""
    host.go_on()
    found = {"truth": {}, "thread": {}}
    while True:
        words = host.line().split()
        if words == ["end"]:
            return found["truth"], found["thread"]
        found[words[0]][words[1]] = int(words[2])


def running_profiles(host):
    return host.health()["cpu_sampling"]["profiles_running"]


def profile_of_all(host, query=""):
    """(profile, truth) of one line's work, all of which lies within the profile's window."""
    seconds = 6
    while True:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            running = pool.submit(host.profile, "profile?seconds=%d%s" % (seconds, query))
            harness.poll(lambda: running_profiles(host) == 1, "the profile to run")
            expected = truth(host)
            in_time = running_profiles(host) == 1
            profile = running.result()
        if in_time:
            return profile, expected
        seconds *= 2  # a slow machine
        assert seconds < 100, "the work is never done in time"


def host_threads(pid):
    """{tid: name} of the threads that are not the agent's."""
    threads = {
        tid: harness.proc_text("/proc/%d/task/%d/comm" % (pid, tid)).rstrip("\n")
        for tid in harness.tasks(pid)
    }
    return {tid: name for tid, name in threads.items() if name not in ("", "pprofagent")}


def cpu_times(pid):
    """{tid: nanoseconds on a CPU, as the scheduler accounts for them} of the host's threads."""
    texts = {
        tid: harness.proc_text("/proc/%d/task/%d/schedstat" % (pid, tid))
        for tid in host_threads(pid)
    }
    return {tid: int(text.split()[0]) for tid, text in texts.items() if text}


def timers(pid):
    """How many POSIX timers the process has."""
    path = "/proc/%d/timers" % pid
    if not os.path.exists(path):
        raise harness.Skip("this kernel does not show a process's timers")
    with open(path) as file:
        return len(re.findall(r"(?m)^ID: ", file.read()))


def handlers(pid):
    with open("/proc/%d/status" % pid) as file:
        return int(re.search(r"SigCgt:\s*(\w+)", file.read()).group(1), 16)


def nanoseconds_of(profile, chosen):
    return sum(sample.values[1] for sample in profile.samples if chosen(sample))


def check_form(profile):
    assert profile.sample_types == [
        ("samples", "count"),
        ("cpu", "nanoseconds"),
    ], profile.sample_types
    assert profile.period_type == ("cpu", "nanoseconds") and profile.default_sample_type is None
    labels = {"tid", "thread_name"}
    assert all(
        sample.values[0] >= 1 and set(sample.labels) - {"guessed_frames"} == labels
        for sample in profile.samples
    )


# ---- shares and sums -----------------------------------------------------------------------------


def check_shares(host, query="", period=PERIOD, may_miss=False):
    """Checks everything of a profile but its sum; returns it with the truth and the sampled time of
    what measured itself.
    may_miss: a profile that says that it has missed CPU time is returned as well."""
    profile, (spent, threads) = profile_of_all(host, query)
    check_form(profile)
    assert profile.period == period and (may_miss or not profile.comments), (
        profile.period,
        profile.comments,
    )
    assert abs(profile.time_nanos / 1e9 + profile.duration_nanos / 1e9 - time.time()) < 60
    found = {name: values[1] for name, values in profile.by_function().items() if name in spent}
    assert set(found) == set(spent), found
    losses = harness.losses(host.health())
    # A thread's first instruction, behind clone's system call, is a return to nowhere; its stack
    # may not be there yet.
    odd = sum(
        losses.pop("stacks_" + kind, 0)
        for kind in ("truncated_no_unwind", "truncated_memory", "guessed")
    )
    assert odd < 0.01 * profile.total()[0] and losses == {}, losses
    total, flat = sum(spent.values()), sum(found.values())
    # The functions' caller looks at its clock after each call: a busy kernel likes to change
    # threads there, and what that costs is in the truth.
    sampled = nanoseconds_of(
        profile, lambda sample: any(frame.function == "burn_for" for frame in sample.frames)
    )
    count = flat / max(
        period, 4_000_000
    )  # ticks come no more often on some kernels: one stands for several periods then
    deviations = {}
    for name in spent:
        share = spent[name] / total
        deviations[name] = (found[name] / flat - share) / math.sqrt(share * (1 - share) / count)
    harness.note(
        "deviations in binomial standard errors: %s; sampled / spent: %.4f"
        % (", ".join("%s %+.1f" % pair for pair in deviations.items()), sampled / total)
    )
    assert all(abs(deviation) < 4.5 for deviation in deviations.values()), deviations
    return profile, spent, threads, sampled


def test_shares_and_sums():
    check_shares_and_sums()


def test_shares_and_sums_by_timers():
    check_shares_and_sums(**harness.by_timers())


def check_shares_and_sums(**options):
    host, _ = start("cpu_shares.c", "amounts", **options)
    profile, spent, threads, sampled = check_shares(host)
    assert all(sample.values[1] == sample.values[0] * PERIOD for sample in profile.samples)
    assert abs(sampled - sum(spent.values())) < 0.02 * sum(spent.values()), (sampled, spent)
    errors = {
        name: nanoseconds_of(profile, lambda sample: sample.labels["thread_name"] == name)
        - nanoseconds
        for name, nanoseconds in threads.items()
    }
    harness.note(
        "threads: " + ", ".join("%+.2f periods" % (error / PERIOD) for error in errors.values())
    )
    assert all(
        abs(error) <= 2.1 * PERIOD for error in errors.values()
    ), errors  # its first and its last period
    tids = {name: tid for tid, name in host_threads(host.pid).items()}
    assert all(
        sample.labels["tid"] == tids[sample.labels["thread_name"]] for sample in profile.samples
    ), tids
    # glibc 2.41 has it as __clone3
    stacks = {
        tuple(frame.function.lstrip("_") for frame in sample.frames) for sample in profile.samples
    }
    assert ("burn_40", "burn_for", "run", "start_thread", "clone3") in stacks, stacks


def test_shares_of_threads_that_live_for_50_ms():
    check_short_lives()


def test_shares_of_threads_that_live_for_50_ms_by_timers():
    check_short_lives(**harness.by_timers())


def check_short_lives(**options):
    """A machine that is short of CPU changes threads at the burners' looks at their clocks rather
    than in ticks, which then miss them: three tries."""
    lives = 120
    # A life is 5 periods long; its last one is lost or counted whole, at random: less than half a
    # period's standard error a life.
    bound = 4.5 * 0.5 * PERIOD * math.sqrt(lives)
    for _ in range(3):
        host, _ = start("cpu_shares.c", "short", **options)
        profile, spent, _, sampled = check_shares(host, may_miss=True)
        missed = sum(spent.values()) - sampled
        if profile.comments:  # what it misses it says, to a tenth of all
            stated = (
                float(re.search(r"CPU time not sampled: ([0-9.]+) s", profile.comments[0]).group(1))
                * 1e9
            )
            assert abs(stated - missed) < 0.1 * sum(spent.values()), (profile.comments, missed)
            continue
        assert len({sample.labels["tid"] for sample in profile.samples}) > 0.9 * lives
        if abs(missed) < bound:
            return
    busy = os.getloadavg()[0]  # the burners are four
    assert profile.comments and busy > 4 + 2 * os.cpu_count(), (
        sampled,
        spent,
        profile.comments,
        busy,
    )
    harness.note("too busy (%.0f): %s" % (busy, profile.comments[0]))


def test_thousand_hertz():
    check_thousand_hertz()


def test_thousand_hertz_by_timers():
    check_thousand_hertz(**harness.by_timers())


def check_thousand_hertz(**options):
    host, _ = start("cpu_shares.c", "amounts", **options)
    profile, spent, threads, sampled = check_shares(host, "&hz=1000", 1_000_000)
    assert abs(sampled - sum(spent.values())) < 0.02 * sum(spent.values()), (sampled, spent)
    for name, nanoseconds in threads.items():
        found = nanoseconds_of(profile, lambda sample: sample.labels["thread_name"] == name)
        assert abs(found - nanoseconds) <= 10_000_000, (name, found, nanoseconds)


# ---- where ---------------------------------------------------------------------------------------


def test_leaf_is_the_exact_instruction():
    host, lines = start("cpu_shares.c", "spin")
    address, line = re.fullmatch(r"spin (\w+) line (\d+)", lines[0]).groups()
    profile = host.profile("profile?seconds=2")
    leaves = [
        sample.frames[0]
        for sample in profile.samples
        if sample.frames[0].address == int(address, 16)
    ]
    assert leaves and all(leaf.line == int(line) for leaf in leaves), leaves
    exact = nanoseconds_of(profile, lambda sample: sample.frames[0].address == int(address, 16))
    assert exact > 0.98 * profile.total()[1], [
        (hex(s.frames[0].address), s.frames[0].function, s.values) for s in profile.samples
    ]


def test_raw_clone_threads_are_found():
    host, lines = start("cpu_clone.c")
    first = int(lines[0].split()[1])
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(host.profile, "profile?seconds=4")
        harness.poll(
            lambda: host.health()["cpu_sampling"]["profiles_running"], "the profile to run"
        )
        host.go_on()
        second = int(host.line().split()[1])
        profile = running.result()
    found = {(sample.labels["tid"], sample.frames[0].function) for sample in profile.samples}
    assert {(first, "burn_cloned"), (second, "burn_cloned_later")} <= found, found
    spent = nanoseconds_of(profile, lambda sample: sample.labels["tid"] == first)
    assert 0.2e9 < spent < 4.2e9, spent
    assert all(
        sample.frames[1].function == "run"
        for sample in profile.samples
        if sample.labels["tid"] == first
    )


# ---- clients -------------------------------------------------------------------------------------


def spend(pid, seconds):
    """Waits until the host's threads have used so much CPU time more."""
    before = sum(cpu_times(pid).values())
    harness.poll(
        lambda: sum(cpu_times(pid).values()) > before + seconds * 1e9,
        "%.1f s of CPU time" % seconds,
    )


def two_windows(host, seconds):
    """(the inner profile, the outer one, CPU time spent meanwhile, in how many seconds), or None
    where the outer one has ended too soon."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        start_times, began = cpu_times(host.pid), time.monotonic()
        long = pool.submit(host.profile, "profile?seconds=%d" % seconds)
        harness.poll(lambda: running_profiles(host) == 1, "the first profile to run")
        spend(host.pid, 0.5)  # phase_0 is to be seen
        truth(host)
        short = pool.submit(host.profile, "profile?seconds=2&hz=500")
        harness.poll(
            lambda: running_profiles(host) == 2 or long.done(), "the second profile to run"
        )
        inside = short.result()
        truth(host)
        spend(host.pid, 0.5)  # and phase_2
        in_time = not long.done()
        outer = long.result()
        ended, end_times = time.monotonic(), cpu_times(host.pid)
    # A thread of the agent's that was born at that moment had the program's name; by now it has its
    # own, or has ended.
    spent = sum(end_times[tid] - times for tid, times in start_times.items() if tid in end_times)
    return (inside, outer, spent, ended - began) if in_time else None


def test_two_clients_have_their_own_windows():
    check_two_clients()


def test_two_clients_have_their_own_windows_by_timers():
    check_two_clients(**harness.by_timers())


def check_two_clients(**options):
    found, seconds = None, 3
    while not found:
        seconds *= 2  # a slow machine
        assert seconds < 100, "the work is never done in time"
        host, _ = start("cpu_shares.c", "phases", **options)
        found = two_windows(host, seconds)
    inside, outer, spent, wall = found
    phases = [
        {name for name in profile.by_function() if name.startswith("phase_")}
        for profile in (inside, outer)
    ]
    assert phases == [{"phase_1"}, {"phase_0", "phase_1", "phase_2"}], phases
    assert (
        2e9 <= inside.duration_nanos < outer.duration_nanos
        and outer.duration_nanos >= seconds * 1e9
    )
    assert inside.period == 2_000_000
    # The rate changed twice within the long window; its sum is the time that was spent all the
    # same.
    spent *= outer.duration_nanos / 1e9 / wall
    assert abs(outer.total()[1] - spent) < 0.06 * spent, (outer.total(), spent)
    harness.poll(
        lambda: running_profiles(host) == 0 and timers(host.pid) == 0, "the sampler to stop"
    )


def ask_and_hang_up(host, path, meanwhile):
    with socket.create_connection(host.address) as connection:
        connection.sendall(
            b"GET /debug/pprof/%s HTTP/1.1\r\nHost: %s:%d\r\n\r\n"
            % ((path.encode(),) + (host.address[0].encode(), host.address[1]))
        )
        meanwhile()


def test_client_that_goes_away_stops_the_sampler():
    host, _ = start("cpu_shares.c", "endless")
    rings = lambda: host.health()["cpu_sampling"]["rings"]
    if host.health()["cpu_sampling"]["source"] is None:
        host.profile("profile?seconds=1")
    if host.health()["cpu_sampling"]["source"] != "perf":
        raise harness.Skip(host.health()["cpu_sampling"]["perf_off_reason"])
    ask_and_hang_up(
        host,
        "profile?seconds=600",
        lambda: harness.poll(lambda: rings() == 5, "a ring for each of the five threads"),
    )
    harness.poll(lambda: rings() == 0 and running_profiles(host) == 0, "the sampler to stop")
    assert "perf_event" not in harness.proc_text("/proc/%d/maps" % host.pid)


def test_client_that_goes_away_stops_the_timers():
    host, _ = start("cpu_shares.c", "endless", **harness.by_timers())
    assert timers(host.pid) == 0
    ask_and_hang_up(
        host,
        "profile?seconds=600",
        lambda: harness.poll(lambda: timers(host.pid) == 5, "a timer for each of the five threads"),
    )
    harness.poll(
        lambda: timers(host.pid) == 0 and running_profiles(host) == 0, "the sampler to stop"
    )


def test_client_that_goes_away_leaves_the_other_its_profile():
    host, _ = start("cpu_shares.c", "endless")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        other = pool.submit(host.profile, "profile?seconds=3")
        harness.poll(lambda: running_profiles(host) == 1, "the first profile to run")
        ask_and_hang_up(
            host,
            "profile?seconds=600&hz=1000",
            lambda: harness.poll(lambda: running_profiles(host) == 2, "the second one to run"),
        )
        profile = other.result()
    assert profile.total()[1] > 0.5e9 and timers(host.pid) == 0


def test_bounds():
    host, _ = start("cpu_shares.c", "phases")
    status, _, body = host.get("profile?seconds=3601")
    assert (status, body) == (503, b"a CPU profile takes at most 3600 seconds: ask for fewer\n"), (
        status,
        body,
    )
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        running = [pool.submit(host.get, "profile?seconds=3") for _ in range(4)]
        harness.poll(lambda: running_profiles(host) == 4, "four profiles to run")
        status, _, body = host.get("profile?seconds=1")
        assert (status, body) == (503, b"too many CPU profiles are running: at most 4 at once\n"), (
            status,
            body,
        )
        assert all(future.result()[0] == 200 for future in running)
    assert host.get("profile?seconds=1")[0] == 200
    for value in ("0", "1001", "-1", "x", "1e2", "99999999999999999999"):
        status, _, body = host.get("profile?seconds=1&hz=" + value)
        assert (status, body) == (
            400,
            b'invalid value for "hz" - must be an integer from 1 to 1000\n',
        ), (value, status, body)


def test_nothing_is_armed_when_nobody_asks():
    host, _ = start("cpu_shares.c", "endless")
    plain = handlers(host.pid)
    for path in ("", "health", "heap", "allocs?debug=1", "cmdline", "threadcreate"):
        assert host.get(path)[0] == 200, path
    for path in ("profile?seconds=5", "goroutine"):
        assert host.get(path, method="HEAD")[0] == 200, path
    assert handlers(host.pid) == plain and timers(host.pid) == 0
    sampling = host.health()["cpu_sampling"]
    assert sampling["signal"] == 0 and sampling["profiles_running"] == 0, sampling
    host.profile("profile?seconds=1")
    after = host.health()["cpu_sampling"]
    assert timers(host.pid) == 0 and after["rings"] == 0 and after["profiles_running"] == 0, after


# ---- pprof ---------------------------------------------------------------------------------------


def test_pprof_reads_it_without_a_warning():
    host, _ = start("cpu_shares.c", "endless")
    top = harness.pprof_clean("-top", host.url("profile?seconds=2"))
    assert (
        "Type: cpu" in top
        and re.search(r"Duration: 2(\.\d+)?s, Total samples = ", top)
        and "burn_40" in top
    ), top
    saved = os.path.join(harness.scratch(), "cpu.pb.gz")
    with open(saved, "wb") as file:
        file.write(host.get("profile?seconds=1")[2])
    assert "burner-1" in harness.pprof_clean("-tags", saved)
