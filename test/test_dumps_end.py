"""Profiles that are written when the program ends: it ends as without the agent, and its file is
there."""
import os
import re

import harness
import pytest
from test_dumps import F, G, files, of_function, options, program, read

# A file is written for these; "exec": by the program that comes then.
WRITES = ["return", "exit", "_exit", "_Exit", "quick_exit", "exit_group", "thread", "last_thread"]
WRITES += ["handler", "raw_exit"]
WRITES_NOTHING = ["abort", "kill", "segv", "confined"]


def seen(done):
    """What the program's parent sees of its end, but for the numbers of its children."""
    return done.returncode, re.sub(rb"child \d+", b"child", done.stdout), done.stderr


def run_to_end(way, directory, **environment):
    extra = options(directory, "exit")
    return harness.run([program(), way], rate=1, extra=extra, **environment)


def ends_as_ever(way, **environment):
    """The directory with its files."""
    directory = harness.scratch()
    plain = harness.run([program(), way], plain=True)
    assert seen(run_to_end(way, directory, **environment)) == seen(plain), way
    return directory


def with_file(way, is_whole, **environment):
    """On a busy machine 100 ms may be too short: then there is none, or names are missing, and the
    program has ended as ever."""
    for _ in range(20):
        directory = ends_as_ever(way, **environment)
        if is_whole(directory, [read(directory, name) for name in files(directory)]):
            return
    raise AssertionError("%s: no whole file in 20 runs" % way)


def has_both(_, profiles):
    """One profile, that of dumps.c; without names it has the sums all the same."""
    if not profiles:
        return False
    (profile,) = profiles
    sums = [sum(values) for values in zip(*(sample.values for sample in profile.samples))]
    assert sums[0] >= F[0] + G[0] and sums[1] >= F[1] + G[1] and F[1] <= sums[3] < F[1] + G[1], sums
    return of_function(profile, "f") == F + F and of_function(profile, "g") == G + [0, 0]


def test_every_way_to_end():
    for way in WRITES:
        with_file(way, has_both)


@pytest.mark.parametrize("mode", ["destructor", "exit", "late", "two", "many"])
def test_other_threads_run_on(mode):
    """They may use what destructors take away, and end the process themselves: for as long as a
    file is written nothing of that may happen that would not without."""
    argv = [harness.build("end_among_threads.cc", "-O1", "-pthread"), mode]
    plain = harness.run(argv, plain=True)
    assert plain.returncode == {"exit": 7, "two": 19, "many": 21}.get(mode, 0)
    written = 0
    for _ in range(6):
        directory = harness.scratch()
        done = harness.run(argv, rate=1, extra=options(directory, "exit"))
        assert seen(done) == seen(plain)
        written += len(files(directory))
    assert written >= 3, "on a busy machine 100 ms may be too short"


def test_killed_it_writes_nothing():
    for way in WRITES_NOTHING:
        assert os.listdir(ends_as_ever(way)) == [], way


def test_exec():
    """The program that comes then has a file, the one that went has none."""
    with_file("exec", lambda directory, _: [name[:5] for name in files(directory)] == ["true-"])


def test_children():
    """One of fork's that ends by exit, one by _exit, each with a file of its own; none of
    vfork's."""

    def are_there(_, profiles):
        assert len(profiles) <= 3
        return sorted(of_function(each, "f")[2] for each in profiles) == [101, 101, 102]

    with_file("children", are_there)


def test_without_a_server():
    with_file("exit", has_both, address="off")


def test_a_program_that_has_run_for_a_while():
    """Its dumping thread is there; one by time does not take the place of the one at the end."""
    kinds = {}
    for _ in range(20):
        directory = harness.scratch()
        extra = options(directory, "exit,interval:1h", PROFILES="heap,goroutine,threadcreate")
        host = harness.Host([program(), "wait"], rate=1, extra=extra)
        host.ready()
        assert host.health()["dump"]["written"] == 0
        assert host.finish() == 0
        kinds = {name.split("-")[-1].split(".")[0]: name for name in files(directory)}
        if len(kinds) == 3 and of_function(read(directory, kinds["heap"]), "f") == F + F:
            break
    assert sorted(kinds) == ["goroutine", "heap", "threadcreate"], kinds
    assert of_function(read(directory, kinds["heap"]), "f") == F + F
    assert len(read(directory, kinds["goroutine"]).samples) == 1


def test_a_directory_that_is_not_there():
    directory = os.path.join(harness.scratch(), "missing")
    plain = harness.run([program(), "exit"], plain=True)
    assert seen(run_to_end("exit", directory)) == seen(plain)
    assert not os.path.exists(directory)
