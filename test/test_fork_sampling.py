"""Forked siblings do not share their parent's sequence of sample points: what is summed over them
is as accurate as independent samples are."""
import math

import harness
from process_tree import Port

FLAGS = ("-O1", "-fno-optimize-sibling-calls")


def test_siblings_samples_are_independent():
    """16 children allocate n blocks of s bytes each; p = 1 - exp(-s/rate), so each has np samples
    with the variance np(1-p), and the spread of the 16 (chi squared with 15 degrees of freedom)
    lies between 0.8 and 65 but for 1 run in 10 million. Of one and the same sequence it would be 0.
    """
    children, blocks, size, rate = 16, 8192, 1024, 65536
    port = Port()
    program = harness.build("fork_siblings.c", *FLAGS)
    host = harness.Host(
        [program, str(children), str(blocks), str(size)], rate=rate, address=port.address
    )
    pids = [int(line.split()[1]) for line in host.ready()]
    port.await_processes(pids)
    p = -math.expm1(-size / rate)
    variance = blocks * p * (1 - p)
    profiles = [port.profile("allocs", pid).by_function() for pid in pids]
    for function in ("child_allocates", "childs_thread_allocates"):
        samples = [round(sums[function][0] * p) for sums in profiles]
        mean = sum(samples) / children
        spread = sum((count - mean) ** 2 for count in samples) / variance
        off = (mean - blocks * p) / math.sqrt(variance / children)
        harness.note(
            "%s: %s, spread %.1f, mean off by %.1f roots" % (function, samples, spread, off)
        )
        assert 0.8 < spread < 65, (function, samples, spread)
        assert abs(off) < 5.5, (function, samples, off)
    assert host.finish() == 0
