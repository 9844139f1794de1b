"""Stacks through code without unwind information: followed by frame pointers and by what the code
itself says, never by a guess that is not supported; such stacks say so."""
import harness
from pprof_reader import bare


def stacks_of(how, *flags, path="profile?seconds=2&hz=250"):
    """[(names, number of guessed frames, count)] of the CPU profile and the heap profile."""
    program = harness.build("ruleless_stacks.c", "-O1", "-fno-optimize-sibling-calls", *flags)
    host = harness.Host([program, how], rate=1)
    host.ready()
    host.go_on()
    profiles = [host.profile(path), host.profile("allocs")]
    health = host.health()
    host.go_on()
    host.ready()
    assert host.finish() == 0, host.describe()
    return [
        [
            (
                [bare(frame.function) if frame.function else "[made]" for frame in sample.frames],
                sample.labels.get("guessed_frames", 0),
                sample.values[0],
            )
            for sample in profile.samples
        ]
        for profile in profiles
    ], harness.losses(health)


def test_code_with_frame_pointers():
    for flags in ((), ("-fomit-frame-pointer",), ("-fno-omit-frame-pointer",)):
        (cpu, heap), lost = stacks_of("jit", *flags)
        called = [entry for entry in cpu + heap if "called_back" in entry[0]]
        assert len(called) > 2, (cpu, heap)
        for names, guessed, _ in called:
            after = names[names.index("called_back") + 1 :]
            assert after[1:3] == ["through_made", "run"] and after[3] == "main", names
            assert guessed == 1, (names, guessed)
        assert lost["stacks_guessed"] > 0, lost


def test_leaves_in_assembly():
    (cpu, _), lost = stacks_of("assembly")
    total = whole = 0
    for names, guessed, count in cpu:
        leaf = names[0]
        if leaf not in ("saving_leaf", "plain_leaf", "framed_leaf"):
            continue
        total += count
        if names[1:3] == ["call_leaves", "run"] and names[3] == "main" and guessed == 1:
            whole += count
        else:
            assert names[1].startswith("[truncated"), names  # nothing is invented
    assert total > 50 and whole >= 0.99 * total, (whole, total, cpu)


def called_back(how):
    (cpu, heap), _ = stacks_of(how)
    stacks = [entry for entry in cpu + heap if "called_back" in entry[0]]
    assert len(stacks) > 1, (cpu, heap)
    for names, guessed, _ in stacks:
        assert "never_called" not in names, names
        yield names[names.index("called_back") + 1 :], guessed


def test_code_without_frame_pointers():
    for after, guessed in called_back("number"):
        assert after[1:4] == ["through_made", "run", "main"] and guessed == 1, after


def test_a_frame_pointer_that_leads_elsewhere():
    for after, guessed in called_back("bait"):
        assert after[1:5] == ["through_made", "with_bait", "run", "main"] and guessed == 1, after


def test_nothing_is_taken_that_follows_no_call():
    for after, guessed in called_back("hidden"):
        assert len(after) == 2 and after[1].startswith("[truncated: no unwind"), after
        assert guessed == 0


def test_assembly_that_calls_assembly():
    """Without frame pointers: the code of each says where its return address is."""
    (cpu, _), _ = stacks_of("nested")
    total = whole = 0
    for names, guessed, count in cpu:
        if names[0] != "plain_leaf":
            continue
        total += count
        if names[1:5] == ["middle_asm", "outer_asm", "call_assembly", "run"]:
            assert names[5] == "main" and guessed == 3, (names, guessed)
            whole += count
        else:
            assert names[1].startswith("[truncated"), names  # nothing is invented
    assert total > 50 and whole >= 0.99 * total, (whole, total, cpu)


def test_an_interpreter_that_moves_arguments():
    """Its callers' stack pointer is not where its frame ends, but what the frame has kept."""
    for after, guessed in called_back("interpreter"):
        assert after[0].startswith("interpreted"), after
        assert after[1:5] == ["compiled", "call_assembly", "run", "main"] and guessed == 2, after
