"""At rate 1 every allocation is recorded: per-function figures of heap and allocs are exact to the
byte."""
import os

import harness
from pprof_reader import bare

FLAGS = ("-O1", "-fno-optimize-sibling-calls")
OPTIMISED = ("-O2", "-fno-optimize-sibling-calls")
# No sample may begin with one of these: the first frame is the caller of the allocation function.
ALLOCATION_FUNCTIONS = {
    "malloc",
    "calloc",
    "realloc",
    "reallocarray",
    "posix_memalign",
    "aligned_alloc",
    "memalign",
    "valloc",
    "pvalloc",
    "free",
    "operator new",
    "operator new[]",
}


def truths(lines):
    """{function: [alloc objects, alloc bytes, in-use objects, in-use bytes]}"""
    return {
        words[1]: [int(word) for word in words[2:]]
        for words in map(str.split, lines)
        if words[0] == "truth"
    }


def compare(profile, expected, sums, what):
    wrong = [
        "%s %s: expected %s, profile has %s" % (what, function, values, sums[function])
        for function, values in expected.items()
        if sums[function] != values
    ]
    assert not wrong, "\n".join(wrong)


def check_leaves(profile):
    for sample in profile.samples:
        leaf = sample.frames[0]
        if leaf.mapping and "/ld-linux" in leaf.mapping.filename:
            continue  # ld.so's own calloc calls ours, for the TLS of a new thread
        assert bare(leaf.function) not in ALLOCATION_FUNCTIONS, "first frame is " + leaf.function
        for frame in sample.frames:
            file = (
                os.path.basename(frame.mapping.filename) if frame.mapping else ""
            )  # the checkout may be so called
            assert not file.startswith("libpprofagent"), "a frame of the agent: %s" % (frame,)


def check_c(flags):
    host = harness.Host([harness.build("exact.c", *flags)], rate=1)
    expected = truths(host.ready())
    assert len(expected) > 20
    for name in ("heap", "allocs", "heap?gc=1"):
        profile = host.profile(name)
        check_leaves(profile)
        below = {"by_strdup": expected["by_strdup"]}  # libc's strdup is the caller of malloc
        compare(profile, below, profile.by_function(), name)
        own = {function: values for function, values in expected.items() if function not in below}
        compare(profile, own, profile.by_leaf(), name)
        compare(
            profile,
            {f: v for f, v in own.items() if f not in ("by_destructor", "thread_main")},
            profile.by_function(),
            name + " cumulative",
        )
    assert harness.losses(host.health()) == {}
    assert host.finish() == 0


def test_c_allocation_family_at_O1():
    check_c(FLAGS)


def test_c_allocation_family_at_O2():
    check_c(OPTIMISED)


def test_cxx_every_operator_new_and_delete():
    for flags in (FLAGS, OPTIMISED):
        host = harness.Host([harness.build("exact_new.cc", "-std=c++17", *flags)], rate=1)
        lines = host.ready()
        expected = truths(lines)
        profile = host.profile("heap")
        check_leaves(profile)
        compare(
            profile,
            {
                f: v
                for f, v in expected.items()
                if f not in ("by_throwing_constructor", "by_failing_new")
            },
            profile.by_leaf(),
            "heap",
        )
        # exception objects are allocated by libstdc++ below these two: only what the leaf itself
        # did is known
        compare(
            profile,
            {"by_throwing_constructor": expected["by_throwing_constructor"]},
            profile.by_leaf(),
            "heap",
        )
        assert profile.by_leaf()["by_failing_new"] == [0] * 4
        sums = profile.by_function()
        for words in map(str.split, lines):
            if words[0] == "below":
                assert sums[words[1]][0:2] == [int(words[2]), int(words[3])], (
                    words,
                    sums[words[1]],
                )
            if words[0] == "inuse":
                assert sums[words[1]][2:4] == [int(words[2]), int(words[3])], (
                    words,
                    sums[words[1]],
                )
        host.go_on()
        host.ready()
        after = host.profile("heap").by_function()
        for name in ("fill_vectors", "fill_map"):
            assert after[name][2:4] == [0, 0], "%s after delete: %s" % (name, after[name])
        assert host.finish() == 0


def test_static_libstdcxx():
    """operator new inside the executable calls malloc: counted once, and the chain leads to the C++
    function."""
    host = harness.Host(
        [
            harness.build(
                "exact_new.cc", "-std=c++17", "-static-libstdc++", "-static-libgcc", *FLAGS
            )
        ],
        rate=1,
    )
    expected = truths(host.ready())
    sums = host.profile("heap").by_function()
    for function in ("by_new", "by_new_array", "by_new_nothrow", "by_new_object"):
        assert sums[function] == expected[function], (function, sums[function])
    assert host.finish() == 0


def test_profile_fields():
    """What readers rely on: types, period, one size label, and that allocs differs only in its
    default."""
    host = harness.Host([harness.build("exact.c", *FLAGS)], rate=1)
    host.ready()
    heap, allocs = host.profile("heap"), host.profile("allocs")
    types = [
        ("alloc_objects", "count"),
        ("alloc_space", "bytes"),
        ("inuse_objects", "count"),
        ("inuse_space", "bytes"),
    ]
    for profile in (heap, allocs):
        assert profile.sample_types == types, profile.sample_types
        assert profile.period_type == ("space", "bytes") and profile.period == 1, (
            profile.period_type,
            profile.period,
        )
        assert profile.mappings[0].filename.endswith(
            "exact_c_O1_fno_optimize_sibling_calls"
        ), profile.mappings[0]
        for sample in profile.samples:
            assert sample.values[0] >= sample.values[2] and sample.values[1] >= sample.values[3]
            if sample.values[1]:
                assert sample.labels["bytes"] * sample.values[0] == sample.values[1], (
                    sample.labels,
                    sample.values,
                )
    assert heap.default_sample_type is None and allocs.default_sample_type == "alloc_space"
    assert host.finish() == 0


def test_rate_zero_is_off():
    host = harness.Host([harness.build("exact.c", *FLAGS)], rate=0)
    host.ready()
    status, headers, body = host.get("heap")
    assert (
        status == 503 and headers["X-Go-Pprof"] == "1" and b"PPROFAGENT_MEMPROFILERATE is 0" in body
    ), (status, body)
    assert host.finish() == 0
