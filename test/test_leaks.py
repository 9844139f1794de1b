"""leaks, of a program with one leak among what only looks like one: memory from the start, blocks
that come and go, a queue of a fixed length, one burst."""
import math
import re

import harness

SIZE, SECONDS, SLICES = 4096, 8, 20
OTHERS = {"at_start", "comes_and_goes", "queue", "burst"}


def start(rate):
    host = harness.Host(
        [harness.build("leaks.c", "-O1", "-fno-optimize-sibling-calls"), str(SECONDS)], rate=rate
    )
    leaked = [int(line.split()[1]) for line in host.ready(4 * harness.DEADLINE)]
    assert len(leaked) == SLICES + 1
    return host, leaked


def listed(profile):
    """{function of the workload: the sample}"""
    found = {}
    for sample in profile.samples:
        names = {frame.function for frame in sample.frames} & (OTHERS | {"leaks"})
        found[names.pop() if names else "other"] = sample
    return found


def an_hour(leaked):
    """Bytes that an hour would have had of what the middle half of the time had."""
    return (leaked[15] - leaked[5]) * SIZE * 3600 / (SECONDS / 2)


def test_the_leak_alone_is_listed():
    host, leaked = start(1)
    profile = host.profile("leaks")
    found = listed(profile)
    assert list(found) == ["leaks"], list(found)
    values = dict(zip([name for name, _ in profile.sample_types], found["leaks"].values))
    assert values["inuse_space"] == leaked[-1] * SIZE, (values, leaked[-1])
    truth = an_hour(leaked)
    # the agent's window ends when it is asked, a little after the last block
    assert 0.9 * truth < values["growth_space"] < 1.1 * truth, (values, truth)
    labels = found["leaks"].labels
    assert 0.9 * values["growth_space"] < labels["at_least"] < values["growth_space"], labels
    assert SECONDS - 1 <= labels["oldest"] <= SECONDS + 60, labels
    assert "have grown steadily in the last" in harness.pprof_clean(
        "-top", host.url("leaks")
    ), "comment"
    text = host.text("leaks?debug=1")
    assert re.search(r'^# labels: .*"at_least":', text, re.M) and "leaks+0x" in text, text[:2000]
    assert "view/leaks" in host.text("")
    host.kill()


def test_within_the_samplings_error():
    host, leaked = start(32 * 1024)
    profile = host.profile("leaks")
    found = listed(profile)
    assert list(found) == ["leaks"], list(found)
    growth = found["leaks"].values[1]
    truth = an_hour(leaked)
    blocks = leaked[15] - leaked[5]
    chance = 1 - math.exp(-SIZE / (32 * 1024))
    error = truth * math.sqrt((1 - chance) / chance / blocks)
    assert abs(growth - truth) < 4 * error + 0.1 * truth, (growth, truth, error)
    assert found["leaks"].labels["at_least"] < growth
    host.kill()


def test_a_window():
    host, _ = start(1)
    # Nothing has been allocated for long enough when the window is short.
    harness.poll(lambda: not listed(host.profile("leaks?window=1s")), "a second without growth")
    status, _, body = host.get("leaks?window=soon")
    assert status == 400 and b'invalid value for "window"' in body, body
    status, _, body = host.get("leaks?seconds=1")
    assert status == 400 and b"not supported for this profile type" in body, body
    host.kill()
