"""Block and mutex profiles against what a program has measured of its own waits."""
import collections
import re

import harness
from pprof_reader import bare

EVERY = {"PPROFAGENT_BLOCKPROFILERATE": "1", "PPROFAGENT_MUTEXPROFILEFRACTION": "1"}
MILLISECOND = 1000000
CONDITION = {"pthread_cond_wait", "pthread_cond_timedwait", "pthread_cond_clockwait"}
SEMAPHORE = {"sem_wait", "sem_timedwait", "sem_clockwait"}
LOCKS = SEMAPHORE | {
    "pthread_mutex_lock",
    "pthread_mutex_timedlock",
    "pthread_mutex_clocklock",
    "pthread_rwlock_rdlock",
    "pthread_rwlock_wrlock",
    "pthread_spin_lock",
    "syscall",
}  # a release of which is in the mutex profile
WAITS = (
    LOCKS
    | CONDITION
    | {"pthread_barrier_wait", "pthread_join", "pthread_timedjoin_np", "pthread_clockjoin_np"}
)
RELEASES = {
    "pthread_mutex_unlock",
    "pthread_rwlock_unlock",
    "pthread_spin_unlock",
    "sem_post",
    "syscall",
} | CONDITION


def contention(host, name):
    """The profile, in the form that Go's have, no event lost."""
    profile = host.profile(name)
    assert profile.sample_types == [
        ("contentions", "count"),
        ("delay", "nanoseconds"),
    ], profile.sample_types
    lost = {
        key: count
        for key, count in host.health()["losses"].items()
        if count and key.startswith("contention_lost")
    }
    assert not lost, lost
    leafs = WAITS if name == "block" else RELEASES
    odd = [
        sample
        for sample in profile.samples
        if sample.frames[0].function not in leafs
        or min(sample.values) < 0
        or sample.values == [0, 0]
    ]
    assert not odd, "not a %s event: %s" % (name, odd[:3])
    return profile


def by_pprof(host, name):
    """What the real go tool pprof fetches and prints: {function: (flat, cum) ns}; its total is the
    reader's."""
    text = harness.pprof_clean(
        "-top",
        "-nodecount=2000",
        "-nodefraction=0",
        "-sample_index=delay",
        "-unit=ns",
        host.url(name),
    )
    assert "Type: delay" in text, text[:500]
    rows = {}
    for flat, cum, function in re.findall(
        r"^\s*(-?\d+)(?:ns)?\s+\S+\s+\S+\s+(-?\d+)(?:ns)?\s+\S+\s+(.+)$", text, re.MULTILINE
    ):
        rows[bare(function.replace(" (inline)", ""))] = int(flat), int(cum)
    return rows


def summary(profile):
    leafs = sorted(profile.by_leaf().items(), key=lambda item: -item[1][1])[:6]
    return ", ".join(
        "%s %d x %.0f ms" % (leaf, count, delay / MILLISECOND) for leaf, (count, delay) in leafs
    )


def truths(lines, kind):
    """{function: (leaf, count, ns, ns of it awake)}"""
    fields = [line.split() for line in lines]
    return {
        function: (leaf, int(count), int(delay), int(awake))
        for word, function, leaf, count, delay, awake in fields
        if word == kind
    }


def is_about(seen, delay, awake):
    """3 % and 10 ms; what the waiter was awake, before it slept or after, may have been part of its
    wait or not."""
    tolerance = 0.03 * delay + 10 * MILLISECOND
    return delay - awake - tolerance <= seen <= delay + tolerance


def named(frame, function):
    return bare(frame.function).split("::")[-1] == function


def check_truths(profile, expected):
    """Each function's stacks have its leaf, its count (a futex wait may end for nothing, and is
    then another one) and its time."""
    wrong = []
    for function, (leaf, count, delay, awake) in expected.items():
        if leaf == "-":
            continue
        samples = [
            sample
            for sample in profile.samples
            if any(named(frame, function) for frame in sample.frames)
        ]
        leafs = collections.Counter(sample.frames[0].function for sample in samples)
        seen = [sum(sample.values[index] for sample in samples) for index in (0, 1)]
        good = set(leafs) == {leaf} and is_about(seen[1], delay, awake)
        if not good or (seen[0] < count if leaf == "syscall" else seen[0] != count):
            wrong.append(
                "%s: %d x %s, %.1f ms (%.1f awake); the profile: %d, %.1f ms, %s"
                % (
                    function,
                    count,
                    leaf,
                    delay / 1e6,
                    awake / 1e6,
                    seen[0],
                    seen[1] / 1e6,
                    dict(leafs),
                )
            )
    assert not wrong, "\n".join(wrong)


def check_balance(block, mutex):
    """At rest: releasers are charged with no more than what was waited for locks. The rest is the
    way from a release to the waiter's going on."""
    released, waits = mutex.total(), block.by_leaf()
    waited = [sum(waits[leaf][index] for leaf in LOCKS) for index in (0, 1)]
    assert released[0] <= waited[0] and released[1] <= 1.03 * waited[1] + 10 * MILLISECOND, (
        released,
        waited,
    )


def without_times(lines):
    return [line.rsplit(" ", 2)[0] for line in lines]
