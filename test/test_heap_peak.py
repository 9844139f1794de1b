"""The heap at its highest moment, of a program that knows when and what that was."""
import math

import harness

MB = 1 << 20
PEAK, KEPT, LATER = 64 * MB, 8 * MB, 16 * MB


def start(threads, rate):
    host = harness.Host(
        [harness.build("heap_peak.c", "-O1", "-fno-optimize-sibling-calls"), str(threads)],
        rate=rate,
    )
    host.ready()
    return host


def inuse_of(profile):
    """{function of the workload: bytes in use}"""
    types = [name for name, _ in profile.sample_types]
    found = {}
    for sample in profile.samples:
        names = {frame.function for frame in sample.frames} & {"f", "g", "h"}
        name = names.pop() if names else "other"
        found[name] = found.get(name, 0) + sample.values[types.index("inuse_space")]
    return {name: size for name, size in found.items() if size}


def test_exact_at_rate_1():
    for threads in (1, 8):
        host = start(threads, 1)
        inuse = inuse_of(host.profile("peak"))
        assert inuse["f"] == PEAK and "g" not in inuse and inuse["other"] < MB, inuse
        assert inuse_of(host.profile("heap"))["g"] == KEPT
        host.kill()


def test_within_the_samplings_error():
    rate = 64 * 1024
    host = start(4, rate)
    inuse = inuse_of(host.profile("peak"))
    error = math.sqrt(PEAK * rate)  # above that of blocks of 16 KB; 4 of them: one in 15,000
    assert abs(inuse["f"] - PEAK) < 4 * error, (inuse, error)
    assert inuse.get("g", 0) == 0, inuse
    host.kill()


def test_a_peak_since_the_last_reset():
    host = start(1, 1)
    assert inuse_of(host.profile("peak?reset=1"))["f"] == PEAK, "up to now"
    inuse = inuse_of(host.profile("peak"))
    assert inuse["g"] == KEPT and "f" not in inuse, inuse
    host.go_on()
    host.ready()
    inuse = inuse_of(host.profile("peak"))
    assert inuse["g"] == KEPT and inuse["h"] == LATER and "f" not in inuse, inuse
    assert "h" not in inuse_of(host.profile("heap"))
    assert host.get("peak?reset=1", method="HEAD")[0] == 200
    assert inuse_of(host.profile("peak"))["h"] == LATER, "a HEAD resets nothing"
    assert host.text("peak?debug=1").startswith("heap profile: ")
    top = harness.pprof_clean("-top", "-sample_index=inuse_space", host.url("peak"))
    assert "in use at the highest moment" in top and "16MB" in top, top
    assert "view/peak" in host.text("") and "peak?seconds" not in host.text("")
    assert host.finish() == 0
