"""heap?age=, labels= and sample=gone, of a program that knows what it allocated when and where."""
import threading
import time

import harness

SIZE, OF_F, OF_G, OF_H, OF_K = 64 * 1024, 40, 24, 100, 8


def start():
    host = harness.Host(
        [harness.build("heap_ages.c", "-O1", "-fno-optimize-sibling-calls")], rate=1
    )
    lines = {word: (float(at), int(tid)) for word, at, tid in map(str.split, host.ready())}
    return host, lines


def sums(profile, type_name):
    """{function of the workload: bytes}"""
    types = [name for name, _ in profile.sample_types]
    found = {}
    for sample in profile.samples:
        names = {frame.function for frame in sample.frames} & set("fghk")
        if names:
            name = names.pop()
            found[name] = found.get(name, 0) + sample.values[types.index(type_name)]
    return {name: size for name, size in found.items() if size}


def at_moment_between(host, older, younger, query):
    """The answer to a question whose age lies between two moments, asked quickly enough."""
    end = time.monotonic() + harness.DEADLINE
    while True:
        age = time.monotonic() - (older + younger) / 2
        profile = host.profile(query % age)
        if time.monotonic() - (older + younger) / 2 - age < (younger - older) / 2:
            return profile
        assert time.monotonic() < end, "the machine is too slow for the question"


def test_only_what_is_old_enough():
    host, lines = start()
    f, g = lines["f"][0], lines["g"][0]
    profile = at_moment_between(host, f, g, "heap?age=%.6fs")
    for type_name in ("inuse_space", "alloc_space"):
        assert sums(profile, type_name) == {"f": OF_F * SIZE}, sums(profile, type_name)
    assert sums(host.profile("heap?age=0"), "inuse_space") == {"f": OF_F * SIZE, "g": OF_G * SIZE}
    assert sums(host.profile("heap?age=1h30m"), "inuse_space") == {}
    assert "f+0x" in host.text("heap?age=2s&debug=1")
    host.kill()


def test_labels():
    host, lines = start()
    host.go_on()
    host.ready()
    asked = time.monotonic()
    profile = host.profile("heap?labels=age,thread")
    answered = time.monotonic()
    inuse = [name for name, _ in profile.sample_types].index("inuse_space")
    seen = {}
    for sample in profile.samples:
        names = {frame.function for frame in sample.frames} & set("fg")
        if not names or not sample.values[inuse]:
            continue
        name = names.pop()
        seen[name] = seen.get(name, 0) + sample.values[inuse]
        at, tid = lines[name]
        assert sample.labels["tid"] == tid, (name, sample.labels)
        comm = "keeper" if name == "f" else "heap_ages_c_O1"[:15]
        assert sample.labels["thread_name"].startswith(comm[:9]), sample.labels
        age = sample.labels["age"]
        assert age == 0 or age & (age - 1) == 0, age
        # the line with the moment is written next to the allocations
        assert age <= answered - at + 0.5 and max(2 * age, 1) > asked - at - 0.5, (age, at)
    assert seen == {"f": OF_F * SIZE, "g": OF_G * SIZE}, seen
    # what was freed is there too, without a label; all together it is the heap
    assert sums(profile, "alloc_space") == sums(host.profile("heap"), "alloc_space")
    for sample in profile.samples:
        if "h" in {frame.function for frame in sample.frames}:
            assert "tid" not in sample.labels and "age" not in sample.labels, sample.labels
    tags = harness.pprof_clean("-tags", "-sample_index=inuse_space", host.url("heap?labels=thread"))
    assert "keeper" in tags, tags
    host.kill()


def test_what_came_and_went():
    host, _ = start()
    end = time.monotonic() + harness.DEADLINE
    while True:
        answer = {}
        asking = threading.Thread(
            target=lambda: answer.update(profile=host.profile("heap?sample=gone&seconds=2"))
        )
        asking.start()
        time.sleep(0.5)
        before = time.time_ns()
        host.go_on()
        host.ready()
        after = time.time_ns()
        asking.join()
        profile = answer["profile"]
        if profile.time_nanos - profile.duration_nanos < before and after < profile.time_nanos:
            break  # the window was open meanwhile
        assert time.monotonic() < end, "the machine is too slow for the question"
    assert sums(profile, "alloc_space") == {"h": OF_H * SIZE}, sums(profile, "alloc_space")
    assert sums(profile, "inuse_space") == {}
    host.kill()


def test_bad_questions():
    host, _ = start()
    for query, text in (
        ("age=x", 'invalid value for "age" - must be a duration such as 90s, 10m or 2h'),
        ("age=-1s", 'invalid value for "age" - must be a duration such as 90s, 10m or 2h'),
        ("labels=age,name", 'invalid value for "labels" - must be age, thread, or age,thread'),
        ("sample=live", 'invalid value for "sample" - must be gone'),
        ("sample=gone", 'sample=gone needs "seconds"'),
        ("age=1s&seconds=1", "seconds and age params are incompatible"),
        ("labels=age&seconds=1", "seconds and labels params are incompatible"),
        ("labels=age&debug=1", "labels and debug params are incompatible"),
    ):
        status, _, body = host.get("heap?" + query)
        assert status == 400 and body.decode().strip() == text, (query, status, body)
    host.kill()
