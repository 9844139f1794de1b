"""What the wrappers of locks cost: without contention (CPU time, and instructions counted one by
one), and with (wall time for what is done).

Beside plain glibc: floor2 (floor.c: a mutex is tried first, then locked; nothing else), and mutrace
where there is one (MUTRACE=/path/to/libmutrace.so). With contention the spread is large, so the
ratio is given with its 95 % interval, over as many pairs as make it +-2 %, 20 at least.
Environment: BENCH_ROUNDS, BENCH_PEER_ROUNDS as in run.py; BENCH_LOCK_PAIRS (60 at most),
BENCH_LOCK_MS (length of a contended run, 200).
"""
import glob
import os
import statistics
import subprocess

import harness
from comparison import (
    PEER_ROUNDS,
    PLAIN,
    ROUNDS,
    Interval,
    Setup,
    compare,
    heading,
    row,
    tool,
    wanted,
)

PAIRS = int(os.environ.get("BENCH_LOCK_PAIRS", "60"))
LEAST_PAIRS, HALF_WIDTH = 20, 0.02
MILLISECONDS = int(os.environ.get("BENCH_LOCK_MS", "200"))

# name: (pattern of locks.c, times)
ALONE = {
    "mutex lock+unlock": ("mutex", 10000000),
    "mutex lock+unlock, one thread in all": ("single_mutex", 10000000),
    "recursive mutex lock+unlock": ("recursive", 10000000),
    "rwlock rdlock+unlock": ("rwlock", 10000000),
    "sem post+wait, locks": ("sem", 10000000),
    "setjmp+longjmp, locks": ("setjmp", 10000000),
    "syscall(SYS_getppid), locks": ("syscall", 500000),
}
TOGETHER = {
    "4 threads, short locks": "short",
    "4 threads, long locks": "long",
    "4 threads, rwlocks, 1 in 16 writes": "readers",
    "2 threads, cond ping-pong, locks": "ping_pong",
}
SEEN_BY_FLOOR = ("mutex", "single_mutex", "recursive", "short", "long", "ping_pong")
SEEN_BY_MUTRACE = (
    "mutex",
    "single_mutex",
    "recursive",
    "rwlock",
    "short",
    "long",
    "readers",
    "ping_pong",
)
STEPS = 2000


def mutrace():
    places = (
        [os.environ.get("MUTRACE", "")]
        + glob.glob("/usr/lib/mutrace/libmutrace.so")
        + glob.glob(harness.LIBRARIES + "/mutrace/libmutrace.so")
    )
    found = [place for place in places if place and os.path.exists(place)]
    return Setup("mutrace", found[0]) if found else None


def measure(setup, pattern, amount):
    done = subprocess.run(
        [tool("locks"), pattern, str(amount)],
        env=setup.environment(),
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    return float(done.stdout.split()[0])


def instructions(setup, pattern):
    done = subprocess.run(
        [tool("step_count"), tool("locks"), "count", pattern, str(STEPS)],
        env=setup.environment("STEP_PRELOAD"),
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    return int(done.stdout) / STEPS


def setups():
    return Setup("floor2", tool("floor2.so")), Setup(
        "agent", harness.agent(), PPROFAGENT_ADDR="127.0.0.1:0"
    )


def chosen(names):
    return [name for name in names if wanted(name) or wanted("locks")]


def bench_alone():
    names = chosen(ALONE)
    if not names:
        return
    (floor2, agent), peer = setups(), mutrace()
    heading(
        "CPU time, ratio (quartiles)",
        "plain, ns",
        "floor2 / plain",
        "agent / plain",
        "agent / floor2",
        "mutrace / plain",
    )
    for name in names:
        pattern, times = ALONE[name]

        def pairs(rounds, a, b, times=times):
            return compare(
                rounds, lambda: measure(a, pattern, times), lambda: measure(b, pattern, times)
            )

        cost = pairs(ROUNDS, PLAIN, agent)
        floor = pattern in SEEN_BY_FLOOR
        row(
            name,
            "%.2f" % statistics.median(cost.first),
            pairs(ROUNDS, PLAIN, floor2) if floor else "",
            cost,
            pairs(ROUNDS, floor2, agent) if floor else "",
            pairs(PEER_ROUNDS, PLAIN, peer, times // 20)
            if peer and pattern in SEEN_BY_MUTRACE
            else "",
        )


def bench_instructions():
    names = chosen(ALONE)
    if not names or os.uname().machine != "x86_64":
        return
    floor2, agent = setups()
    heading(
        "instructions a time, user mode",
        "plain",
        "floor2",
        "agent",
        "agent / plain",
        "agent / floor2",
    )
    for name in names:
        counts = [instructions(setup, ALONE[name][0]) for setup in (PLAIN, floor2, agent)]
        row(
            name,
            *["%.1f" % count for count in counts],
            "%.2f" % (counts[2] / counts[0]),
            "%.2f" % (counts[2] / counts[1])
        )


def bench_together():
    names = chosen(TOGETHER)
    if not names:
        return
    (floor2, agent), peer = setups(), mutrace()

    def narrow(ratios):
        cell = Interval(ratios) if len(ratios.all) >= LEAST_PAIRS else None
        return cell and cell.high - cell.low < 2 * HALF_WIDTH

    heading(
        "wall time, ratio [95 % interval] pairs",
        "plain, ns",
        "floor2 / plain",
        "agent / plain",
        "mutrace / plain",
    )
    for name in names:
        pattern = TOGETHER[name]

        def pairs(a, b, most, narrow_enough=None):
            return compare(
                most,
                lambda: measure(a, pattern, MILLISECONDS),
                lambda: measure(b, pattern, MILLISECONDS),
                narrow_enough,
            )

        cost = pairs(PLAIN, agent, PAIRS, narrow)
        row(
            name,
            "%.1f" % statistics.median(cost.first),
            Interval(pairs(PLAIN, floor2, PAIRS, narrow)) if pattern in SEEN_BY_FLOOR else "",
            Interval(cost),
            Interval(pairs(PLAIN, peer, max(6, PEER_ROUNDS)))
            if peer and pattern in SEEN_BY_MUTRACE
            else "",
        )


def bench():
    if (chosen(ALONE) or chosen(TOGETHER)) and not mutrace():
        print(
            "\nmutrace is not here (Debian 12 has no such package): MUTRACE=/path/to/libmutrace.so "
            "measures it beside the others"
        )
    bench_alone()
    bench_instructions()
    bench_together()
