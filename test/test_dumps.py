"""Profiles that are written to files without a client: what they say, and that they are whole or
not there."""
import contextlib
import os
import re
import resource
import subprocess
import time

import harness
import process_tree
import system_calls
from pprof_reader import Profile
from test_planted_paths import by_stranger, roots_file, shared_directory, strangers_directory

F, G = [100, 100 * 10000], [50, 50 * 2000]  # dumps.c: objects and bytes; g's are freed
NAME = re.compile(r"(.+)-(\d+)-(\d{8}T\d{6}\.\d{3}Z)-(\w+)\.pb\.gz")


def program():
    return harness.build("dumps.c", "-O1", "-fno-optimize-sibling-calls")


def options(directory, on, **more):
    variables = {"PPROFAGENT_DUMP": directory, "PPROFAGENT_DUMP_ON": on}
    variables.update({"PPROFAGENT_DUMP_" + key: value for key, value in more.items()})
    return variables


def start(directory, on="interval:1s", rate=1, **more):
    host = harness.Host([program(), "wait"], rate=rate, extra=options(directory, on, **more))
    host.ready()
    return host


def files(directory, kind=None):
    """The names of whole profiles, oldest first."""
    found = [name for name in os.listdir(directory) if not name.startswith(".")]
    for name in found:
        assert NAME.fullmatch(name), found
    found = [name for name in found if kind in (None, NAME.fullmatch(name)[4])]
    return sorted(found, key=lambda name: NAME.fullmatch(name)[3])


def read(directory, name):
    path = os.path.join(directory, name)
    assert os.stat(path).st_mode & 0o7777 == 0o600
    with open(path, "rb") as file:
        return Profile(file.read())


def of_function(profile, name):
    """The sums of each sample type where the function allocated."""
    sums = [0] * len(profile.sample_types)
    for sample in profile.samples:
        if sample.frames and sample.frames[0].function == name:
            sums = [a + b for a, b in zip(sums, sample.values)]
    return sums


def await_file(directory, kind="heap", count=1):
    return harness.poll(
        lambda: len(files(directory, kind)) >= count and files(directory, kind), "a file"
    )


def rows(profile):
    return sorted(
        (tuple(frame.function for frame in sample.frames), tuple(sample.values))
        for sample in profile.samples
    )


# ---- what is in it ----


def test_a_heap_each_second():
    directory = harness.scratch()
    host = start(directory)
    name = await_file(directory)[0]
    program_name, pid, _, kind = NAME.fullmatch(name).groups()
    assert (program_name, pid, kind) == (os.path.basename(program())[:15], str(host.pid), "heap")
    profile = read(directory, name)
    assert of_function(profile, "f") == F + F and of_function(profile, "g") == G + [0, 0]
    served = host.profile("heap")
    assert rows(served) == rows(profile) and served.sample_types == profile.sample_types
    seen = len(files(directory))
    host.go_on()
    host.ready()
    later = await_file(directory, count=seen + 2)[-1]
    assert of_function(read(directory, later), "f") == [2 * value for value in F + F]
    dump = host.health()["dump"]
    assert dump["written"] >= 3 and dump["failed"] == 0 and dump["last_error"] == "", dump
    assert dump["last_file"].startswith(directory + "/"), dump
    page = host.text("")
    assert "profiles are written to" in page and directory in page and "interval:1s" in page
    assert host.finish() == 0


def test_all_kinds_and_how_many_are_kept():
    directory = harness.scratch()
    kinds = ["heap", "allocs", "goroutine", "block", "mutex", "threadcreate"]
    host = start(directory, PROFILES=",".join(kinds), KEEP="2")
    harness.poll(lambda: host.health()["dump"]["written"] >= 4 * len(kinds), "four rounds")
    host.kill()
    for kind in kinds:
        names = files(directory, kind)
        assert 2 <= len(names) <= 3, names  # a new one may be there before the oldest goes
        profile = read(directory, names[-1])
        first = {"heap": "alloc_objects", "allocs": "alloc_objects", "goroutine": "goroutine"}
        assert profile.sample_types[0][0] == first.get(kind, profile.sample_types[0][0])
    assert of_function(read(directory, files(directory, "allocs")[-1]), "g")[:2] == G


def test_a_name_of_ones_own():
    directory = harness.scratch()
    host = start(directory + "/%%-%p-%k.pb.gz")
    path = os.path.join(directory, "%%-%d-heap.pb.gz" % host.pid)
    harness.poll(lambda: os.path.exists(path), "the file")
    harness.poll(lambda: host.health()["dump"]["written"] >= 3, "more")
    host.kill()
    left = [name for name in os.listdir(directory) if not name.endswith(".tmp")]
    assert left == [os.path.basename(path)], left
    assert of_function(read(directory, os.path.basename(path)), "f") == F + F


def test_bad_values_are_told():
    directory = harness.scratch()
    host = start(
        directory, "interval:1s,noon,signal:KILL,interval:0s", PROFILES="heap,heat", KEEP="0"
    )
    await_file(directory)
    faults = host.health()["config"]["faults"]
    for word in ('"noon"', '"signal:KILL"', '"interval:0s"', '"heat"', "PPROFAGENT_DUMP_KEEP"):
        assert [fault for fault in faults if word in fault], (word, faults)
    assert len(faults) == 5 and host.health()["dump"]["keep"] == 16, faults
    assert host.finish() == 0


def test_without_a_directory_there_is_nothing():
    host = harness.Host([program(), "wait"], rate=1)
    host.ready()
    assert host.health()["dump"]["pattern"] is None
    assert "profiles are written" not in host.text("")
    assert host.finish() == 0


def test_where_its_address_cannot_be_had():
    directory = harness.scratch()
    host = harness.Host(
        [program(), "wait"],
        rate=1,
        address="unix:/nowhere/at/all.sock",
        extra=options(directory, "interval:1s"),
    )
    host.ready()
    names = await_file(directory, count=2)
    assert of_function(read(directory, names[-1]), "f") == F + F
    assert "off: " in host.log(), host.log()
    assert host.finish() == 0


# ---- whole or not there ----


def test_killed_in_the_middle():
    """SIGKILL as soon as a file is being written: what has a name is whole."""
    directory = harness.scratch()
    kinds = "heap,allocs,goroutine,block,mutex,threadcreate"
    caught = 0
    for _ in range(8):
        host = start(directory, PROFILES=kinds, KEEP="100")
        end = time.monotonic() + harness.DEADLINE
        while not any(name.endswith(".tmp") for name in os.listdir(directory)):
            assert time.monotonic() < end, "nothing is written" + host.describe()
        host.kill()
        left = [name for name in os.listdir(directory) if name.endswith(".tmp")]
        caught += len(left)
        for name in left:
            os.unlink(os.path.join(directory, name))
    for name in files(directory):
        read(directory, name)
    harness.note("killed 8 times, in the middle of a file: %d" % caught)


def fails_then_works(host, directory, why, mend):
    health = harness.poll(
        lambda: host.health()["dump"]["failed"] >= 2 and host.health()["dump"], "failures"
    )
    assert why in health["last_error"] and directory in health["last_error"], health
    assert "Profiles not written to files: " in host.text("") and why in host.text("")
    mend()
    seen = host.health()["dump"]["written"]
    harness.poll(lambda: host.health()["dump"]["written"] > seen, "a file again")
    for name in os.listdir(directory):
        if not name.startswith("."):
            read(directory, name)
    assert host.finish() == 0


def test_a_directory_that_vanishes():
    directory = os.path.join(harness.scratch(), "out")
    os.mkdir(directory)
    host = start(directory)
    await_file(directory)
    os.rename(directory, directory + ".away")
    fails_then_works(host, directory, "no such directory", lambda: os.mkdir(directory))


@contextlib.contextmanager
def tmpfs(size):
    process_tree.run_as_root()
    directory = harness.scratch()
    command = ["mount", "-t", "tmpfs", "-o", "size=%d" % size, "tmpfs", directory]
    if subprocess.run(command, capture_output=True).returncode:
        raise harness.Skip("nothing can be mounted here")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def test_a_full_file_system():
    with tmpfs(64 * 1024) as directory:
        filler = os.path.join(directory, ".filler")
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        host = start(directory)
        fails_then_works(host, directory, "no space is left", lambda: os.unlink(filler))


def test_a_read_only_file_system():
    with tmpfs(1 << 20) as directory:
        remount = lambda how: subprocess.run(  # noqa: E731
            ["mount", "-o", "remount," + how, directory], check=True
        )
        host = start(directory)
        await_file(directory)
        remount("ro")
        fails_then_works(host, directory, "read-only", lambda: remount("rw"))


def test_a_limit_of_a_files_size():
    """The kernel sends the writing thread SIGXFSZ, which would end the program."""
    directory, port = harness.scratch(), harness.free_port()
    host = harness.Host(
        [program(), "wait"],
        rate=1,
        extra=options(directory, "interval:1s"),
        address="127.0.0.1:%d" % port,
        preexec_fn=harness.limit(resource.RLIMIT_FSIZE, 0),
    )
    host._address = "127.0.0.1", port  # the log cannot be written either
    host.ready()

    def failed():
        with contextlib.suppress(OSError):
            return host.health()["dump"]["failed"] >= 2

    harness.poll(failed, "failures")
    assert "RLIMIT_FSIZE" in host.health()["dump"]["last_error"]
    host.go_on()
    host.ready()
    assert host.finish() == 0 and os.listdir(directory) == []


def under_filter(action, call):
    directory = harness.scratch()
    argv = system_calls.under_filter(action, [call], [program(), "wait"])
    host = harness.Host(argv, rate=1, extra=options(directory, "interval:1s"))
    host.ready()
    dump = harness.poll(
        lambda: host.health()["dump"]["failed"] and host.health()["dump"], "a failure"
    )
    assert host.finish() == 0
    assert dump["written"] == 0 and os.listdir(directory) == [], (call, dump)
    return dump["last_error"]


def test_calls_that_are_refused():
    for call in ("fsync", "renameat"):
        assert "cannot be written" in under_filter("errno", call)


def test_calls_that_a_service_manager_kills_for():
    """They are not made: the program was started under such a filter."""
    for call in ("fsync", "renameat", "unlinkat"):
        assert "ends it for " + call in under_filter("kill_process", call)


# ---- what others put there ----


def refused(directory, why, **more):
    process_tree.run_as_root()
    host = start(directory, **more)
    dump = harness.poll(
        lambda: host.health()["dump"]["failed"] and host.health()["dump"], "a refusal"
    )
    assert why in dump["last_error"] and dump["written"] == 0, dump
    assert host.finish() == 0


def test_what_is_no_profile_is_not_replaced():
    """A name may be that of the program itself, or of somebody's notes."""
    directory = harness.scratch()
    path = os.path.join(directory, "notes.pb.gz")
    with open(path, "w") as file:
        file.write("no profile\n")
    refused(path, "is there, and no profile")
    assert open(path).read() == "no profile\n" and os.listdir(directory) == ["notes.pb.gz"]


def test_a_strangers_directory():
    process_tree.run_as_root()
    directory = strangers_directory()
    refused(directory, "on its way belongs to user")
    assert os.listdir(directory) == []


def test_a_strangers_link_in_a_shared_directory():
    process_tree.run_as_root()
    directory, precious = shared_directory(), roots_file()
    path = os.path.join(directory, "heap.pb.gz")
    by_stranger("symlink", precious, path)
    refused(path, "is a link")
    assert open(precious).read() == "of root\n" and os.readlink(path) == precious
    os.unlink(path)
    by_stranger("mkfifo", path)
    refused(path, "no regular file")
    os.unlink(path)
    host = start(path)
    harness.poll(lambda: host.health()["dump"]["written"] >= 2, "the file, again and again")
    assert of_function(read(directory, "heap.pb.gz"), "f") == F + F
    assert host.finish() == 0
