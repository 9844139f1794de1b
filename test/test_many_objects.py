"""Any number of libraries between the agent and libc: 600 small ones."""
import os
import subprocess

import harness

COUNT = 600


def libraries():
    """A directory of libsmall_N.so, all the same code, each with a name of its own."""
    directory = os.path.join(harness.BUILD, "test", "workloads", "many_objects")
    last = os.path.join(directory, "libsmall_%d.so" % (COUNT - 1))
    if os.path.exists(last):
        return directory
    os.makedirs(directory, exist_ok=True)
    first = os.path.join(directory, "first.so")
    command = ["gcc", "-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libsmall_0000.so", "-o", first]
    subprocess.run(
        command + ["-x", "c", "-"], input=b"int small_0000(void) { return 1; }\n", check=True
    )
    with open(first, "rb") as file:
        template = file.read()
    assert template.count(b"small_0000") >= 2
    for number in range(COUNT):  # the loader compares names, so that each is another library
        with open(os.path.join(directory, "libsmall_%d.so" % number), "wb") as file:
            file.write(template.replace(b"libsmall_0000", b"libsmall_%04d" % number))
    return directory


def preloads():
    directory = libraries()
    return [os.path.join(directory, "libsmall_%d.so" % number) for number in range(COUNT)]


def program():
    return harness.build("every_profile.c", "-O1", "-fno-optimize-sibling-calls")


def test_libraries_before_libc():
    host = harness.Host(
        [program()],
        rate=512,
        preload_after=preloads(),
        extra={"PPROFAGENT_MUTEXPROFILEFRACTION": "1"},
    )
    host.ready()
    harness.poll(lambda: "compute" in str(host.profile("heap").by_function()), "samples")
    harness.poll(lambda: "fight" in str(host.profile("mutex").by_function()), "waits")
    health = host.health()
    assert harness.losses(health) == {}, health["losses"]
    assert host.finish() == 0, host.describe()
    assert host.stderr() == "", host.stderr()


def test_libraries_before_the_agent():
    host = harness.Host([program()], rate=512, preload_before=preloads())
    host.ready()
    harness.poll(lambda: "compute" in str(host.profile("heap").by_function()), "samples")
    assert host.finish() == 0, host.describe()
