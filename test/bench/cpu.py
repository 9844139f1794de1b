"""The CPU profile beside perf record and gperftools' libprofiler: how true, and how dear.

Accuracy: cpu_shares.c knows what share of the CPU time each of its functions took; each profiler
says what it saw of the same kind of run. Cost: equal work with and without a profile, in pairs; and
what one tick takes from the program (tick_gap.c).
"""
import http.client
import os
import re
import statistics
import subprocess
import tempfile
import threading

import harness
from comparison import ROUNDS, compare, heading, row, tool, wanted
from pprof_reader import bare

SECONDS = float(os.environ.get("BENCH_CPU_SECONDS", "10"))
FUNCTIONS = ("burn_10", "burn_20", "burn_30", "burn_40")
LIBPROFILER = os.path.join(harness.LIBRARIES, "libprofiler.so.0")
THREADS, DEPTH = 4, 10


class Run:
    """One run of cpu_shares: the truth, and what a profiler saw: {function: samples}, its count of
    samples, its seconds of CPU time."""

    def __init__(self, truth_line):
        fields = truth_line.split()
        nanoseconds = [int(field) for field in fields[:4]]
        self.truth = [value / max(1, sum(nanoseconds)) for value in nanoseconds]
        self.thread_seconds, self.process_seconds = float(fields[4]), float(fields[5])
        self.seen, self.samples, self.seconds = {}, 0, 0.0

    def errors(self):
        """The differences of the shares, in points, and in standard errors of a binomial of that
        many samples."""
        counts = [self.seen.get(name, 0) for name in FUNCTIONS]
        total = max(1, sum(counts))
        points = [100 * (count / total - truth) for count, truth in zip(counts, self.truth)]
        return points, [
            p / (100 * (truth * (1 - truth) / total) ** 0.5) for p, truth in zip(points, self.truth)
        ]


def finish(host, go=True):
    """The program's line of truth; it then waits for another line before it ends."""
    if go:
        host.go_on()
    return host.line(seconds=SECONDS * 20 + 60)


def await_sampling(host):
    def sampled():
        with open("/proc/%d/timers" % host.pid) as timers:
            return "ID:" in timers.read() or host.health()["cpu_sampling"]["rings"] > 0

    harness.poll(sampled, "the program is sampled")


def run_agent_by_timers(life):
    return run_agent(life, **harness.by_timers())


def run_agent(life, hz=100, **options):
    host = harness.Host(
        [tool("cpu_shares"), str(SECONDS), str(THREADS), str(life), str(DEPTH), "0"], **options
    )
    host.ready()
    profiles = []
    client = threading.Thread(
        target=lambda: profiles.append(
            host.profile("profile?seconds=%d&hz=%d" % (SECONDS + 2, hz), timeout=SECONDS * 10 + 60)
        )
    )
    client.start()
    await_sampling(host)
    run = Run(finish(host))
    client.join()
    host.go_on()
    host.finish()
    for sample in profiles[0].samples:
        name = bare(sample.frames[0].function)
        run.seen[name] = run.seen.get(name, 0) + sample.values[0]
    run.samples, nanoseconds = profiles[0].total()
    run.seconds = nanoseconds / 1e9
    return run


def run_perf(life, hz=99):
    with tempfile.TemporaryDirectory() as directory:
        data = os.path.join(directory, "data")
        host = harness.Host(
            [
                "perf",
                "record",
                "-q",
                "-F",
                str(hz),
                "-e",
                "cpu-clock:u",
                "-o",
                data,
                "--",
                tool("cpu_shares"),
                str(SECONDS),
                str(THREADS),
                str(life),
                str(DEPTH),
                "0",
            ],
            plain=True,
        )
        host.ready()
        run = Run(finish(host))
        host.go_on()
        host.finish()
        text = subprocess.run(
            ["perf", "script", "-i", data, "-F", "ip,sym"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        ).stdout
    for line in text.splitlines():
        fields = line.split()
        if fields:
            run.seen[fields[-1]] = run.seen.get(fields[-1], 0) + 1
            run.samples += 1
    run.seconds = run.samples / hz
    return run


def run_libprofiler(life, hz=100):
    with tempfile.TemporaryDirectory() as directory:
        data = os.path.join(directory, "data")
        host = harness.Host(
            [tool("cpu_shares"), str(SECONDS), str(THREADS), str(life), str(DEPTH), "0"],
            plain=True,
            preload_before=[LIBPROFILER],
            extra={"CPUPROFILE": data, "CPUPROFILE_FREQUENCY": str(hz)},
        )
        host.ready()
        run = Run(finish(host))
        host.go_on()
        host.finish()
        text = subprocess.run(
            ["google-pprof", "--text", tool("cpu_shares"), data],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        ).stdout
    for count, name in re.findall(r"^\s*(\d+)\s+\S+\s+\S+\s+\d+\s+\S+\s+(\S+)", text, re.MULTILINE):
        run.seen[name] = run.seen.get(name, 0) + int(count)
        run.samples += int(count)
    run.seconds = run.samples / hz
    return run


def profilers():
    found = [("agent, 100 Hz", run_agent), ("agent by timers, 100 Hz", run_agent_by_timers)]
    if (
        subprocess.run(
            ["perf", "record", "-q", "-e", "cpu-clock:u", "-o", "/dev/null", "true"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ).returncode
        == 0
    ):
        found.append(("perf record, 99 Hz", run_perf))
    if os.path.exists(LIBPROFILER):
        found.append(("libprofiler, 100 Hz", run_libprofiler))
    return found


def quartiles(values, form="%.2f"):
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return (form + " (" + form + "-" + form + ")") % (middle, low, high)


def bench_accuracy():
    for name, life in (("cpu shares, threads that stay", 0), ("cpu shares, threads of 50 ms", 50)):
        if not (wanted(name) or wanted("cpu")):
            continue
        heading(
            name,
            "samples",
            "|error|, points",
            "largest, points",
            "largest, std. err.",
            "time / rusage",
            "bias, points",
        )
        runs = {label: [] for label, _ in profilers()}
        for _ in range(ROUNDS):
            for label, function in profilers():
                runs[label].append(function(life))
                harness.stop_everything()
        for label, of_label in runs.items():
            errors = [run.errors() for run in of_label]
            biases = [
                statistics.mean(points[i] for points, _ in errors) for i in range(len(FUNCTIONS))
            ]
            row(
                label,
                "%.0f" % statistics.median(run.samples for run in of_label),
                quartiles([statistics.mean(abs(p) for p in points) for points, _ in errors]),
                quartiles([max(abs(p) for p in points) for points, _ in errors]),
                "%.1f" % max(abs(z) for _, scores in errors for z in scores),
                quartiles([run.seconds / run.process_seconds for run in of_label], "%.3f"),
                " ".join("%+.2f" % bias for bias in biases),
            )


class Session:
    """A run of a program of ours, perhaps profiled from its `ready` to its end."""

    def __init__(self, argv, hz=0, **options):
        self.host = harness.Host(argv, **options)
        self.host.ready()
        self.connection = None
        if hz:
            self.connection = http.client.HTTPConnection(*self.host.address, timeout=600)
            self.connection.request("GET", "/debug/pprof/profile?seconds=600&hz=%d" % hz)
            await_sampling(self.host)

    def result(self):
        fields = finish(self.host).split()
        if self.connection:
            self.connection.close()
        self.host.kill()
        harness.stop_everything()
        return fields


def work_seconds(column, hz=0, **options):
    """CPU seconds of equal work: column 4 of cpu_shares is its threads' own, 5 the process's, a
    profiler's threads too."""
    return float(
        Session([tool("cpu_shares"), "0", "2", "0", "20", "40000"], hz, **options).result()[column]
    )


def bench_overhead():
    if not (wanted("cpu overhead") or wanted("cpu")):
        return
    heading("cpu overhead, equal work, 20 frames deep", "plain, s", "ratio")
    cases = [
        ("agent idle / plain, whole process", dict(plain=True), {}, 0, 5),
        ("100 Hz profile / agent idle, its threads", {}, {}, 100, 4),
        ("100 Hz profile / agent idle, whole process", {}, {}, 100, 5),
        ("1000 Hz profile / agent idle, whole process", {}, {}, 1000, 5),
        ("1000 Hz by timers / agent idle, whole process", {}, harness.by_timers(), 1000, 5),
    ]
    for name, options, other, hz, column in cases:
        ratios = compare(
            ROUNDS,
            lambda: work_seconds(column, **options),
            lambda: work_seconds(column, hz=hz, **other),
        )
        row(name, "%.2f" % statistics.median(ratios.first), quartiles(ratios.all, "%.3f"))
    if os.path.exists(LIBPROFILER):
        with tempfile.TemporaryDirectory() as directory:
            theirs = dict(
                plain=True,
                preload_before=[LIBPROFILER],
                extra={
                    "CPUPROFILE": os.path.join(directory, "data"),
                    "CPUPROFILE_FREQUENCY": "100",
                },
            )
            ratios = compare(
                ROUNDS, lambda: work_seconds(5, plain=True), lambda: work_seconds(5, **theirs)
            )
            row(
                "libprofiler, 100 Hz / plain",
                "%.2f" % statistics.median(ratios.first),
                quartiles(ratios.all, "%.3f"),
            )


def gap(depth, *words, hz=0, **options):
    return float(
        Session([tool("tick_gap"), "2", str(depth)] + list(words), hz, **options).result()[0]
    )


def bench_tick():
    if not (wanted("cpu sample cost") or wanted("cpu")):
        return
    heading("cpu sample cost, us beyond an idle tick", "20 frames deep", "100 frames deep")
    with tempfile.TemporaryDirectory() as directory:
        data = {"CPUPROFILE": os.path.join(directory, "data"), "CPUPROFILE_FREQUENCY": "1000"}
        for name, words, hz, options in (
            ("an empty handler of the program's own", ["empty"], 0, dict(plain=True)),
            ("agent, at every tick", [], 1000, {}),
            ("agent by timers, at every tick", [], 1000, harness.by_timers()),
            (
                "libprofiler, at every tick",
                [],
                0,
                dict(plain=True, preload_before=[LIBPROFILER], extra=data),
            ),
        ):
            if "libprofiler" in name and not os.path.exists(LIBPROFILER):
                continue
            cells = []
            for depth in (20, 100):
                pairs = compare(
                    ROUNDS,
                    lambda: gap(depth, plain=True),
                    lambda: gap(depth, *words, hz=hz, **options),
                )
                cells.append(
                    quartiles([(b - a) / 1000 for a, b in zip(pairs.first, pairs.second)], "%.1f")
                )
            row(name, *cells)


def bench():
    bench_accuracy()
    bench_overhead()
    bench_tick()
