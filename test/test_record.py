"""scripts/pprofagent run --record and record: profiles in files, and what is recorded goes on as
ever."""
import hashlib
import os
import shutil
import subprocess

import harness
from pprof_reader import Profile
from test_dumps import F, files, of_function, program, read

SCRIPT = os.path.join(harness.ROOT, "scripts", "pprofagent")

SOURCE = """#include <stdio.h>
#include "all.h"
int part_%(i)d(int x) { printf("%(i)d %%d\\n", x); return x * %(i)d; }
"""
MAKEFILE = """OBJECTS := $(foreach i,0 1 2 3 4 5,part_$(i).o)
program: $(OBJECTS) main.o ; gcc -o $@ $^ && strip -g -o stripped $@ && \\
	ar rc parts.a $(OBJECTS) && gzip -9kn $@
%.o: %.c all.h ; gcc -O2 -g -c -o $@ $<
"""


def run_script(*arguments, cwd=None, path=None, **more):
    environment = harness.agent_environment(plain=True, **more)
    environment.pop("PPROFAGENT_ADDR")
    if path:
        environment["PATH"] = path
    environment.update(PPROFAGENT_LIBRARY=harness.agent(), PPROFAGENT_MEMPROFILERATE="1")
    return subprocess.run(
        [SCRIPT, *arguments],
        capture_output=True,
        cwd=cwd,
        env=environment,
        timeout=harness.DEADLINE * 5,
    )


def small_project():
    directory = os.path.join(harness.scratch(), "project")
    os.mkdir(directory)

    def write(name, text):
        with open(os.path.join(directory, name), "w") as file:
            file.write(text)

    for i in range(6):
        write("part_%d.c" % i, SOURCE % {"i": i})
    write("all.h", "".join("int part_%d(int);\n" % i for i in range(6)))
    calls = " + ".join("part_%d(%d)" % (i, i) for i in range(6))
    write("main.c", '#include "all.h"\nint main(void) { return %s; }\n' % calls)
    write("Makefile", MAKEFILE)
    return directory


def products(directory):
    found = {}
    for name in os.listdir(directory):
        with open(os.path.join(directory, name), "rb") as file:
            found[name] = hashlib.sha256(file.read()).hexdigest()
    return found


def test_a_build_is_the_same_and_each_process_has_a_file():
    harness.need("make", "gcc", "gzip")
    directory, out = small_project(), os.path.join(harness.scratch(), "new", "out")
    copy = directory + ".copy"
    shutil.copytree(directory, copy)
    plain = harness.run(["make", "-j2"], plain=True, cwd=directory)
    assert plain.returncode == 0, plain.stderr
    expected = products(directory)
    shutil.rmtree(directory)
    os.rename(copy, directory)
    done = run_script("run", "--record", out, "make", "-j2", cwd=directory)
    assert (done.returncode, done.stderr) == (0, plain.stderr)
    assert sorted(done.stdout.splitlines()) == sorted(plain.stdout.splitlines())
    assert products(directory) == expected
    merged = [name for name in os.listdir(out) if name.startswith("merged-")]
    for name in merged:
        os.rename(os.path.join(out, name), os.path.join(out, "." + name))
    profiles = files(out)
    programs = [name.split("-")[0] for name in profiles]
    harness.note("a build of %d processes with files: %s" % (len(profiles), sorted(set(programs))))
    assert {"make", "gcc", "cc1", "as", "gzip"} <= set(programs), programs
    for name in profiles:
        assert read(out, name).sample_types[3] == ("inuse_space", "bytes"), name
    assert not [name for name in os.listdir(out) if name.startswith(".pprofagent")]
    if shutil.which("go"):
        assert merged == ["merged-heap.pb.gz"]
        total = sum(s.values[1] for name in profiles for s in read(out, name).samples)
        with open(os.path.join(out, ".merged-heap.pb.gz"), "rb") as file:
            assert sum(s.values[1] for s in Profile(file.read()).samples) == total > 0


def test_exit_codes_and_arguments():
    out = harness.scratch()
    for code in (0, 7):
        done = run_script("run", "--record", out, "--", "sh", "-c", "echo a; exit %d" % code)
        assert (done.returncode, done.stdout, done.stderr) == (code, b"a\n", b"")
    assert run_script("run", "--record").returncode == 2
    assert run_script("run", "--record", out).returncode == 2
    odd = run_script("run", "--record", os.path.join(out, "a%b"), "true")
    assert odd.returncode == 1 and b"%" in odd.stderr


def test_record_of_a_running_one():
    host = harness.Host([program(), "wait"], rate=1)
    host.ready()
    host.address  # noqa: B018: it listens
    directory = harness.scratch()
    for who in (str(host.pid), host.url(), "%s:%d" % host.address):
        done = run_script("record", "-o", "heap.pb.gz", who, cwd=directory)
        assert done.returncode == 0 and done.stdout == b"heap.pb.gz\n", done
        assert of_function(read(directory, "heap.pb.gz"), "f") == F + F
        os.unlink(os.path.join(directory, "heap.pb.gz"))
    done = run_script("record", "--profile", "cpu", "--seconds=1", str(host.pid), cwd=directory)
    (name,) = os.listdir(directory)
    assert done.stdout.decode() == name + "\n" and "-%d-" % host.pid in name
    assert name.endswith("-cpu.pb.gz")
    assert read(directory, name).sample_types[1] == ("cpu", "nanoseconds")
    failing = run_script("record", "--seconds", "100000", str(host.pid), cwd=directory)
    assert failing.returncode == 1 and b"400" in failing.stderr
    none = run_script("record", str(os.getpid()), cwd=directory)
    assert none.returncode == 1 and b"serves no profiles" in none.stderr
    assert run_script("record", "--profile", "heat", str(host.pid)).returncode == 2
    assert os.listdir(directory) == [name]
    assert host.finish() == 0


def test_record_by_a_unix_socket():
    directory = harness.scratch()
    path = os.path.join(directory, "agent.sock")
    host = harness.Host([program(), "wait"], rate=1, address="unix:" + path)
    host.ready()
    harness.poll(lambda: "listening" in host.log(), "its agent")
    for who in (str(host.pid), "unix:" + path):
        done = run_script("record", "-o", os.path.join(directory, "p.pb.gz"), who)
        assert done.returncode == 0, done
        assert of_function(read(directory, "p.pb.gz"), "f") == F + F
    assert host.finish() == 0


def test_share():
    """A stand-in for pprof.me's client keeps what it is told to upload."""
    directory = harness.scratch()
    kept = os.path.join(directory, "kept.pb.gz")
    host = harness.Host([program(), "wait"], rate=1)
    host.ready()
    client = os.path.join(directory, "pprofme")
    without = run_script("share", host.url(), path=directory + ":/usr/bin:/bin")
    assert without.returncode == 1 and b"pprofme" in without.stderr, without
    with open(client, "w") as file:
        file.write('#!/bin/sh\n[ "$1" = upload ] && cp "$2" %s && echo link\n' % kept)
    os.chmod(client, 0o755)
    shared = run_script("share", host.url(), path=directory + ":/usr/bin:/bin")
    assert shared.returncode == 0 and shared.stdout == b"link\n", shared
    with open(kept, "rb") as file:
        assert Profile(file.read()).samples
    refused = run_script(
        "share", "--profile", "trace", host.url(), path=directory + ":/usr/bin:/bin"
    )
    assert refused.returncode == 2, refused
    host.kill()
