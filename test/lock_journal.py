"""What the lock_* workloads know of their waits and releases (workloads/lock_journal.h), and what
block and mutex must show of it.

block: every wait that was one, under its caller, as long as the program found it to be.
mutex: each release is charged with what everybody who waits for that object has waited since the
release before it, or since he began; the last release before the end of a wait is one event. Waits
for conditions, barriers and threads are in block only.
"""
import collections
import os
import re
import zlib

import harness
from pprof_reader import bare

FLAGS = ("-O2", "-fno-optimize-sibling-calls")
TYPES = [("contentions", "count"), ("delay", "nanoseconds")]
EVERY_EVENT = {"PPROFAGENT_BLOCKPROFILERATE": "1", "PPROFAGENT_MUTEXPROFILEFRACTION": "1"}
SHARE, ABSOLUTE_NS = (
    0.03,
    2e6,
)  # of a sum that the program has measured; for the way from its clock to the agent's

Wait = collections.namedtuple("Wait", "function primitive object begin seen end outcome")
Release = collections.namedtuple("Release", "function primitive object begin end")
ONLY_BLOCK = re.compile(r"^(pthread_cond_|cnd_|pthread_barrier_|.*join)")


class Journal:
    def __init__(self, lines):
        self.waits, self.releases = [], []
        for words in map(str.split, lines):
            assert words[0] != "failed", " ".join(words)
            if words[0] == "wait":
                self.waits.append(
                    Wait(words[1], public_name(words[2]), words[3], *map(int, words[4:7]), words[7])
                )
            elif words[0] == "release":
                self.releases.append(
                    Release(words[1], public_name(words[2]), words[3], int(words[4]), int(words[5]))
                )

    def blocked(self):
        """{(function, primitive): [ns of each wait]}"""
        found = collections.defaultdict(list)
        for wait in self.waits:
            if wait.outcome != "n":
                found[wait.function, wait.primitive].append(wait.end - wait.begin)
        return found

    def charged(self, since_when="begin", at="begin"):
        """{(function, primitive): ([events of each charge, 0 or 1], [ns of each])}: a charge for
        each wait that goes on at a release. since_when, at: which of the program's looks at the
        clock are taken for the agent's at the begin of a wait and at a release.
        """
        releases = collections.defaultdict(list)
        for release in sorted(self.releases, key=lambda item: item.begin):
            releases[release.object].append(release)
        found = collections.defaultdict(lambda: ([], []))
        for wait in self.waits:
            if wait.outcome == "n" or ONLY_BLOCK.match(wait.primitive):
                continue
            since, last = getattr(wait, since_when), None
            for release in releases[wait.object]:
                if wait.begin < getattr(release, at) and release.begin < wait.end:
                    last = found[release.function, release.primitive]
                    time = max(since, min(getattr(release, at), wait.end))
                    last[0].append(0)
                    last[1].append(time - since)
                    since = time
            if last and wait.outcome == "r":
                last[0][-1] = 1
        return found

    def most_events(self):
        """{(function, primitive): most events that it can have}. Any release during a wait may be
        its last that is not certainly before another: two whose looks at the clock overlap have no
        order."""
        releases = collections.defaultdict(list)
        for release in self.releases:
            releases[release.object].append(release)
        found = collections.Counter()
        for wait in self.waits:
            if wait.outcome != "r" or ONLY_BLOCK.match(wait.primitive):
                continue
            during = [
                each
                for each in releases[wait.object]
                if wait.begin < each.end and each.begin < wait.end
            ]
            certain = max((each.begin for each in during if each.end < wait.end), default=0)
            found.update(
                {(each.function, each.primitive) for each in during if each.end >= certain}
            )
        return dict(found)


def public_name(primitive):
    return "pthread_" + primitive[4:] if primitive.startswith("old_") else primitive


def program(source):
    """Built anew when a header of these workloads has changed."""
    sum = 0
    for header in ("lock_journal.h", "lock_no_waits.h"):
        with open(os.path.join(harness.WORKLOADS, header), "rb") as file:
            sum = zlib.crc32(file.read(), sum)
    return harness.build(source, *FLAGS, name="%s_%08x" % (source.replace(".", "_"), sum))


def start(source, **environment):
    return harness.Host([program(source)], extra=environment)


def found(profile):
    """{(caller, primitive): (count, delay)}; nothing of the profile is left out."""
    assert profile.sample_types == TYPES, profile.sample_types
    sums = collections.defaultdict(lambda: [0, 0])
    for sample in profile.samples:
        assert len(sample.frames) > 1, sample
        key = bare(sample.frames[1].function), bare(sample.frames[0].function)
        sums[key] = [a + b for a, b in zip(sums[key], sample.values)]
    return {key: tuple(values) for key, values in sums.items()}


def blocked_sums(journal):
    """{(function, primitive): (count, least ns, most ns)}. The agent's looks at the clock are
    between the program's; behind the last release the waiter may have been kept from running, on
    either side of the agent's look."""
    releases = collections.defaultdict(list)
    for release in journal.releases:
        releases[release.object].append(release.begin)
    sums = {}
    for wait in journal.waits:
        if wait.outcome != "n":
            surely = (
                max(
                    (at for at in releases[wait.object] if wait.begin < at < wait.end),
                    default=wait.end,
                )
                - wait.seen
            )
            count, least, most = sums.get((wait.function, wait.primitive), (0, -ABSOLUTE_NS, 0))
            sums[wait.function, wait.primitive] = (
                count + 1,
                least + surely * (1 - SHARE),
                most + wait.end - wait.begin,
            )
    return sums


def charged_sums(journal):
    """The same of releases: the agent looks at the clock between the program's two looks."""
    ways = [
        journal.charged(since_when, at)
        for since_when in ("begin", "seen")
        for at in ("begin", "end")
    ]
    sums = {}
    for key, (events, _) in ways[0].items():
        times = [sum(way[key][1]) for way in ways]
        sums[key] = (
            sum(events),
            min(times) * (1 - SHARE) - ABSOLUTE_NS,
            max(times) * (1 + SHARE) + ABSOLUTE_NS,
        )
    return sums


def differences(expected, seen):
    """expected: {key: (count, least ns, most ns)}, seen: {key: (count, ns)}. A line each."""
    wrong = []
    for key in sorted(set(expected) | set(seen)):
        count, least, most = expected.get(key, (0, 0, 0))
        seen_count, delay = seen.get(key, (0, 0))
        if (
            key not in expected
            or key not in seen
            or seen_count != count
            or not least <= delay <= most
        ):
            wrong.append(
                "%s by %s: expected %s; found %s"
                % (
                    key[1],
                    key[0],
                    "%d, %.3f to %.3f ms" % (count, least / 1e6, most / 1e6)
                    if key in expected
                    else "none",
                    "%d, %.3f ms" % (seen_count, delay / 1e6) if key in seen else "none",
                )
            )
    return wrong


def check_estimate(name, value, truth, error):
    """error: the standard one of what a sample makes of the truth."""
    harness.note(
        "%s: truth %d, profile %+.2f %%, standard error %.2f %%"
        % (name, truth, 100 * value / truth - 100, 100 * error / truth)
    )
    assert abs(value - truth) <= 4 * error + SHARE * truth, (name, truth, value, error)
