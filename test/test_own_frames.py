"""The agent's own functions in a program's CPU profile: what the program has called stands
there."""
import os
import subprocess

import harness
from pprof_reader import bare


def exported():
    lines = subprocess.run(
        [harness.need("nm"), "-D", "--defined-only", harness.agent()],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return {line.split()[-1].split("@")[0] for line in lines}


def test_wrappers_stand_for_what_they_do():
    program = harness.build("own_calls.c", "-O1", "-fno-optimize-sibling-calls")
    host = harness.Host([program], rate=1, **harness.by_timers())
    host.ready()
    host.go_on()
    profile = host.profile("profile?seconds=3&hz=500")
    host.go_on()
    host.ready()
    assert host.finish() == 0, host.describe()
    known, seen = exported(), set()
    for sample in profile.samples:
        own = [
            i
            for i, frame in enumerate(sample.frames)
            if frame.mapping
            and os.path.basename(frame.mapping.filename) == os.path.basename(harness.agent())
        ]
        names = [bare(frame.function) for frame in sample.frames]
        for i in own:
            assert names[i] in known, (names[i], names)
            assert i + 1 not in own, names  # one for each call
        if own and own[0] == 0:
            seen.add((names[0], names[1]))
    # where most of the time goes by construction: each allocation is sampled
    assert ("malloc", "allocate") in seen and ("syscall", "call") in seen, seen
