"""Code made at run time that is announced to debuggers (the GDB JIT interface): it has names, its
frames are followed, until it is withdrawn; whatever is announced, the host lives."""
import harness
from pprof_reader import bare

BY_TIMERS, AS_IT_IS = harness.by_timers(), {}


def start(*arguments, options=None):
    program = harness.build("announced_code.c", "-O1", "-fno-optimize-sibling-calls", "-rdynamic")
    host = harness.Host([program] + list(arguments), rate=1, **(options or {}))
    host.ready()
    host.go_on()
    return host


def stacks(profile, size=None):
    """From the code that was made on; of blocks of that size."""
    found = [
        [bare(frame.function) or "[made]" for frame in sample.frames]
        for sample in profile.samples
        if size in (None, sample.labels.get("bytes"))
    ]
    return [names[names.index("through_made") - 1 :] for names in found if "through_made" in names]


def go_on(host):
    host.go_on()
    host.ready()


def walk(arguments, options):
    host = start("walk", *arguments, options=options)
    cpu = stacks(host.profile("profile?seconds=1&hz=500"))
    complete = [
        names for names in cpu if names[:5] == ["first_name", "through_made", "run", "walk", "main"]
    ]
    # some are in through_made itself; what comes before is then the end of another stack
    assert len(complete) > 0, cpu
    assert not [names for names in cpu if names[-1] != "_start"], cpu
    go_on(host)
    host.profile("profile?seconds=1")
    heap = stacks(host.profile("allocs"), 6000)
    assert heap, heap
    for names in heap:
        assert names[:5] == ["first_name", "through_made", "run", "walk", "main"], names
    go_on(host)
    host.profile("profile?seconds=1")
    heap = stacks(host.profile("allocs"), 7000)
    assert heap and {names[0] for names in heap} == {"made::second"}, heap
    go_on(host)
    host.profile("profile?seconds=1")
    allocs = host.profile("allocs")
    assert stacks(allocs, 8000) == []  # from the first on they end at the code
    assert {8000} & {sample.labels.get("bytes") for sample in allocs.samples}
    assert host.health()["tables"]["registered_frames"]["used"] == 0
    go_on(host)
    assert host.finish() == 0, host.describe()


def test_names_and_frames_of_what_is_announced():
    walk([], BY_TIMERS)
    walk([], AS_IT_IS)
    walk(["exec"], BY_TIMERS)


def test_objects_that_come_and_go_under_profiles():
    for options in (BY_TIMERS, AS_IT_IS):
        host = start("churn", options=options)
        for _ in range(2):
            host.profile("profile?seconds=1&hz=1000")
            host.text("goroutine?debug=2")
            host.profile("allocs")
        host.go_on()
        count = int(host.ready()[0].split()[0])
        harness.note("%d objects announced and withdrawn" % count)
        assert count > 100
        # while the list changes its tables are not used: what was seen may not be so any more
        names = {names[0] for names in stacks(host.profile("profile?seconds=1"))}
        assert "first_name" in names, names
        assert host.health()["tables"]["registered_frames"]["used"] == 1
        go_on(host)
        assert host.finish() == 0, host.describe()


def test_lists_and_objects_that_lie():
    for options in (BY_TIMERS, AS_IT_IS):
        host = start("hostile", options=options)
        for _ in range(2):
            cpu = host.profile("profile?seconds=1&hz=500")
            assert "first_name" in {names[0] for names in stacks(cpu)}, stacks(cpu)
            host.text("goroutine?debug=2")
            host.profile("heap")
            go_on(host)
        assert host.finish() == 0, host.describe()
