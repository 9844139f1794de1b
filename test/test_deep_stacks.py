"""Stacks of more frames than are kept, 128 or PPROFAGENT_STACKDEPTH, keep both ends, with what is
missing in between."""
import re

import harness
from pprof_reader import bare

END = ["outer", "main", "__libc_start_call_main", "__libc_start_main_impl", "_start"]
DEEPEST = 30000  # more frames than are followed


def program():
    return harness.build("deep_stacks.c", "-O1", "-fno-optimize-sibling-calls")


def check(sample, kept):
    """The depth of the recursion that the stack is of."""
    names = [bare(frame.function) for frame in sample.frames]
    missing = [re.fullmatch(r"\[(\d+) frames left out\]", name) for name in names]
    missing = [(i, int(match[1])) for i, match in enumerate(missing) if match]
    if names[-1].startswith("[truncated"):
        assert names[1:-1] == ["middle"] * (kept // 2 - 1) and not missing, names
        return DEEPEST
    assert names[-5:-3] == END[:2] and names[-1] == "_start", names
    inner = [name for name in names[1:-5] if name == "middle"]
    assert len(inner) + len(missing) == len(names) - 6, names
    assert not missing or (missing[0][0] == kept // 2 and len(missing) == 1), missing
    # both ends' markers have their places in a full one
    assert len(names) == kept - 1 if missing else len(names) <= kept, (len(names), missing)
    return len(inner) + sum(count for _, count in missing) - 1


def heap(kept, depths, setting=None):
    """The stacks' depths, what was lost, and health."""
    extra = {"PPROFAGENT_STACKDEPTH": setting} if setting else {}
    host = harness.Host([program()] + [str(depth) for depth in depths], rate=1, extra=extra)
    host.ready()
    profile, health = host.profile("heap"), host.health()
    text = host.text("heap?debug=1")
    assert host.finish() == 0, host.describe()
    found = [
        check(sample, kept)
        for sample in profile.samples
        if bare(sample.frames[0].function) == "leaf"
    ]
    assert sorted(found) == sorted(depths), found
    return text, harness.losses(health), health


def test_both_ends_are_kept():
    # leaf, middle n + 1 times, and the end
    text, lost, _ = heap(128, [100, 121, 122, 123, 200, 1500, DEEPEST])
    assert lost["stacks_truncated_depth"] == 5, lost
    assert "frames left out]" in text


def test_as_many_frames_as_are_asked_for():
    for kept in (16, 129, 500, 1024):
        _, lost, health = heap(kept, [kept - 8, kept - 7, kept - 6, 1500, DEEPEST], str(kept))
        assert lost["stacks_truncated_depth"] == 3, (kept, lost)
        assert health["config"]["stack_depth"] == kept, health["config"]


def test_a_bad_depth_is_reported():
    for bad in ("1025", "15", "0", "-1", "many", "1k1", "18446744073709551617"):
        host = harness.Host([program()], extra={"PPROFAGENT_STACKDEPTH": bad})
        host.ready()
        faults = host.health()["config"]["faults"]
        assert len(faults) == 1 and "PPROFAGENT_STACKDEPTH" in faults[0], faults
        assert "from 16 to 1024" in faults[0] and "using 128" in faults[0], faults
        assert host.health()["config"]["stack_depth"] == 128
        assert "PPROFAGENT_STACKDEPTH" in host.text("")
        assert host.finish() == 0
    host = harness.Host([program()], extra={"PPROFAGENT_STACKDEPTH": "1k"})
    host.ready()
    assert host.health()["config"]["stack_depth"] == 1024 and host.finish() == 0


def test_other_profiles_keep_as_many():
    """CPU samples by timers and by rings, waits, threads' creators, and dumps; on a small stack."""
    deep = harness.build("deep_everything.c", "-O1", "-fno-optimize-sibling-calls")
    for kept, options in ((128, {}), (1024, {}), (1024, harness.by_timers())):
        options = dict(options)
        options["extra"] = dict(
            options.get("extra") or {},
            PPROFAGENT_STACKDEPTH=str(kept),
            PPROFAGENT_BLOCKPROFILERATE="1",
        )
        host = harness.Host([deep], rate=1, **options)
        host.ready()
        host.go_on()
        for path, leaf in (
            ("profile?seconds=1&hz=250", "spin"),
            ("block", "waits"),
            ("threadcreate", "creates"),
            ("allocs", "allocates"),
            ("goroutine", "sleeps"),
        ):

            def depths():
                found = []
                for sample in host.profile(path).samples:
                    names = [bare(frame.function) for frame in sample.frames]
                    if leaf in names and "recursion" in names:
                        missing = [re.fullmatch(r"\[(\d+) frames left out\]", n) for n in names]
                        left_out = sum(int(match[1]) for match in missing if match)
                        if not names[-1].startswith("[truncated: stack memory"):
                            found.append((names.count("recursion"), left_out, len(names)))
                return found

            found = harness.poll(depths, "%s of a deep stack" % path)
            for seen, left_out, length in found:
                assert seen + left_out == 700, (path, kept, found)
                assert (left_out == 0) == (kept == 1024) and length <= kept + 1, (path, found)
        assert host.finish() == 0, host.describe()
