"""Whatever the unwind tables of a module say, and whether they can be read or not, its host lives,
and no frame is invented."""
import os
import shutil

import harness
from pprof_reader import bare


def run(*arguments):
    """The function names of each stack with an allocation or a sample in it, under a CPU profile
    and thread dumps."""
    program = harness.build("hostile_tables.c", "-O1", "-fno-optimize-sibling-calls")
    host = harness.Host([program] + list(arguments), rate=1, **harness.by_timers())
    host.ready()
    host.go_on()
    cpu = host.profile("profile?seconds=1")
    for _ in range(3):
        assert host.get("goroutine?debug=2")[0] == 200
    heap = host.profile("heap")
    health = host.health()
    host.go_on()
    lines = host.ready()
    assert len(lines) == 1 and int(lines[0].split()[0]) > 0, lines
    assert host.finish() == 0, host.describe()
    stacks = [
        [bare(frame.function) for frame in sample.frames]
        for profile in (heap, cpu)
        for sample in profile.samples
    ]
    return stacks, harness.losses(health)


def spoilt(how):
    library = harness.build(
        "spoilt_library.c",
        "-O1",
        "-fno-optimize-sibling-calls",
        "-Wl,-z,separate-code",
        "-Wl,-z,now",
        shared=True,
    )
    copy = os.path.join(harness.scratch(), "libspoilt.so")
    shutil.copy(library, copy)
    return run(how, copy)


def having(stacks, name):
    found = [stack for stack in stacks if name in stack]
    assert found, (name, stacks)
    return found


def test_an_offset_after_an_expression():
    stacks, lost = run("offset")
    for stack in having(stacks, "hostile_offset"):  # there is no rule: the code tells
        assert stack[stack.index("hostile_offset") + 1 :][:2] == ["work", "main"], stack
    assert lost["stacks_guessed"] > 0, lost


def test_a_cfa_on_no_stack():
    stacks, lost = run("elsewhere")
    having(stacks, "hostile_elsewhere")
    assert not [stack for stack in stacks if "never_called" in stack], stacks
    assert lost["stacks_truncated_memory"] > 0, lost


def test_a_header_that_is_protected():
    stacks, lost = spoilt("header")
    for stack in having(stacks, "spoilt_leaf"):  # there is no rule: the code tells
        below = stack[stack.index("spoilt_leaf") + 1 :]
        assert below[:3] == ["spoilt_allocate", "work", "main"], stack
    assert lost["stacks_guessed"] > 0, lost


def test_tables_that_are_protected():
    stacks, _ = spoilt("frames")
    assert having(stacks, "spoilt_leaf")


def test_an_elf_header_that_is_protected():
    stacks, _ = spoilt("start")
    assert having(stacks, "main")


def test_a_file_that_ends_before_its_tables():
    stacks, lost = spoilt("beyond")
    assert lost.get("stacks_truncated_no_unwind") or lost.get("stacks_guessed"), (lost, stacks)
