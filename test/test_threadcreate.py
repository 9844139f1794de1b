"""Every thread is in threadcreate, under the stack that created it, and is live until it has ended,
however it ends."""
import os
import re

import harness
from pprof_reader import bare

FLAGS = ("-O2", "-fno-optimize-sibling-calls")
TYPES = [("threadcreate", "count")]


def creations(profile):
    """{function that created: (created, live)}; the leaf of every stack, as libraries are not in
    these programs' way."""
    found = {}
    for sample in profile.samples:
        assert set(sample.labels) == {"state"} and sample.labels["state"] in (
            "live",
            "ended",
        ), sample.labels
        assert sample.values[0] > 0
        name = bare(sample.frames[0].function)
        created, live = found.get(name, (0, 0))
        found[name] = created + sample.values[0], live + sample.values[0] * (
            sample.labels["state"] == "live"
        )
    return found


def by_function(profile):
    """{function: (created, live)} with every function in whose stack a creation is."""
    found = {}
    for sample in profile.samples:
        for name in {bare(frame.function) for frame in sample.frames}:
            created, live = found.get(name, (0, 0))
            found[name] = created + sample.values[0], live + sample.values[0] * (
                sample.labels["state"] == "live"
            )
    return found


def truth(lines):
    return {
        line.split()[1]: tuple(int(word) for word in line.split()[2:])
        for line in lines
        if line.startswith("truth ")
    }


def profile_when(host, live):
    """The profile once no more than that many are live: the last steps of a detached thread cannot
    be waited for otherwise."""

    def look():
        profile = host.profile("threadcreate")
        return profile if sum(live for _, live in creations(profile).values()) == live else None

    return harness.poll(
        look,
        "threads that have ended are counted so; the last: %s"
        % creations(host.profile("threadcreate")),
    )


def check_program(*flags):
    host = harness.Host([harness.build("threads_created.c", *flags)])
    expected = truth(host.ready())
    total, live = sum(created for created, _ in expected.values()), sum(
        live for _, live in expected.values()
    )
    assert total == 39 and live == 12 and len(expected) == 6
    profile = profile_when(host, live)
    assert profile.sample_types == TYPES and profile.period_type == TYPES[0] and profile.period == 1
    assert creations(profile) == expected, (creations(profile), expected)
    assert profile.comments == ["39 threads created, 12 live"], profile.comments
    for sample in profile.samples:
        names = [frame.function for frame in sample.frames]
        assert names[1] == "main" and names[-1] == "_start", names
        assert sample.frames[0].filename.endswith("threads_created.c") and sample.frames[0].line > 0
    host.go_on()
    host.ready()
    profile = profile_when(host, 0)
    assert creations(profile) == {name: (created, 0) for name, (created, _) in expected.items()}
    assert profile.comments == ["39 threads created, 0 live"], profile.comments
    assert harness.losses(host.health()) == {}
    assert host.finish() == 0


def test_every_way_to_end():
    check_program(*FLAGS)


def test_every_way_to_end_O0():
    check_program("-O0")


def test_same_program_without_the_agent():
    """Exit code and output; the program checks every thread's result itself."""
    program = harness.build("threads_created.c", *FLAGS)
    with_agent, plain = harness.run([program], stdin=b"\n\n"), harness.run(
        [program], stdin=b"\n\n", plain=True
    )
    assert (with_agent.returncode, with_agent.stdout, with_agent.stderr) == (
        plain.returncode,
        plain.stdout,
        plain.stderr,
    )
    assert plain.returncode == 0, plain.stdout


def test_text_and_pprof():
    host = harness.Host([harness.build("threads_created.c", *FLAGS)])
    host.ready()
    profile_when(host, 12)
    text = host.text("threadcreate?debug=1")
    assert text.startswith("threadcreate profile: total 39\n"), text[:200]
    records = re.findall(
        r'^(\d+) @((?: 0x[0-9a-f]+)+)\n# labels: {"state":"(live|ended)"}\n#\t0x[0-9a-f]+\t(\w+)',
        text,
        re.MULTILINE,
    )
    assert sum(int(count) for count, _, _, _ in records) == 39
    assert {(name, int(count)) for count, _, state, name in records if state == "live"} == {
        ("create_living", 9),
        ("create_detached", 2),
        ("create_c11", 1),
    }
    assert [int(count) for count, _, _, _ in records] == sorted(
        (int(count) for count, _, _, _ in records), reverse=True
    )
    top = harness.pprof_clean("-top", host.url("threadcreate"))
    assert (
        re.search(r"^\s*10 25\.64% .* create_c11$", top, re.MULTILINE)
        and "Type: threadcreate" in top
    ), top
    live = harness.pprof_clean("-top", "-tagfocus=state=live", host.url("threadcreate"))
    assert (
        re.search(r"^\s*9 .* create_living$", live, re.MULTILINE) and "create_joined" not in live
    ), live
    saved = os.path.join(host.directory, "threadcreate.txt")
    with open(saved, "w") as file:
        file.write(text)
    harness.pprof("-top", saved)
    assert host.finish() == 0


def cpp_program(*flags):
    library = harness.build("threads_library.c", "-O2", shared=True)
    return harness.build(
        "threads_std.cc",
        "-std=c++17",
        *flags,
        "-L" + os.path.dirname(library),
        "-l:" + os.path.basename(library),
        "-Wl,-rpath," + os.path.dirname(library)
    )


def check_cpp(*flags):
    host = harness.Host([cpp_program(*flags)])
    host.ready()
    found = by_function(host.profile("threadcreate"))
    assert found["main"] == (4, 4), found["main"]
    for name in ("shop::pool::start", "(anonymous namespace)::spawn_lambda()", "library_start"):
        assert found.get(name) == (1, 1), (name, found.get(name))
    started = [
        value
        for name, value in found.items()
        if name.startswith("std::future<int> (anonymous namespace)::spawn_async<")
    ]
    assert started == [(1, 1)], started
    host.go_on()
    harness.poll(lambda: host.process.poll() is not None, "the host's end")
    assert host.process.returncode == 0


def test_cpp_O0():
    check_cpp("-O0")


def test_cpp_O2():
    check_cpp("-O2", "-fno-optimize-sibling-calls")


def test_rust():
    host = harness.Host([harness.build("threads_rust.rs")])
    host.ready()
    found = {
        name.split("::")[-1]: value
        for name, value in by_function(host.profile("threadcreate")).items()
        if name.startswith("threads_rust::")
    }
    assert found == {
        "main": (13, 2),
        "spawn_plain": (1, 1),
        "spawn_named": (1, 1),
        "spawn_short": (11, 0),
    }, found
    assert host.finish() == 0


def test_seconds_gives_what_changed():
    """Nothing is created meanwhile, so the difference is empty."""
    host = harness.Host([harness.build("threads_created.c", *FLAGS)])
    host.ready()
    profile_when(host, 12)
    status, headers, body = host.get("threadcreate?seconds=1")
    assert status == 200 and 'filename="threadcreate-delta"' in headers["Content-Disposition"]
    assert harness.Profile(body).samples == []
    assert host.finish() == 0


def resident_kilobytes(pid):
    with open("/proc/%d/statm" % pid) as file:
        return int(file.read().split()[1]) * (os.sysconf("SC_PAGE_SIZE") >> 10)


def test_short_threads_leave_nothing():
    """Each uses and gives back one record; the counters stay exact; the host does not grow."""
    count = 1000000 if os.environ.get("SOAK") else 100000
    # KiB; the agent's answers to this test included. A record a thread would be 64 bytes: 6,250 KiB
    bound = 512
    host = harness.Host([harness.build("threads_created.c", *FLAGS), str(count)])
    host.ready()
    assert creations(profile_when(host, 0)) == {"create_short": (1000, 0)}
    host.health()
    before = resident_kilobytes(host.pid)
    host.go_on()
    assert host.ready(seconds=600) == ["truth create_short %d 0" % (count + 1000)]
    assert creations(profile_when(host, 0)) == {"create_short": (count + 1000, 0)}
    health = host.health()
    growth = resident_kilobytes(host.pid) - before
    harness.note("%d threads: %d KiB of growth" % (count, growth))
    assert growth < bound, "%d KiB more after %d threads" % (growth, count)
    assert health["tables"]["thread_records"]["used"] <= 4, health[
        "tables"
    ]  # one after another: never more than two at a time
    assert health["threads"] == {"created": count + 1000, "ended": count + 1000}, health["threads"]
    assert harness.losses(health) == {}
    assert host.finish() == 0
