"""A profile that is to fit into so many bytes: its smallest parts are folded, and totals stay."""
import re
import threading
import time

import harness

STACKS = 20000


def start():
    host = harness.Host(
        [harness.build("tables.c", "-O1", "-fno-optimize-sibling-calls"), "stacks", str(STACKS)],
        rate=1,
    )
    host.ready()
    return host


def sums(profile):
    """{function: its values}, without those of folded parts; and what is folded"""
    by_function = dict(profile.by_function())
    return by_function, by_function.pop("[folded]", [0] * 4)


def check_folded(host, whole, limit):
    status, _, body = host.get("heap?max_bytes=%d" % limit)
    assert status == 200 and limit // 4 < len(body) <= limit, len(body)
    folded = harness.Profile(body)
    assert folded.total() == whole.total()
    functions, missing = sums(folded)
    all_functions, none = sums(whole)
    assert missing[2] > 0 and none == [0] * 4
    assert len(folded.samples) < len(whole.samples)
    # who is above the folded parts has what he had
    for function in ("main", "walk"):
        assert functions[function] == all_functions[function], (functions, all_functions)
    assert functions["walk"] == [STACKS, 8 * STACKS] * 2
    # what ends there has no label of its own
    for sample in folded.samples:
        if sample.frames[0].function == "[folded]":
            assert not sample.labels
    said = [each for each in folded.comments if each.startswith("folded to fit into")]
    number = re.match(r"folded to fit into %d bytes: (\d+) of (\d+) samples " % limit, said[0])
    kept = sum(1 for each in folded.samples if each.frames[0].function != "[folded]")
    assert int(number.group(2)) == len(whole.samples) == int(number.group(1)) + kept
    return folded


def test_smallest_parts_are_folded():
    host = start()
    size = len(host.get("heap")[2])
    whole = host.profile("heap")
    assert size > 45000, size
    some = check_folded(host, whole, size // 2)
    fewer = check_folded(host, whole, size // 4)
    assert len(some.samples) > 1.5 * len(fewer.samples)
    # what fits stays as it is
    fits = host.profile("heap?max_bytes=%d" % (2 * size))
    assert fits.total() == whole.total() and fits.comments == whole.comments
    assert sorted(map(str, fits.samples)) == sorted(map(str, whole.samples))
    harness.pprof_clean("-top", host.url("heap?max_bytes=20000"))
    for bad in ("9999", "-1", "2M", "x"):
        status, headers, text = host.get("heap?max_bytes=" + bad)
        assert (status, headers["X-Go-Pprof"]) == (400, "1")
        assert text == b'invalid value for "max_bytes" - must be an integer from 10000\n'
    assert host.finish() == 0


def change_at_the_end(limit):
    """(when all was freed, a delta's body)"""
    host, answers = start(), []
    ask = lambda: answers.append(host.get("heap?max_bytes=%d&seconds=2" % limit))
    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.5)
    before = time.time_ns()
    host.go_on()
    host.ready()
    after = time.time_ns()
    asking.join()
    assert answers[0][0] == 200
    assert host.finish() == 0
    return before, after, answers[0][2]


def test_changes_are_folded_too():
    """Values below 0 count by their size."""
    end = time.monotonic() + harness.DEADLINE
    while True:
        before, after, body = change_at_the_end(20000)
        folded = harness.Profile(body)
        if folded.time_nanos - folded.duration_nanos < before and after < folded.time_nanos:
            break  # the window was open meanwhile
        assert time.monotonic() < end, "the machine is too slow for the question"
    assert len(body) <= 20000
    assert folded.total() == [0, 0, -STACKS, -8 * STACKS]
    assert sums(folded)[1][2] < 0
