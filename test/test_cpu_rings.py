"""CPU samples through the kernel's rings: nothing happens in the program's threads, and those that
no signal reaches are sampled."""
import concurrent.futures
import os
import re
import resource
import subprocess

import harness
from cpu_outcomes import Profiling, check_same, has_timers, plain_outcome
from system_calls import under_filter
from test_cpu_profile import handlers, start

FLAGS = ("-O1", "-fno-optimize-sibling-calls")
GO = """package main

/*
static long spin(long rounds) {
	volatile long sum = 0;
	for (long i = 0; i < rounds; i++) sum += i;
	return sum;
}
*/
import "C"

import (
	"bufio"
	"fmt"
	"os"
)

func main() {
	in := bufio.NewReader(os.Stdin)
	fmt.Println("ready")
	in.ReadString('\\n')
	for i := 0; i < 1500; i++ {
		C.spin(1000000)
	}
	fmt.Println("ready")
	in.ReadString('\\n')
}
"""


def need_rings():
    """Skips where the kernel gives this user none."""
    host, _ = start("cpu_shares.c", "endless")
    host.profile("profile?seconds=1")
    sampling = host.health()["cpu_sampling"]
    host.finish()
    if sampling["source"] != "perf":
        raise harness.Skip(sampling["perf_off_reason"])


def check(argv, **options):
    return check_same(argv, by_timers=False, **options)


def test_transfers_are_whole():
    need_rings()
    expected, profiling = check(
        [harness.build("whole_transfers.c", "-O1"), "1"], expect_samples=500
    )
    assert expected[1].count("ready") == 2, expected
    assert not any("short" in line for line in expected[1]), expected
    leaves = profiling.by_leaf()
    assert profiling.samples() > 500 and sum(leaves.values()) == profiling.samples(), leaves


def test_waits_of_io_uring_are_not_ended():
    need_rings()
    if not os.path.exists("/usr/include/liburing.h"):
        raise harness.Skip("liburing is not installed")
    expected, _ = check([harness.build("uring_waits.c", "-O1", "-luring")], expect_samples=0)
    if "none" in expected[1]:
        raise harness.Skip("the kernel has no io_uring for this user")
    assert "all there" in expected[1], expected


def test_threads_that_block_every_signal_are_sampled():
    """One of them waits for the very signal that timers would use."""
    need_rings()
    expected, profiling = check([harness.build("cpu_manners.c", "-O1"), "urgent_wait"])
    assert "got 20" in expected[1], expected
    lost = [line for profile in profiling.profiles for line in profile.comments]
    assert not any("block the signal" in line for line in lost), lost
    spent = 2.2e9  # two threads burn a second each, the third 20 times 10 ms
    found = sum(profile.total()[1] for profile in profiling.profiles)
    assert found > 0.5 * spent, (found, lost)  # the last second's profile ends with the program


def test_nothing_is_installed_while_it_runs():
    need_rings()
    host, _ = start("cpu_shares.c", "phases")
    plain = handlers(host.pid)
    status = lambda: re.findall(
        "(?m)^Sig(?:Cgt|Blk|Ign):.*", harness.proc_text("/proc/%d/status" % host.pid)
    )
    before = status()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(host.profile, "profile?seconds=3")
        harness.poll(lambda: host.health()["cpu_sampling"]["rings"], "the rings to be open")
        while host.health()["cpu_sampling"]["rings"]:
            assert handlers(host.pid) == plain and status() == before and not has_timers(host.pid)
        assert running.result().duration_nanos >= 3e9


def test_deep_stacks_and_names():
    """More stack than a sample's copy holds: the copy grows at the first that is cut."""
    need_rings()
    _, profiling = check([harness.build("deep_burn.c", *FLAGS)])
    whole = total = 0
    names = set()
    for profile in profiling.profiles:
        for sample in profile.samples:
            functions = [frame.function for frame in sample.frames]
            if "burn" in functions:
                names.add(sample.labels["thread_name"])
                total += sample.values[0]
                whole += sample.values[0] * (
                    functions.count("deeper") == 101 and "run" in functions
                )
    assert total > 1000 and whole > 0.9 * total, (whole, total)
    assert names == {"first name", "second name"}, names


def test_go_program():
    """It owns every signal: its runtime uses SIGURG and SIGPROF by system calls of its own."""
    need_rings()
    directory = harness.scratch()
    source, program = os.path.join(directory, "main.go"), os.path.join(directory, "spin")
    with open(source, "w") as file:
        file.write(GO)
    environment = dict(
        os.environ,
        CGO_ENABLED="1",
        GOFLAGS="-mod=mod",
        GO111MODULE="off",
        GOCACHE=os.path.join(directory, "cache"),
        GOPATH=directory,
    )
    done = subprocess.run(
        [harness.need("go"), "build", "-o", program, source],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    _, profiling = check([program], expect_samples=300)
    by_function = profiling.by_leaf()
    assert by_function["spin"] > 0.5 * profiling.samples(), by_function.most_common(5)


def test_who_may_not_have_them_is_told_why():
    argv = under_filter("errno", ["swapon"], [harness.build("cpu_shares.c", *FLAGS), "endless"])
    host = harness.Host(argv)
    host.ready()
    assert host.profile("profile?seconds=1").total()[0] > 0
    sampling = host.health()["cpu_sampling"]
    assert sampling["source"] == "timer", sampling
    assert sampling["perf_off_reason"] == "the process is under a seccomp filter", sampling
    host = harness.Host(argv, extra={"PPROFAGENT_CPU": "perf"})
    host.ready()
    status, _, body = host.get("profile?seconds=1")
    assert status == 500 and b"the process is under a seccomp filter" in body, (status, body)
    assert b"the process is under a seccomp filter" in host.get("")[2]


def test_a_source_that_there_is_not():
    host, _ = start("cpu_shares.c", "endless", extra={"PPROFAGENT_CPU": "magic"})
    faults = host.health()["config"]["faults"]
    assert faults == ['PPROFAGENT_CPU: "magic" is not auto, perf or timer; using auto'], faults


def test_where_there_is_no_ring_for_each_thread():
    """As many descriptors as the agent needs to serve, and a few more: then all threads are sampled
    by timers."""
    need_rings()
    host = harness.Host(
        [harness.build("blocked_many.c", "-O0"), "200", "sleep"],
        preexec_fn=harness.limit(resource.RLIMIT_NOFILE, 60),
    )
    host.ready()
    assert host.get("profile?seconds=1")[0] == 200
    sampling = host.health()["cpu_sampling"]
    assert sampling["source"] == "timer", sampling
    assert "a ring for each thread" in sampling["perf_off_reason"], sampling


def test_code_that_is_gone_when_its_samples_are_read():
    """The program goes on until there are samples: how soon the first profile begins and is
    answered is the machine's matter."""
    need_rings()
    argv = [harness.build("unmapped_code.c", "-O1")]
    expected = plain_outcome(argv)
    host = harness.Host(argv)
    host.ready()
    profiling = Profiling(host).armed()
    host.go_on()
    refused = lambda: [answer for answer in profiling.answers if answer[0] != 200]
    harness.poll(
        lambda: profiling.samples() >= 100 or refused() or host.process.poll() is not None,
        "100 samples" + host.describe(),
    )
    assert not refused() and host.process.poll() is None, (refused(), host.describe())
    host.go_on()
    host.ready()
    profiling.stop()
    assert (host.finish(), ["ready", "ready"], host.stderr().encode()) == expected, host.describe()


def test_pages_of_a_stack_that_were_never_written():
    """The kernel's copy ends at such: they are made pages at the first sample that is short."""
    need_rings()
    _, profiling = check([harness.build("unwritten_stack.c", *FLAGS)], expect_samples=100)
    whole = total = 0
    for profile in profiling.profiles:
        for sample in profile.samples:
            functions = [frame.function for frame in sample.frames]
            if "compute" in functions:
                total += sample.values[0]
                whole += sample.values[0] * ("run" in functions)
    assert total > 100 and whole > 0.8 * total, (whole, total)


def test_frames_that_the_kernel_s_copy_does_not_reach():
    """A function's frame of 300 KB lies between each thread's leaf and its outermost function. What
    was read a moment later is right and counts as guessed; or the stack is cut, and counted."""
    need_rings()
    host = harness.Host(
        [harness.build("large_frames.c", *FLAGS), "3"], extra={"PPROFAGENT_CPU": "perf"}
    )
    host.ready()
    totals = {"whole": 0, "cut": 0}

    def look():
        before = host.health()["losses"]["stacks_truncated_memory"]
        cut = 0
        for sample in host.profile("profile?seconds=1&hz=100").samples:
            names = [frame.function for frame in sample.frames]
            if len(names) < 3 or not names[0].startswith("leaf_") or names[1] != "large":
                continue  # before or behind that
            number = names[0][-1]
            if names[2].startswith("[truncated"):
                cut += sample.values[0]
            else:
                assert names[2] == "outer_" + number, names
                assert sample.labels["guessed_frames"] == len(names) - 2, (names, sample.labels)
                totals["whole"] += sample.values[0]
        totals["cut"] += cut
        # a sample may stand for several, and each stack is counted once
        assert host.health()["losses"]["stacks_truncated_memory"] - before <= cut + 9
        return totals["whole"] >= 10

    harness.poll(look, "whole stacks")
    harness.note("whole %(whole)d, cut %(cut)d" % totals)
    host.go_on()
    assert host.finish() == 0
