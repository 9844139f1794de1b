"""A host that has little memory left is not killed for what the agent reads."""
import contextlib
import os
import subprocess

import harness

LIMIT, STRINGS = 200 << 20, 400 << 20  # bytes


def program_with_huge_debug_strings():
    """A program whose .debug_str ends in 400 MB of zeroes (a sparse file takes no disk)."""
    source = harness.build("big_strings.c")
    directory = harness.scratch()
    strings, output = os.path.join(directory, "strings"), os.path.join(directory, "big")
    subprocess.run(
        ["objcopy", "--dump-section", ".debug_str=" + strings, source, output], check=True
    )
    os.truncate(strings, STRINGS)
    subprocess.run(
        ["objcopy", "--update-section", ".debug_str=" + strings, source, output], check=True
    )
    return output


class MemoryGroup:
    """A memory cgroup of LIMIT bytes, of either version."""

    def __init__(self, size=LIMIT):
        name = "pprofagent-test-%d" % os.getpid()
        for root, limit in (
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ):
            self.path = os.path.join(root, name)
            try:
                os.mkdir(self.path)
            except OSError:
                continue
            try:
                with open(os.path.join(self.path, limit), "w") as file:
                    file.write(str(size))
                return
            except OSError:
                os.rmdir(self.path)
        raise harness.Skip("no memory cgroup can be made here")

    def join(self):
        with open(os.path.join(self.path, "cgroup.procs"), "w") as file:
            file.write(str(os.getpid()))

    def remove(self):
        def gone():
            try:
                os.rmdir(self.path)
            except OSError:
                return False
            return True

        harness.poll(gone, "the cgroup is empty")


def test_a_host_in_a_small_memory_group_lives():
    group = MemoryGroup()
    try:
        host = harness.Host([program_with_huge_debug_strings()], rate=1, preexec_fn=group.join)
        host.ready()
        for _ in range(2):
            profile = host.profile("heap")
            sample = next(s for s in profile.samples if s.values[2:] == [1, 1001])
            leaf = sample.frames[0]
            assert leaf.function == "hold" and leaf.line > 0, leaf
        assert host.process.poll() is None
        assert host.health()["losses"]["symbols_memory_limit"] == 0  # windows of it are read
        assert host.finish() == 0
    finally:
        harness.stop_everything()
        group.remove()


def test_a_large_map_of_jit_code_in_a_small_memory_group():
    """2,400,000 lines: 60 MB of places, and as much while they are put in order."""
    group = MemoryGroup(64 << 20)
    host = None
    try:
        program = harness.build("perf_map.c", "-O1")
        host = harness.Host([program, "100000", "2400000"], rate=1, preexec_fn=group.join)
        host.ready()
        for _ in range(2):
            samples = host.profile("heap").samples
            sample = next(s for s in samples if s.labels.get("bytes") == 100000)
            assert sample.frames[0].function == "new_name", sample.frames[0]  # the latest line
        assert host.process.poll() is None
        assert host.health()["losses"]["symbols_perf_map_limit"] >= 1
        assert host.finish() == 0
    finally:
        harness.stop_everything()
        group.remove()
        with contextlib.suppress(FileNotFoundError, AttributeError):
            os.unlink("/tmp/perf-%d.map" % host.pid)


def test_with_memory_enough_lines_are_there():
    host = harness.Host([harness.build("big_strings.c")], rate=1)
    host.ready()
    frames = next(s.frames for s in host.profile("heap").samples if s.values[2:] == [1, 1001])
    assert frames[0].function == "hold" and frames[0].line > 0
    assert host.health()["losses"]["symbols_memory_limit"] == 0
