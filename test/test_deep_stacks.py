"""Stacks of more than 128 frames keep both ends, with what is missing in between."""
import re

import harness
from pprof_reader import bare

END = ["outer", "main", "__libc_start_call_main", "__libc_start_main_impl", "_start"]


def test_both_ends_are_kept():
    program = harness.build("deep_stacks.c", "-O1", "-fno-optimize-sibling-calls")
    # leaf, middle n + 1 times, and the end: the deepest has more frames than are followed
    depths = [100, 121, 122, 123, 200, 1500, 30000]
    host = harness.Host([program] + [str(depth) for depth in depths], rate=1)
    host.ready()
    profile, lost = host.profile("heap"), harness.losses(host.health())
    text = host.text("heap?debug=1")
    assert host.finish() == 0, host.describe()
    found = []
    for sample in profile.samples:
        names = [bare(frame.function) for frame in sample.frames]
        if names[0] != "leaf":
            continue
        missing = [re.fullmatch(r"\[(\d+) frames left out\]", name) for name in names]
        missing = [(i, int(match[1])) for i, match in enumerate(missing) if match]
        if names[-1].startswith("[truncated"):
            assert names[1:-1] == ["middle"] * 63 and not missing, names
            found.append(30000)
            continue
        assert names[-5:-3] == END[:2] and names[-1] == "_start", names
        inner = [name for name in names[1:-5] if name == "middle"]
        assert len(inner) + len(missing) == len(names) - 6, names
        assert not missing or (missing[0][0] == 64 and len(missing) == 1), missing
        found.append(len(inner) + sum(count for _, count in missing) - 1)
    assert sorted(found) == depths, found
    assert lost["stacks_truncated_depth"] == 5, lost
    assert "frames left out]" in text
