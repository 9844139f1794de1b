"""Stacks are complete, from the caller of malloc to the thread's entry, in code of every shape;
where one is cut, a frame says so."""
import os
import re

import harness
from pprof_reader import bare

LIBC_END = [
    "main",
    None,
    None,
    "_start",
]  # __libc_start_call_main and __libc_start_main: local symbols, named where libc6-dbg is there
CHAINS = {  # leaf: the frames above it, leaf first; None is any one frame, ... any number of them
    "leaf_plain": ["middle_plain", "outer_plain"] + LIBC_END,
    "leaf_alloca": ["middle_vla"] + LIBC_END,
    "leaf_realigned": ["middle_realigned"] + LIBC_END,
    "leaf_many_arguments": ["middle_many_arguments"] + LIBC_END,
    "leaf_recursion_100": ["recurse_100"] * 100 + LIBC_END,
    "leaf_compare": [..., "sorter"] + LIBC_END,
    "leaf_once": [..., "user_of_once"] + LIBC_END,
    "leaf_in_handler": ["handler", None, "trapping", "interrupted_caller", "signals"] + LIBC_END,
    "leaf_on_alternate_stack": ["handler", None, "trapping", "interrupted_caller", "signals"]
    + LIBC_END,
    "leaf_coroutine": [
        "coroutine",
        None,
        ...,
    ],  # __start_context has no unwind information of its own: see below
    "leaf_thread": ["thread_entry", None, None],
    "leaf_small_thread": ["small_thread_entry", None, None],
}


def matches(frames, pattern):
    if not pattern:
        return not frames
    if pattern[0] is ...:
        return any(matches(frames[skip:], pattern[1:]) for skip in range(len(frames) + 1))
    return bool(frames) and pattern[0] in (None, frames[0]) and matches(frames[1:], pattern[1:])


def profile_of(source, *flags):
    host = harness.Host([harness.build(source, *flags)], rate=1)
    host.ready()
    profile = host.profile("heap")
    lost = harness.losses(host.health())
    assert host.finish() == 0
    return profile, lost


def check_chains(*flags):
    profile, lost = profile_of("stacks.c", "-fno-optimize-sibling-calls", *flags)
    wrong = []
    for leaf, above in CHAINS.items():
        stacks = [stack for stack in profile.stacks_with(leaf)]
        if not stacks:
            wrong.append("%s: not in the profile" % leaf)
        for stack in stacks:
            if stack[0] != leaf or not matches(list(stack[1:]), above):
                wrong.append("%s: %s" % (leaf, " <- ".join(stack)))
    deep = [
        sample for sample in profile.samples if sample.frames[0].function == "leaf_recursion_300"
    ]
    assert len(deep) == 1, "leaf_recursion_300 is in %d samples" % len(deep)
    names = [frame.function for frame in deep[0].frames]
    left_out = re.fullmatch(r"\[(\d+) frames left out\]", names[64])
    outer = names[65:].count("recurse_300")
    if names[1:64] != ["recurse_300"] * 63 or not left_out or 63 + int(left_out[1]) + outer != 300:
        wrong.append("leaf_recursion_300: %d frames, the last is %s" % (len(names), names[-1]))
    assert not wrong, "flags %s\n%s" % (" ".join(flags), "\n".join(wrong))
    # ud2 is the first instruction of `trapping`: the interrupted frame's address is exact, not one
    # less
    trapping = [
        frame
        for sample in profile.samples
        for frame in sample.frames
        if frame.function == "trapping"
    ]
    assert len({frame.address for frame in trapping}) == 1
    for stack in profile.stacks_with("leaf_coroutine"):
        assert len(stack) == 3 or len(stack) == 4 and "truncated" in stack[3], stack
    lost.pop("stacks_truncated_depth", None)
    lost.pop("stacks_truncated_no_unwind", None)  # the coroutine's
    assert not lost, lost


def test_O0():
    check_chains("-O0")


def test_O2():
    check_chains("-O2")


def test_O2_frame_pointer():
    check_chains("-O2", "-fno-omit-frame-pointer")


def test_O2_no_frame_pointer():
    check_chains("-O2", "-fomit-frame-pointer")


def test_O3_realigned_stack():
    check_chains(
        "-O3", "-mstackrealign", "-mpreferred-stack-boundary=5"
    ) if os.uname().machine == "x86_64" else None


def test_not_position_independent():
    check_chains("-O2", "-no-pie")


def test_segments_with_gaps_between_them():
    # The layout of lld, Rust and -z max-page-size: the unwind tables are in another segment than
    # the code.
    check_chains("-O2", "-Wl,-z,max-page-size=2097152")
    check_chains("-O2", "-no-pie", "-Wl,-z,max-page-size=2097152")


def test_dwarf4_and_compressed_sections():
    check_chains("-O2", "-gdwarf-4", "-gz")


def test_eh_frame_without_search_table():
    """ld --no-eh-frame-hdr: there is .eh_frame but no sorted table; the program runs, stacks are
    cut visibly or complete."""
    profile, _ = profile_of(
        "stacks.c", "-O2", "-fno-optimize-sibling-calls", "-Wl,--no-eh-frame-hdr"
    )
    for stack in profile.stacks_with("leaf_plain"):
        assert stack[-1] == "_start" or "truncated" in stack[-1], stack


def test_code_without_unwind_information():
    """The code tells the way, or the chain stops visibly; the host is unharmed."""
    profile, lost = profile_of(
        "stacks.c",
        "-O2",
        "-fno-asynchronous-unwind-tables",
        "-fno-unwind-tables",
        "-fno-exceptions",
        "-fno-optimize-sibling-calls",
    )
    stacks = profile.stacks_with("leaf_plain")
    assert stacks, "leaf_plain is not in the profile"
    whole = ("leaf_plain", "middle_plain", "outer_plain", "main")
    for stack in stacks:
        found = stack[:-1] if "truncated" in stack[-1] else stack
        assert found[:4] == whole[: len(found)], stack
    assert lost.get("stacks_truncated_no_unwind") or lost.get("stacks_guessed"), lost


def test_exceptions_inlines_and_names():
    profile, lost = profile_of(
        "stacks_exceptions.cc", "-std=c++17", "-O2", "-fno-optimize-sibling-calls"
    )
    assert not lost, lost
    sums = profile.by_leaf()
    assert sums["leaf_in_destructor"][0] == 3 * 4, sums["leaf_in_destructor"]
    assert sums["leaf_in_catch"][0] == 3
    catch = profile.stacks_with("leaf_in_catch")
    assert (
        len(catch) == 1
        and catch[0][:3] == ("leaf_in_catch", "catcher", "main")
        and catch[0][-1] == "_start"
    ), catch
    for stack in profile.stacks_with(
        "leaf_in_destructor"
    ):  # below _Unwind_Resume or the personality's landing pad
        assert stack[-1] == "_start" and "catcher" in stack and "thrower" in stack, stack
    # libstdc++ allocates the exception object: its leaf is __cxa_allocate_exception, called by
    # thrower
    thrown = profile.stacks_with("__cxa_allocate_exception")
    assert any(
        stack[0] == "__cxa_allocate_exception" and stack[1] == "thrower" for stack in thrown
    ), thrown
    # inlined frames are frames of their own in one location
    inlined = [
        sample
        for sample in profile.samples
        if sample.frames[0].function.startswith("inlined_inner")
    ]
    assert len(inlined) == 1
    frames = inlined[0].frames
    assert [bare(frame.function) for frame in frames[:3]] == [
        "inlined_inner",
        "inlined_outer",
        "with_inlines",
    ], frames[:3]
    assert (
        frames[0].inlined
        and frames[1].inlined
        and not frames[2].inlined
        and len({f.address for f in frames[:3]}) == 1
    )
    assert all(
        frame.filename.endswith("stacks_exceptions.cc") and frame.line > 0 for frame in frames[:3]
    )
    names = {frame.function for sample in profile.samples for frame in sample.frames}
    assert any("shop::shelf<long>::fill" in name for name in names), names
    system_names = {frame.system_name for sample in profile.samples for frame in sample.frames}
    assert any(name.startswith("_ZN4shop5shelfIlE4fill") for name in system_names), system_names


def test_pprof_shows_names_as_the_profile_has_them():
    """pprof demangles what looks raw to it: parentheses and template arguments of C++ names from
    debug information must survive."""
    host = harness.Host(
        [harness.build("stacks_exceptions.cc", "-std=c++17", "-O2", "-fno-optimize-sibling-calls")],
        rate=1,
    )
    host.ready()
    written = {frame.function for sample in host.profile("heap").samples for frame in sample.frames}
    raw, _ = harness.pprof("-raw", host.url("heap"))
    assert host.finish() == 0
    assert any("(anonymous namespace)::crate<long" in name for name in written), sorted(written)
    missing = [
        name for name in written if ("(anonymous" in name or "<" in name) and name not in raw
    ]
    assert not missing, "%s\n%s" % (missing, raw)


def test_code_made_where_a_plugin_was():
    plugin = harness.build("plugin.c", "-O1", "-fno-optimize-sibling-calls", shared=True)
    host = harness.Host(
        [harness.build("jit_reuse.c", "-O1", "-fno-optimize-sibling-calls"), plugin], rate=1
    )
    host.ready()
    profile = host.profile("heap")
    assert host.finish() == 0
    sums = profile.by_leaf()
    assert sums["plugin_allocate"] == [10, 10000, 10, 10000], sums["plugin_allocate"]
    assert sums["jit_function"] == [10, 20000, 10, 20000], sums.get("jit_function")
    assert all(
        stack[:2] == ("jit_function", "main") for stack in profile.stacks_with("jit_function")
    )
