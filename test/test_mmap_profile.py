"""The mmap profile, of a program whose anonymous mappings are known to the byte."""
import math
import os
import subprocess

import harness

KB, MB = 1 << 10, 1 << 20
FUNCTIONS = {
    "f",
    "g",
    "h",
    "moved",
    "grows",
    "reserved",
    "commits",
    "shared",
    "of_file",
    "gone",
    "many",
}
# (calls, bytes of them, ranges left, bytes left): test/workloads/mmap_profile.c
EXPECTED = {
    "f": (2, 5 * MB, 2, 5 * MB),
    "g": (1, 10 * MB, 2, 6 * MB - 4 * KB),
    "h": (1, 6 * MB, 0, 0),
    "moved": (3, 5 * MB + 64 * KB, 3, 3 * MB + 64 * KB),
    "reserved": (1, 64 * MB, 9, 56 * MB - 64 * KB),
    "commits": (8, 8 * MB, 8, 8 * MB),
    "shared": (1, 5 * MB, 1, 5 * MB),
}
GROWN = 5 * MB


def start(*arguments, rate=1, **options):
    program = harness.build("mmap_profile.c", "-O1", "-fno-optimize-sibling-calls", "-pthread")
    host = harness.Host([program, *arguments], rate=rate, **options)
    host.ready()
    return host


def by_function(profile):
    """{function of the workload: {type: value}}"""
    types = [name for name, _ in profile.sample_types]
    found = {}
    for sample in profile.samples:
        names = [frame.function for frame in sample.frames if frame.function in FUNCTIONS]
        values = found.setdefault(names[0] if names else "other", dict.fromkeys(types, 0))
        for name, value in zip(types, sample.values):
            values[name] += value
    return found


def test_exact_at_rate_1():
    host = start()
    profile = host.profile("mmap")
    found = by_function(profile)
    for name, (calls, bytes_of_calls, ranges, left) in EXPECTED.items():
        values = found[name]
        assert values["alloc_objects"] == calls, (name, values)
        assert values["alloc_space"] == bytes_of_calls, (name, values)
        assert values["inuse_objects"] == ranges and values["inuse_space"] == left, (name, values)
    assert found["f"]["resident_space"] in (1 * MB, 2 * MB), found["f"]  # by 2 MB pages, perhaps
    assert found["g"]["resident_space"] == 6 * MB - 4 * KB, found["g"]
    assert found["reserved"]["resident_space"] == 0 and found["h"]["resident_space"] == 0
    assert found["grows"]["inuse_space"] == GROWN, found["grows"]
    assert found["gone"]["inuse_space"] == 0 and found["gone"]["inuse_objects"] == 0, found["gone"]
    assert not {"of_file", "many"} & set(found), found
    text = " ".join(profile.comments)
    total = sum(left for _, _, _, left in EXPECTED.values()) + GROWN
    assert (
        "%d bytes are mapped so now" % (total + found.get("other", {}).get("inuse_space", 0))
        in text
    )
    health = host.health()
    assert not [
        name
        for name in health["losses"]
        if name.startswith("mmap_lost_") and health["losses"][name]
    ]
    assert host.finish() == 0


def test_the_program_sees_what_it_would_without():
    program = harness.build("mmap_profile.c", "-O1", "-fno-optimize-sibling-calls", "-pthread")
    plain = subprocess.run([program], stdin=subprocess.DEVNULL, capture_output=True)
    assert plain.returncode == 0 and plain.stdout.endswith(b"ready\n"), plain
    for rate in (1, 64 * KB, 0):
        done = harness.run([program], rate=rate)
        assert done.returncode == 0 and done.stdout == plain.stdout, done


def test_within_the_samplings_error():
    count, size, rate = 20000, 96 * KB, 512 * KB
    host = start(str(count), rate=rate)
    many = by_function(host.profile("mmap"))["many"]
    scale = 1 / (1 - math.exp(-size / rate))
    error = math.sqrt(count * (scale - 1))  # of a count of Poisson samples, each for `scale`
    assert abs(many["alloc_objects"] - count) < 4.5 * error, (many, error)
    half = math.sqrt(count / 2 * (scale - 1))
    assert abs(many["inuse_objects"] - count / 2) < 4.5 * half, (many, half)
    assert abs(many["inuse_space"] - count / 2 * size) < 4.5 * half * size
    host.kill()


def test_forms():
    host = start("100")
    text = host.text("mmap?debug=1")
    assert text.startswith("heap profile: 50: %d [100: %d]" % (50 * 96 * KB, 100 * 96 * KB)), text[
        :200
    ]
    assert "# resident_space = 0" in text
    top = harness.pprof_clean("-top", "-sample_index=inuse_space", host.url("mmap"))
    assert "many" in top and "4.69MB" in top, top
    delta = host.profile("mmap?seconds=1")
    assert not delta.samples
    assert ">mmap<" in host.text("") or "/mmap" in host.text("")
    host.kill()


def test_off_with_its_reason():
    host = start("10", rate=0)
    status, _, body = host.get("mmap")
    assert status == 503 and b"MEMPROFILERATE is 0" in body, (status, body)
    host.kill()


def test_nothing_of_ours_lies_in_the_programs_holes():
    program = harness.build("mmap_hole.c", "-O1")
    for piece, count in ((2048, 4096), (2048, 16384), (16384, 8000), (64, 4096)):
        done = harness.run([program, str(piece), str(count)], address="off")
        assert done.returncode == 0 and done.stdout == b"ready\n", (piece, count, done)


def test_a_mapping_that_grows_often():
    """A hundred times: each growth is a call of its own; for the kernel it is one mapping."""
    host = start("grow")
    grown = by_function(host.profile("mmap"))["grows"]
    assert grown["inuse_space"] == 99 * MB and grown["alloc_objects"] == 99, grown
    losses = host.health()["losses"]
    assert not [name for name in losses if name.startswith("mmap_lost_") and losses[name]]
    host.kill()
