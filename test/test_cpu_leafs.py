"""Where ticks hit: the vdso, stubs, code without unwind information, the kernel."""
import collections
import os

import harness


def leafs(mode):
    """{stack of function names, leaf first: samples} of a program that burns in one place."""
    library = harness.build("cpu_leafs_library.c", "-O1", shared=True)
    program = harness.build(
        "cpu_leafs.c",
        "-O1",
        "-fno-optimize-sibling-calls",
        "-Wl,--no-as-needed",
        library,
        "-Wl,-z,lazy",
        "-Wl,-rpath," + os.path.dirname(library),
    )
    host = harness.Host([program, mode], **harness.by_timers())
    host.ready()
    stacks = collections.Counter()

    def enough():  # a busy machine may give the program little of its time
        for sample in host.profile("profile?seconds=2&hz=250").samples:
            names = (
                frame.function or "[%s]" % (frame.mapping and frame.mapping.filename)
                for frame in sample.frames
            )
            stacks[tuple(names)] += sample.values[0]
        return sum(stacks.values()) > 100

    harness.poll(enough, "a hundred samples")
    assert host.finish() == 0
    return stacks


def share(stacks, condition):
    return sum(count for stack, count in stacks.items() if condition(stack)) / sum(stacks.values())


def test_leaf_in_the_vdso():
    stacks = leafs("vdso")
    assert share(stacks, lambda stack: "run" in stack and "ask_the_clock" in stack) > 0.95, stacks
    inside = share(
        stacks,
        lambda stack: any(
            name.endswith("clock_gettime") and name.startswith("__vdso") or name == "clock_gettime"
            for name in stack[:2]
        ),
    )
    assert inside > 0.5, stacks


def test_leaf_in_a_stub():
    stacks = leafs("stub")
    assert (
        share(
            stacks,
            lambda stack: stack[0] == "library_nothing@plt"
            and stack[1:3] == ("call_nothing", "run"),
        )
        > 0.02
    ), stacks
    assert (
        share(
            stacks,
            lambda stack: stack[0] in ("library_nothing@plt", "library_nothing", "call_nothing"),
        )
        > 0.95
    ), stacks


def test_leaf_in_code_without_unwind_information():
    stacks = leafs("jit")
    whole = share(stacks, lambda stack: stack[:3] == ("jitted_loop", "call_jit", "run"))
    assert whole > 0.95, stacks


def test_leaf_in_the_kernel():
    stacks = leafs("kernel")
    # glibc 2.41 has three functions of its own below read
    in_read = (
        lambda stack: any(name.endswith("read") for name in stack[:4])
        and "fill_from_kernel" in stack
    )
    assert share(stacks, in_read) > 0.9, stacks
