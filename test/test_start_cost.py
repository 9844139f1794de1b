"""What each exec pays for the library, in numbers that are the same in every run: page faults and
system calls more than with an empty preload, and what the loader relocates. A compiler's run is
over in milliseconds, so it notices them (make bench BENCH=exec has the times)."""
import re
import subprocess

import harness
from differential import empty_preload

# What it took when this was written; a page costs an exec near a microsecond, of some 400.
FAULTS, CALLS = 12, 8  # 8, 8
RELOCATIONS, RELOCATED_PAGES = 920, 5  # 912, 5


def start_cost(preload):
    program = harness.build("start_cost.c", "-O1")
    address = "127.0.0.1:%d" % harness.free_port()
    environment = harness.agent_environment(plain=True, address=address)
    done = subprocess.run([program, preload], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done
    words = done.stdout.split()
    return dict(zip(words[::2], map(int, words[1::2])))


def test_faults_and_calls():
    empty, agent = start_cost(empty_preload()), start_cost(harness.agent())
    more = {name: agent[name] - empty[name] for name in empty}
    harness.note(
        "an exec: %(faults)d page faults and %(calls)d system calls more than with an "
        "empty preload" % more
    )
    assert more["faults"] <= FAULTS and more["calls"] <= CALLS, (empty, agent)


def readelf(option):
    return subprocess.run(
        ["readelf", "-W", option, harness.agent()], capture_output=True, text=True, check=True
    ).stdout


def test_relocations():
    relative = readelf("-r").count(" R_X86_64_RELATIVE ")
    start, size = re.search(r"GNU_RELRO +\S+ +(\S+) +\S+ +\S+ +(\S+)", readelf("-l")).groups()
    first, end = int(start, 16), int(start, 16) + int(size, 16)
    pages = (end + 4095) // 4096 - first // 4096
    harness.note("an exec: %d relocations on %d pages" % (relative, pages))
    assert 0 < relative <= RELOCATIONS and pages <= RELOCATED_PAGES, (relative, pages)
