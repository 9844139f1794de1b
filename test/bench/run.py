#!/usr/bin/env python3
"""make bench: what the agent costs, against plain glibc, against the floor of any preload agent
(floor.c) and against peers.

Each figure is the median of the ratios of adjacent runs A B, B A, A B ... (the order is swapped
each round), with the quartiles of the ratios beside it. CPU time of the whole process (its agent
threads too), but where a row says wall time.
Environment: BENCH_ROUNDS (default 15), BENCH_PEER_ROUNDS (5), BENCH_CPU_SECONDS (10), BENCH_ONLY
(words: benchmarks whose name contains one of them; "cpu": cpu.py alone; "locks": locks.py alone;
"attack": attack.py alone, "stranger": its second part; "idle", "page": those alone).
PPROFAGENT_SO:
another build of the library.
"""
import hashlib
import os
import statistics
import subprocess
import sys

DIRECTORY = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, DIRECTORY)
sys.path.insert(0, os.path.dirname(DIRECTORY))
import harness  # noqa: E402
import attack  # noqa: E402
import cpu  # noqa: E402
import idle  # noqa: E402
import locks  # noqa: E402
import page  # noqa: E402
import processes  # noqa: E402
import redis_load  # noqa: E402
from comparison import (
    BUILD,
    PEER_ROUNDS,
    PLAIN,
    ROUNDS,
    Setup,
    compare,
    heading,
    row,
    tool,
    wanted,
)  # noqa: E402

# name: arguments of micro (pattern, iterations, size, depth)
MICRO = {
    "malloc+free 16 B": ("pair", 6000000, 16, 0),
    "malloc+free 64 B": ("pair", 6000000, 64, 0),
    "malloc+free 256 B": ("pair", 6000000, 256, 0),
    "malloc+free 4096 B": ("pair", 3000000, 4096, 0),
    "malloc+free 64 B, 20 frames deep": ("pair", 6000000, 64, 20),
    "malloc+free 4096 B, 20 frames deep": ("pair", 3000000, 4096, 20),
    "malloc+free 64 B, 2 threads": ("threads", 3000000, 64, 0),
    "64 B freed by another thread": ("handoff", 3000000, 64, 0),
    "pthread_create and join": ("create", 20000, 0, 0),
    "realloc growing step by step, to 64 KB": ("realloc_small", 4000000, 64, 0),
    "realloc growing step by step, to 64 MB": ("realloc_large", 60000, 64, 0),
    "mmap+munmap 64 KB": ("mappings", 300000, 64 << 10, 0),
    "mmap+munmap 1 MB": ("mappings", 300000, 1 << 20, 0),
    "mmap+munmap 1 MB, beside 3,000 mappings": ("mappings", 300000, 1 << 20, 3000),
}


def compile_tools():
    os.makedirs(BUILD, exist_ok=True)
    for output, source, flags in (
        ("micro", "micro.c", ["-fno-builtin", "-pthread"]),
        ("spawner", "spawner.c", []),
        ("forker", "forker.c", []),
        ("unwind", "unwind.c", ["-pthread"]),
        ("cpu_shares", "cpu_shares.c", ["-g", "-pthread"]),
        ("tick_gap", "tick_gap.c", []),
        ("locks", "locks.c", ["-pthread"]),
        ("step_count", "step_count.c", []),
        ("empty.so", "/dev/null", ["-shared", "-fPIC", "-x", "c"]),
        ("sleeper.so", "sleeper.c", ["-shared", "-fPIC"]),
        ("bare_sleeper.so", "sleeper.c", ["-shared", "-fPIC", "-DBARE"]),
        ("single_threaded", "single_threaded.c", ["-fno-builtin"]),
        ("shared_ptr", "shared_ptr.cc", []),
        *(
            (
                "floor%d.so" % n,
                "floor.c",
                ["-DFLOOR=%d" % n, "-fPIC", "-shared", "-fvisibility=hidden", "-Wl,-z,now"],
            )
            for n in range(3)
        ),
    ):
        source = os.path.join(DIRECTORY, source)
        made = os.path.getmtime(tool(output)) if os.path.exists(tool(output)) else 0
        if made <= max(os.path.getmtime(file) for file in (source, os.path.abspath(__file__))):
            compiler = "g++" if source.endswith(".cc") else "gcc"
            subprocess.run(
                [compiler, "-O2", "-Wall"] + flags + ["-o", tool(output), source], check=True
            )


def own_setups():
    return [
        Setup("floor0", tool("floor0.so")),
        Setup("floor1", tool("floor1.so")),
        Setup("agent", harness.agent(), PPROFAGENT_ADDR="127.0.0.1:0"),
    ]


def peers():
    """(setup, baseline): samplers that come with an allocator of their own are compared with that
    allocator, sampling off."""
    found = []
    tcmalloc, jemalloc = os.path.join(harness.LIBRARIES, "libtcmalloc.so.4"), os.path.join(
        harness.LIBRARIES, "libjemalloc.so.2"
    )
    heaptrack = "/usr/lib/heaptrack/libheaptrack_preload.so"
    if os.path.exists(tcmalloc):
        found.append(
            (
                Setup("tcmalloc on/off", tcmalloc, TCMALLOC_SAMPLE_PARAMETER="524288"),
                Setup("tcmalloc", tcmalloc, TCMALLOC_SAMPLE_PARAMETER="0"),
            )
        )
    if os.path.exists(jemalloc):
        found.append(
            (
                Setup("jemalloc on/off", jemalloc, MALLOC_CONF="prof:true,lg_prof_sample:19"),
                Setup("jemalloc", jemalloc),
            )
        )
    if os.path.exists(heaptrack):
        found.append(
            (Setup("heaptrack/plain", heaptrack, DUMP_HEAPTRACK_OUTPUT="/dev/null"), PLAIN)
        )
    return found


def micro(setup, pattern, iterations, size, depth):
    done = subprocess.run(
        [tool("micro"), pattern, str(iterations), str(size), str(depth)],
        env=setup.environment(),
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    return float(done.stdout.split()[0])


def bench_micro():
    names = [name for name in MICRO if wanted(name)]
    if not names:
        return
    floor0, floor1, agent = own_setups()
    others = peers()
    heading(
        "CPU time, ratio (quartiles)",
        "plain, ns",
        "floor0 / plain",
        "floor1 / plain",
        "agent / plain",
        "agent / floor1",
        *[setup.name[:18] for setup, _ in others]
    )
    for name in names:
        arguments = MICRO[name]
        against_plain = [
            compare(
                ROUNDS,
                lambda: micro(PLAIN, *arguments),
                lambda setup=setup: micro(setup, *arguments),
            )
            for setup in (floor0, floor1, agent)
        ]
        against_floor = compare(
            ROUNDS, lambda: micro(floor1, *arguments), lambda: micro(agent, *arguments)
        )
        cells = []
        for setup, baseline in others:
            fewer = (
                (arguments[0], arguments[1] // 20) + arguments[2:]
                if setup.name.startswith("heaptrack")
                else arguments
            )
            cells.append(
                compare(PEER_ROUNDS, lambda: micro(baseline, *fewer), lambda: micro(setup, *fewer))
            )
        row(
            name,
            "%.2f" % statistics.median(against_plain[2].first),
            *against_plain,
            against_floor,
            *cells
        )


def bench_sample_cost():
    """One recorded allocation and its free: the difference that sampling makes to a 4096 B pair,
    divided by the share that is sampled."""
    if not wanted("sample cost"):
        return
    heading("heap sample cost", "ns (quartiles)")
    for depth in (0, 20):
        for rate in (524288, 65536, 1):
            on = Setup(
                "on",
                harness.agent(),
                PPROFAGENT_ADDR="127.0.0.1:0",
                PPROFAGENT_MEMPROFILERATE=str(rate),
            )
            off = Setup(
                "off", harness.agent(), PPROFAGENT_ADDR="127.0.0.1:0", PPROFAGENT_MEMPROFILERATE="0"
            )
            iterations, share = (3000000, 4096 / rate) if rate > 1 else (400000, 1)
            pairs = compare(
                ROUNDS,
                lambda: micro(off, "pair", iterations, 4096, depth),
                lambda: micro(on, "pair", iterations, 4096, depth),
            )
            costs = sorted((b - a) / share for a, b in zip(pairs.first, pairs.second))
            row(
                "4096 B, rate %d, %d frames deep" % (rate, depth),
                "%.0f (%.0f-%.0f)"
                % (statistics.median(costs), costs[len(costs) // 4], costs[3 * len(costs) // 4]),
            )
    done = subprocess.run([tool("unwind")], stdout=subprocess.PIPE, check=True, text=True)
    for line in done.stdout.splitlines():
        row("for comparison, 20 frames: " + line.split()[0].replace("_", " ")[:30], line.split()[1])


def bench_unwind_engines():
    """What a stack costs by each of the two unwinders (docs/decisions.md, "Two unwinders")."""
    if not wanted("unwind engines"):
        return
    heading("a stack of 20 frames", "ns; memory in KB")
    oracle = os.path.join(harness.BUILD, "test", "unwind_oracle.so")
    done = subprocess.run(
        ["/bin/true"],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        env=dict(os.environ, LD_PRELOAD=oracle, UNWIND_ENGINES="1", PPROFAGENT_ADDR="off"),
    )
    for line in done.stdout.splitlines():
        if "not_counted" in line:
            continue
        row("unwind engines: " + line.split()[0].replace("_", " "), line.split()[1])


def bench_redis():
    names = [name for name in ("set", "get", "lpush") if wanted("redis " + name)]
    if not names:
        return
    _, floor1, agent = own_setups()
    heading("redis, -P 16, CPU time a request", "plain, us", "floor1 / plain", "agent / plain")
    servers = [redis_load.Server(setup.environment()) for setup in (PLAIN, floor1, agent)]
    try:
        for name in names:
            for server in servers:
                server.microseconds_a_request(name)  # warm
            against = [
                compare(
                    ROUNDS * 2,
                    lambda: servers[0].microseconds_a_request(name),
                    lambda other=other: other.microseconds_a_request(name),
                )
                for other in servers[1:]
            ]
            row("redis " + name, "%.3f" % statistics.median(against[1].first), *against)
            for ratios, label in zip(against, ("floor1", "agent")):
                mean, error = (
                    statistics.mean(ratios.all),
                    statistics.stdev(ratios.all) / len(ratios.all) ** 0.5,
                )
                print(
                    "    %s: mean ratio %.4f, standard error %.4f, %d pairs"
                    % (label, mean, error, len(ratios.all))
                )
    finally:
        for server in servers:
            server.stop()


def main():
    compile_tools()
    with open(harness.agent(), "rb") as file:
        mark = hashlib.sha256(file.read()).hexdigest()[:12]
    print("agent: %s (sha256 %s...)" % (os.path.abspath(harness.agent()), mark))
    print(
        "%d rounds of adjacent pairs (peers: %d); ratio: median (quartiles); below 1 is faster"
        % (ROUNDS, PEER_ROUNDS)
    )
    bench_micro()
    bench_sample_cost()
    bench_unwind_engines()
    idle.bench()
    processes.bench()
    bench_redis()
    cpu.bench()
    locks.bench()
    attack.bench()
    page.bench()


if __name__ == "__main__":
    main()
