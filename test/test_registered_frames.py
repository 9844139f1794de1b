"""Code made at run time whose unwind tables are registered with the C++ runtime (luajit, LLVM): its
frames are followed, until the tables are taken away; whatever they say, the host lives."""
import re

import harness
from pprof_reader import bare

ALLOCATION, AFTERWARDS = 5000, 6000
BY_TIMERS, AS_IT_IS = harness.by_timers(), {}


def start(how, options=None):
    program = harness.build("registered_frames.c", "-O1", "-fno-optimize-sibling-calls")
    host = harness.Host([program, how], rate=1, **(options or {}))
    host.ready()
    return host


def stacks(profile):
    return [
        ([bare(frame.function) or "[made]" for frame in sample.frames], sample.labels)
        for sample in profile.samples
    ]


def made(profile):
    """The stacks with a frame in the code that was made, from there on."""
    return [names[names.index("[made]") :] for names, _ in stacks(profile) if "[made]" in names]


def whole(how):
    return ["[made]", "through_made", "run", how]


def run_ends(host):
    host.go_on()
    host.ready()
    assert host.finish() == 0, host.describe()


def test_frames_in_it_are_followed_until_its_tables_are_taken_away():
    for options in (BY_TIMERS, AS_IT_IS):
        host = start("walk", options)
        host.go_on()
        cpu = host.profile("profile?seconds=1&hz=500")
        found = made(cpu)
        complete = [stack for stack in found if stack[:4] == whole("walk")]
        # in its last instruction but the return address is in a register: that is one in 40,000
        assert len(complete) > 0 and len(found) - len(complete) <= 2, (options, found)
        assert not [labels for _, labels in stacks(cpu) if "guessed_frames" in labels], stacks(cpu)
        heap = made(host.profile("heap"))
        assert heap and all(stack[:4] == whole("walk") for stack in heap), heap
        waiting = [
            block for block in host.text("goroutine?debug=2").split("\n\n") if "wait_there" in block
        ]
        assert len(waiting) == 1, waiting
        assert re.search(r"wait_there\(.*through_made\(.*waiting\(", waiting[0], re.S), waiting
        health = host.health()
        assert health["tables"]["registered_frames"]["used"] == 1, health["tables"]
        assert health["losses"]["registered_lost_invalid"] == 0, health["losses"]
        host.go_on()
        host.ready()
        assert host.health()["tables"]["registered_frames"]["used"] == 0
        host.go_on()
        host.profile("profile?seconds=1")
        after = [
            names
            for names, labels in stacks(host.profile("allocs"))
            if labels.get("bytes") == AFTERWARDS
        ]
        assert after and all(names[2].startswith("[truncated: no unwind") for names in after), after
        run_ends(host)


def test_code_that_comes_and_goes_under_profiles():
    for options in (BY_TIMERS, AS_IT_IS):
        host = start("churn", options)
        host.go_on()
        for _ in range(3):
            host.profile("profile?seconds=1&hz=1000")
            host.text("goroutine?debug=2")
        heap = [stack for stack in made(host.profile("allocs")) if "main" in stack]
        assert heap and all(stack[:4] == whole("churn") for stack in heap), heap
        others = [stack for stack in made(host.profile("allocs")) if "main" not in stack]
        assert others and all(
            stack[:3] == ["[made]", "through_made", "make_and_unmake"] for stack in others
        ), others
        assert host.health()["losses"]["registered_lost_full"] == 0
        host.go_on()
        count = int(host.ready()[0].split()[0])
        harness.note("%d functions made and unmade" % count)
        assert count > 100
        used = host.health()["tables"]["registered_frames"]
        assert used["used"] == 1, used
        assert host.finish() == 0, host.describe()


def test_tables_that_lie():
    for options in (BY_TIMERS, AS_IT_IS):
        host = start("hostile", options)
        host.go_on()
        cpu = host.profile("profile?seconds=1&hz=500")
        assert [names for names, _ in stacks(cpu) if "through_made" in names or "[made]" in names]
        host.text("goroutine?debug=2")
        host.profile("heap")
        assert host.health()["losses"]["registered_lost_invalid"] > 5
        run_ends(host)
