"""block: every wait is under its caller, counted once, as long as the program itself found it to
be; nothing else is there."""
import functools
import math
import os
import re

import harness
import pytest
import lock_journal
from lock_journal import EVERY_EVENT, Journal

pytestmark = pytest.mark.alone


@functools.lru_cache(maxsize=None)
def every_kind():
    """(journal, {profile: (body, text)}, losses) of one run of lock_waits.c with every event
    recorded."""
    host = lock_journal.start("lock_waits.c", **EVERY_EVENT)
    lines = host.ready()
    answers = {
        name: (host.get(name)[2], host.text(name + "?debug=1")) for name in ("block", "mutex")
    }
    losses = harness.losses(host.health())
    assert host.finish() == 0
    return Journal(lines), answers, losses


def saved(directory, name, body):
    path = os.path.join(directory, name)
    with open(path, "wb") as file:
        file.write(body)
    return path


def test_every_kind_of_wait():
    """Mutexes of every type, rwlocks, conditions in both versions, semaphores, barriers, spin
    locks, joins, C11, futexes; waits that end and waits that give up. Calls that find a lock free,
    or fail, are in the journal as none."""
    journal, answers, losses = every_kind()
    expected, seen = lock_journal.blocked_sums(journal), lock_journal.found(
        harness.Profile(answers["block"][0])
    )
    assert len(expected) > 90 and {count for count, _, _ in expected.values()} == {2}
    wrong = lock_journal.differences(expected, seen)
    assert not wrong, "\n".join(wrong)
    total, measured = (sum(values[-1] for values in sums.values()) for sums in (seen, expected))
    assert (1 - lock_journal.SHARE) * measured <= total <= measured, (total, measured)
    assert losses == {
        "mutex_lost_releases": 2
    }, losses  # the mutex of a thread that ended with it, twice


def test_every_kind_of_wait_is_told_by_its_leaf():
    """The sums of each primitive, by pprof's own reading; and idle waits can be left out of a
    profile."""
    journal, answers, _ = every_kind()
    path = saved(harness.scratch(), "block.pb.gz", answers["block"][0])
    by_leaf = {}
    for (_, primitive), (count, _, _) in lock_journal.blocked_sums(journal).items():
        by_leaf[primitive] = by_leaf.get(primitive, 0) + count

    def leaves(*arguments):
        top = harness.pprof_clean(
            "-top",
            "-nodecount=1000",
            "-nodefraction=0",
            "-sample_index=contentions",
            *arguments,
            path
        )
        rows = re.findall(r"^ *(\d+) +[\d.]+% +[\d.]+% +\d+ +[\d.]+% +(\S+)$", top, re.MULTILINE)
        return {name: int(count) for count, name in rows if int(count)}

    assert leaves() == by_leaf, (leaves(), by_leaf)
    rest = {
        name: count
        for name, count in by_leaf.items()
        if name not in ("pthread_cond_wait", "sem_wait")
    }
    assert leaves("-ignore", "^(pthread_cond_wait|sem_wait)$") == rest
    assert (
        "pthread_cond_wait" in by_leaf
        and "pthread_cond_timedwait" in rest
        and "sem_timedwait" in rest
    )


def same_totals(name, body, text):
    """pprof's totals of both forms are the same, and those of our own reader."""
    assert text.startswith(
        "--- %s:\ncycles/second=1000000000\n" % {"block": "contention"}.get(name, name)
    ), text[:100]
    directory = harness.scratch()
    files = [
        saved(directory, name + ".pb.gz", body),
        saved(directory, name + ".txt", text.encode()),
    ]
    for (sample, unit), total in zip(
        (("contentions", "count"), ("delay", "ns")), harness.Profile(body).total()
    ):
        found = []
        for path in files:
            top = harness.pprof("-top", "-sample_index=" + sample, "-unit=" + unit, path)[0]
            found.append(
                float(
                    re.search(r"Showing nodes accounting for .* of (\S+?)(?:ns)? total", top).group(
                        1
                    )
                )
            )
        assert found[0] == found[1] == total > 0, (name, sample, found, total)


def test_text_and_proto_give_the_same_totals():
    for name, (body, text) in every_kind()[1].items():
        same_totals(name, body, text)


def test_default_rate():
    """A wait of d ns is recorded with p = min(1, d / 100000) and counts for 1 / p: the variance of
    its count is 1 / p - 1, of its delay d^2 as much."""
    rate = 100000
    host = lock_journal.start("lock_sampling.c")
    journal = Journal(host.ready())
    seen = lock_journal.found(host.profile("block"))
    for name in ("block", "mutex"):  # where counts are fractions
        same_totals(name, host.get(name)[2], host.text(name + "?debug=1"))
    assert harness.losses(host.health()) == {} and host.finish() == 0
    blocked = journal.blocked()
    assert len(blocked) == 4 and set(seen) <= set(blocked), seen
    for key, times in blocked.items():
        variances = [rate / time - 1 if time < rate else 0 for time in times]
        errors = math.sqrt(sum(variances)), math.sqrt(
            sum(v * t * t for v, t in zip(variances, times))
        )
        for value, truth, error in zip(seen.get(key, (0, 0)), (len(times), sum(times)), errors):
            lock_journal.check_estimate(key[0], value, truth, error)


def test_off():
    host = lock_journal.start(
        "lock_window.c", PPROFAGENT_BLOCKPROFILERATE="0", PPROFAGENT_MUTEXPROFILEFRACTION="0"
    )
    host.ready()
    for name, variable in (
        ("block", "PPROFAGENT_BLOCKPROFILERATE"),
        ("mutex", "PPROFAGENT_MUTEXPROFILEFRACTION"),
    ):
        status, _, body = host.get(name)
        assert status == 503 and variable.encode() + b" is 0" in body, (status, body)
    host.kill()


def test_seconds_gives_what_happened_in_them():
    """The profile says from when to when; the program when each wait ended and each release was."""
    slack = 15e6  # ns between a look at the table and the clock: less than a wait
    for name in ("block", "mutex"):
        host = lock_journal.start("lock_window.c", **EVERY_EVENT)
        clock = [int(line.split()[1]) for line in host.ready() if line.startswith("clock")][0]
        before = lock_journal.found(host.profile(name))
        assert [(key[0], values[0]) for key, values in before.items()] == [
            ({"block": "wait_before", "mutex": "give_before"}[name], 4)
        ]
        host.go_on()
        profile = host.profile(name + "?seconds=1")
        host.go_on()
        journal = Journal(host.ready())
        end = profile.time_nanos - clock
        begin = end - profile.duration_nanos
        assert 0.9e9 < profile.duration_nanos
        if name == "block":
            key = "wait_meanwhile", "pthread_mutex_lock"
            events = [
                (wait.end, wait.end - wait.begin)
                for wait in journal.waits
                if wait.function == key[0]
            ]
        else:
            key = "give_meanwhile", "pthread_mutex_unlock"
            waits = {wait.begin: wait for wait in journal.waits}
            events = []
            for release in journal.releases:
                if release.function == key[0]:
                    wait = max(
                        (w for w in waits.values() if w.begin < release.begin),
                        key=lambda w: w.begin,
                    )
                    events.append((release.begin, release.begin - wait.begin))
        surely = [time for at, time in events if begin + slack < at < end - slack]
        perhaps = [time for at, time in events if begin - slack < at < end + slack]
        assert len(surely) > 15
        seen = lock_journal.found(profile)
        assert set(seen) == {key}, seen
        count, delay = seen[key]
        assert len(surely) <= count <= len(perhaps), (len(surely), count, len(perhaps))
        assert sum(surely) * 0.97 <= delay <= sum(perhaps) * 1.03, (
            sum(surely),
            delay,
            sum(perhaps),
        )
        assert host.finish() == 0
