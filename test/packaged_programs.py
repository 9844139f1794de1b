"""What the tests of packaged programs share: load, other users, and their CPU profiles."""
import collections
import glob
import os
import pwd
import subprocess
import threading

import harness
from pprof_reader import bare

HZ = 250


class Load:
    """Calls a function again and again in a thread of its own, from `with` to its end."""

    def __init__(self, function):
        self.function, self.stopped, self.calls, self.fault = function, False, 0, None
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            while not self.stopped:
                self.function()
                self.calls += 1
        except Exception as fault:
            self.fault = fault

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *unused):
        self.stopped = True
        self.thread.join()
        assert self.fault is None, self.fault


def cpu_profile(host, seconds=3, hz=HZ):
    profile = host.profile(
        "profile?seconds=%d&hz=%d" % (seconds, hz), timeout=harness.DEADLINE + seconds
    )
    assert profile.sample_types == [
        ("samples", "count"),
        ("cpu", "nanoseconds"),
    ], profile.sample_types
    return profile


def whole(profile):
    """The share of the samples whose stack is followed to its end."""
    cut = sum(
        sample.values[0]
        for sample in profile.samples
        if sample.frames[-1].function.startswith("[truncated")
    )
    return 1 - cut / profile.total()[0]


def check(profile, functions, at_least=50, whole_stacks=0.97):
    total = profile.total()[0]
    assert total >= at_least, "only %d samples" % total
    sums = profile.by_function()
    missing = [name for name in functions if sums[name][0] <= 0]
    assert not missing, "not in the profile: %s; there are %s" % (
        missing,
        sorted(sums, key=lambda name: -sums[name][0])[:40],
    )
    garbage = {
        frame.function
        for sample in profile.samples
        for frame in sample.frames
        if frame.mapping is None and not frame.function
    }
    assert not garbage
    for sample in profile.samples:
        assert isinstance(sample.labels["tid"], int) and isinstance(
            sample.labels["thread_name"], str
        ), sample.labels
    assert whole(profile) >= whole_stacks, "%.3f of the stacks are whole; ends: %s" % (
        whole(profile),
        collections.Counter(
            tuple(bare(frame.function) for frame in sample.frames[-4:])
            for sample in profile.samples
        ).most_common(5),
    )
    leafs = sorted(profile.by_leaf().items(), key=lambda item: -item[1][0])[:6]
    harness.note(
        "%d samples, %.1f %% whole; %s"
        % (
            total,
            100 * whole(profile),
            ", ".join("%s %d" % (name or "?", value[0]) for name, value in leafs),
        )
    )


def check_pprof(host, profile_path, function):
    assert function in harness.pprof_clean("-top", "-nodecount=500", profile_path)
    assert function in harness.pprof_clean("-traces", profile_path)
    assert "Type: cpu" in harness.pprof_clean("-top", profile_path)


def postgres_programs():
    places = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not places:
        raise harness.Skip("postgresql is not installed")
    return places[-1]


def unprivileged():
    """postgres refuses to be run by root: (preexec_fn, uid, gid)."""
    if os.getuid() != 0:
        return None, os.getuid(), os.getgid()
    user = pwd.getpwnam("nobody")
    if subprocess.run(
        [
            "setpriv",
            "--reuid=%d" % user.pw_uid,
            "--regid=%d" % user.pw_gid,
            "--clear-groups",
            "test",
            "-r",
            harness.agent(),
        ]
    ).returncode:
        raise harness.Skip("the build directory cannot be read by another user")

    def become():
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)

    return become, user.pw_uid, user.pw_gid


def in_open_directory(argv, become, uid, **options):
    """A host that runs as another user and writes its agent's log where that user may."""
    directory = harness.scratch()
    os.chown(directory, uid, -1)
    return harness.Host(argv, preexec_fn=become, cwd="/", directory=directory, **options)


def redis_client(port):
    """Waits for the redis there; asks it by its real client."""
    client = harness.need("redis-cli")

    def ask(*words):
        return subprocess.run(
            [client, "-p", port] + list(words),
            capture_output=True,
            text=True,
            timeout=harness.DEADLINE,
        ).stdout.strip()

    harness.poll(lambda: ask("ping") == "PONG", "redis answers")
    return ask


def postgres_data(become, uid, gid):
    """The directory of a new data base."""
    directory = harness.scratch()
    os.chown(directory, uid, gid)
    data = os.path.join(directory, "data")
    subprocess.run(
        [postgres_programs() + "/initdb", "-D", data, "-A", "trust", "-U", "tester", "--no-sync"],
        check=True,
        preexec_fn=become,
        capture_output=True,
        cwd="/",
    )
    return data


def postgres_server(data, port):
    """Its arguments."""
    program, quick = postgres_programs() + "/postgres", "fsync=off"
    here = "listen_addresses=127.0.0.1"
    return [program, "-D", data, "-p", port, "-k", "", "-c", here, "-c", quick]
