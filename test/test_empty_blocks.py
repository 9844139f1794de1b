"""Blocks of no bytes (malloc(0) and its like) are sampled as if they had one, and shown as what
they are: so many objects of 0 bytes."""
import math
import re

import harness

FLAGS = ("-O1", "-fno-optimize-sibling-calls")
EMPTY = (
    "by_malloc",
    "by_calloc_count",
    "by_calloc_size",
    "by_realloc",
    "by_reallocarray",
    "by_memalign",
    "by_aligned_alloc",
    "by_posix_memalign",
)
SIZES = dict({name: 0 for name in EMPTY}, one_byte=1, eight_bytes=8)


def leaks(count, rate):
    """(host, {function: values as pprof has them})"""
    host = harness.Host([harness.build("empty_blocks.c", *FLAGS), str(count)], rate=rate)
    host.ready()
    return host, host.profile("heap").by_function()


def test_each_is_recorded_at_rate_1():
    count = 50
    host, sums = leaks(count, 1)
    for name, size in SIZES.items():
        assert sums[name] == [count, count * size] * 2, (name, sums[name])
    assert sums["freed_by_realloc"] == [count, 0, 0, 0], sums["freed_by_realloc"]
    assert harness.losses(host.health()) == {}


def test_their_number_is_unbiased():
    """Each counts for 1/p objects, p = 1 - exp(-1/rate): the estimate of n has the variance
    n(1-p)/p. Within 6 of its roots: a faithful sampler fails this once in 20 million runs."""
    count, rate = 200_000, 64
    host, sums = leaks(count, rate)
    for name, size in SIZES.items():
        p = -math.expm1(-max(size, 1) / rate)
        error = math.sqrt(count * (1 - p) / p)
        values = sums.get(name, [0] * 4)
        harness.note("%s: %d of %d, one root %.0f" % (name, values[0], count, error))
        assert abs(values[0] - count) < 6 * error, (name, values[0], count, error)
        assert size == 8 or values[1] == values[0] * size, (name, values)
        assert values[2:] == values[:2], (name, values)
    objects = int(re.search(r"^# HeapObjects = (\d+)$", host.text("heap?debug=1"), re.M).group(1))
    assert objects > 0.9 * count * len(SIZES), objects
