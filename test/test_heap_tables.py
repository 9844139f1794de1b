"""The tables hold a real program's worth at rate 1 exactly; their use is reported; what exceeds
them is counted and shown."""
import time

import harness

STACKS = 1048576 + 50000  # more than the stack table's bound
FLAGS = ("-O2", "-fno-optimize-sibling-calls")


def cpu_seconds(health):
    return health["agent"]["cpu_seconds"]


def resident_megabytes(pid):
    with open("/proc/%d/statm" % pid) as file:
        return int(file.read().split()[1]) * 4096 >> 20


def test_two_million_live():
    host = harness.Host([harness.build("tables.c", *FLAGS), "live", "2000000"], rate=1)
    host.ready(seconds=180)
    before = cpu_seconds(host.health())
    values = host.profile("heap").by_leaf()["hold_live"]
    health = host.health()
    assert values == [2000000, 32000000, 2000000, 32000000], values
    assert harness.losses(health) == {}
    harness.note(
        "2,000,000 live at rate 1: host RSS %d MB, served with %.2f s of agent CPU"
        % (resident_megabytes(host.pid), cpu_seconds(health) - before)
    )
    host.go_on()
    host.ready(seconds=180)
    values = host.profile("heap").by_leaf()["hold_live"]
    assert values == [2000000, 32000000, 0, 0], values
    assert host.finish() == 0


def test_hundred_thousand_stacks():
    host = harness.Host([harness.build("tables.c", *FLAGS), "stacks", "100000"], rate=1)
    host.ready(seconds=180)
    first = cpu_seconds(host.health())
    started = time.monotonic()
    status, _, body = host.get("heap", timeout=120)
    wall = time.monotonic() - started
    assert status == 200
    second = cpu_seconds(host.health())
    profile = harness.Profile(body)
    leaves = [sample for sample in profile.samples if sample.frames[0].function == "leaf"]
    assert len(leaves) == 100000, len(leaves)
    assert len({tuple(sample.locations) for sample in leaves}) == 100000
    assert all(sample.values == [1, 8, 1, 8] for sample in leaves)
    assert len(leaves[0].frames) == 1 + 20 * 2 + 1 + 4, [
        frame.function for frame in leaves[0].frames
    ]
    health = host.health()
    assert harness.losses(health) == {}
    harness.note(
        "100,000 stacks: %d KB in %.2f s (agent CPU %.2f s); host RSS %d MB"
        % (len(body) >> 10, wall, second - first, resident_megabytes(host.pid))
    )
    assert harness.pprof_clean("-top", "-nodecount=5", host.url("heap")).count("leaf") >= 1
    assert host.finish() == 0


def test_text_of_many_stacks():
    host = harness.Host([harness.build("tables.c", *FLAGS), "stacks", "10000"], rate=1)
    host.ready()
    text = host.text("heap?debug=1")
    assert text.count("\n1: 8 [1: 8] @ ") == 10000
    assert host.finish() == 0


def test_stack_table_overflow_is_counted_and_shown():
    """More distinct stacks than the table takes: the loss is in health and on the index page, the
    rest is exact, the host goes on."""
    host = harness.Host([harness.build("tables.c", *FLAGS), "stacks", str(STACKS)], rate=1)
    host.ready(seconds=300)
    health = host.health()
    assert health["tables"]["stacks"]["used"] <= health["tables"]["stacks"]["limit"]
    kept = sum(
        sample.values[0]
        for sample in host.profile("heap", timeout=240).samples
        if sample.frames[0].function == "leaf"
    )
    lost = harness.losses(health)
    harness.note(
        "%d stacks: %d kept, losses %s, host RSS %d MB"
        % (STACKS, kept, lost, resident_megabytes(host.pid))
    )
    assert kept + sum(lost.values()) == STACKS, (kept, lost)
    assert lost, (
        "nothing was lost: the table holds more than %d" % health["tables"]["stacks"]["limit"]
    )
    assert "dropped" in host.text("/debug/pprof/"), "the index page does not tell of the loss"
    host.go_on()
    host.ready(seconds=300)
    assert host.finish() == 0
