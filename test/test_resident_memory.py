"""What resident memory consists of, of a program that made each kind of it by the megabyte."""
import re

import harness

MB = 1 << 20
# What else there is: the program and its libraries, the agent's tables and its buffers.
USUAL = {
    "brk_heap": 1,
    "arenas": 1,
    "anonymous": 6,
    "shared": 0.1,
    "file_pages": 6,
    "file_copies": 1,
    "stacks": 0.3,
}


def test_each_kind():
    host = harness.Host(
        [harness.build("resident.c", "-O1")], extra={"GLIBC_TUNABLES": "glibc.malloc.arena_max=8"}
    )
    made = {line.split()[0]: int(line.split()[1]) for line in host.ready()}
    assert set(made) == set(USUAL)
    memory = host.health()["resident_memory"]
    assert memory["fault"] is None and memory["coarse_because"] is None
    for kind, size in made.items():
        assert size * MB <= memory[kind] <= (size + USUAL[kind]) * MB, (
            kind,
            size,
            memory[kind] / MB,
        )
    kinds = list(USUAL) + ["other"]
    assert sum(memory[kind] for kind in kinds) == memory["total"]
    status = harness.proc_text("/proc/%d/status" % host.pid)
    resident = int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) * 1024
    assert abs(memory["total"] - resident) < 4 * MB, (memory["total"], resident)
    page = host.text("")
    assert "Why is resident memory larger than the heap?" in page
    for title in (
        "first area",
        "further arenas",
        "Stacks",
        "Copies of files",
        "Shared memory",
        "Heap in use, by the profile",
        "mallinfo2",
        "Together",
    ):
        assert title in page, title
    assert host.finish() == 0


def test_packaged_program():
    program = "import sys; x = b'1' * (50 << 20); print('ready', flush=True); sys.stdin.read()"
    host = harness.Host([harness.need("python3"), "-c", program])
    host.ready()
    memory = host.health()["resident_memory"]
    assert memory["anonymous"] >= 50 * MB and memory["file_pages"] > MB, memory
    assert host.finish() == 0


def test_the_first_thread_has_ended():
    """What /proc/PID shows of it is empty then."""
    host = harness.Host(
        [harness.build("blocked_and_running.c", "-O1", "-fno-optimize-sibling-calls"), "alone"]
    )
    host.ready()

    def has_ended():
        return harness.proc_text("/proc/%d/stat" % host.pid).split()[2] == "Z"

    harness.poll(has_ended, "the first thread's end")
    memory = host.health()["resident_memory"]
    assert memory["fault"] is None and memory["file_pages"] > MB, memory
