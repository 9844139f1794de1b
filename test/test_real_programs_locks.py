"""block and mutex profiles of real languages' libraries and packaged programs at work, every wait
recorded: their output and exit codes are their own, each wait stands under its own function with
the time that the program itself measured."""
import hashlib
import os
import re
import subprocess
import time

import harness
from contention_truth import (
    CONDITION,
    EVERY,
    MILLISECOND,
    SEMAPHORE,
    by_pprof,
    check_balance,
    check_truths,
    contention,
    is_about,
    summary,
    truths,
    without_times,
)


def check_language(program, exit_code, kinds):
    plain = harness.run([program], stdin=b"\n", plain=True)
    host = harness.Host([program], extra=EVERY)
    lines = host.ready()
    assert (
        without_times(lines) == without_times(plain.stdout.decode().splitlines()[:-1])
        and len(lines) == 2 * kinds
    ), (lines, plain)
    mutex, block = contention(host, "mutex"), contention(
        host, "block"
    )  # in this order: waits go on
    check_balance(block, mutex)
    waits, releases = truths(lines, "wait"), truths(lines, "release")
    check_truths(block, waits)
    check_truths(mutex, releases)
    for name, expected in (("block", waits), ("mutex", releases)):
        rows = by_pprof(host, name)
        functions = {function.split("::")[-1]: cum for function, (_, cum) in rows.items()}
        for function, (leaf, _, delay, awake) in expected.items():
            assert leaf == "-" or is_about(functions.get(function, 0), delay, awake), (
                name,
                function,
                delay,
                awake,
                functions,
            )
    host.go_on()
    assert (
        host.finish() == plain.returncode == exit_code and host.stderr().encode() == plain.stderr
    ), host.describe()
    harness.note("block: " + summary(block))
    harness.note("mutex: " + summary(mutex))
    return block, mutex


def test_cxx20():
    harness.need("g++")
    program = harness.build("reallock_cxx20.cc", "-std=c++20", "-O2")
    check_language(program, 5, 14)


def test_rust():
    harness.need("rustc")
    block, mutex = check_language(harness.build("reallock_rust.rs"), 6, 9)
    for profile in (block, mutex):
        names = {frame.function for sample in profile.samples for frame in sample.frames}
        assert not [
            name
            for name in names
            if name.startswith(("_ZN", "_R")) or re.search(r"::h[0-9a-f]{16}\b", name)
        ], names
    assert mutex.stacks_with("reallock_rust::release_mutex")
    waits = block.stacks_with("reallock_rust::by_mutex")
    assert any("::lock" in frame for stack in waits for frame in stack), waits


PYTHON_SCRIPT = """
import sys, threading, time
now = time.monotonic
go, semaphore, spans, results = threading.Event(), [], [], {}
def queued():
    with open('/proc/thread-self/schedstat') as file: return int(file.read().split()[1]) / 1e9
def work(number):
    start = now()
    go.wait()
    began, before = now(), queued()
    semaphore.append(began - start)
    total = 0
    for i in range(5000000): total = (total * 31 + i + number) % 1000003
    results[number] = total
    spans.append((began, now(), queued() - before))
threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
for t in threads: t.start()
time.sleep(0.3)
go.set()
start = now()
for t in threads: t.join()
semaphore.append(now() - start)
print(sorted(results.items()))
alone = max(end for _, end, _ in spans) - min(start for start, _, _ in spans)
held = sum(end - start for start, end, _ in spans)
print(held - alone, sum(span[2] for span in spans), sum(semaphore))
print('ready', flush=True)
sys.stdin.readline()
sys.exit(7)
"""


def test_python_threads():
    """Who has not got the GIL waits for a condition variable, 5 ms at a time, but for what it
    queues for a processor in between; join, Event and their like are semaphores."""
    python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else harness.need("python3")
    plain = harness.run([python, "-c", PYTHON_SCRIPT], stdin=b"\n", plain=True)
    host = harness.Host([python, "-c", PYTHON_SCRIPT], extra=EVERY)
    results, times = host.ready()
    gil, queued, semaphores = (float(field) * 1e9 for field in times.split())
    mutex, block = contention(host, "mutex"), contention(
        host, "block"
    )  # in this order: waits go on
    check_balance(block, mutex)
    seen = block.by_leaf()
    waited = sum(seen[leaf][1] for leaf in CONDITION)
    assert abs(waited - gil) <= 0.03 * gil + 100 * MILLISECOND + queued, (
        waited / 1e9,
        gil / 1e9,
        queued / 1e9,
    )
    slept = sum(seen[leaf][1] for leaf in SEMAPHORE)
    assert abs(slept - semaphores) <= 0.03 * semaphores + 100 * MILLISECOND + queued, (
        slept / 1e9,
        semaphores / 1e9,
    )
    in_python = sum(
        sample.values[1]
        for sample in block.samples
        if sample.frames[0].function in CONDITION
        and any(frame.function == "_PyEval_EvalFrameDefault" for frame in sample.frames)
    )
    assert in_python > 0.9 * waited, (in_python, waited)
    rows = by_pprof(host, "block")
    assert (
        abs(sum(rows[leaf][0] for leaf in CONDITION if leaf in rows) - waited) <= 0.01 * waited
    ), rows
    by_pprof(host, "mutex")
    host.go_on()
    assert (
        results == plain.stdout.decode().splitlines()[0]
        and host.finish() == plain.returncode == 7
        and host.stderr() == ""
    )
    harness.note(
        "GIL %.2f s, seen %.2f s, queued %.2f s; semaphores %.2f s, seen %.2f s; mutex: %s"
        % (gil / 1e9, waited / 1e9, queued / 1e9, semaphores / 1e9, slept / 1e9, summary(mutex))
    )


def text_to_pack(megabytes):
    """The same bytes each time, neither constant nor noise."""
    words = [hashlib.sha256(b"%d" % i).hexdigest()[: 3 + i % 9].encode() for i in range(4096)]
    state, pieces, size = 1, [], 0
    while size < megabytes << 20:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        pieces.append(words[(state >> 33) & 4095])
        size += len(pieces[-1]) + 1
    return b" ".join(pieces)


def check_packer(argv, unpack, function):
    """Its input comes by a pipe that stays open until the profile has been taken: its threads have
    then waited for work, and for each other."""
    data = text_to_pack(12)
    plain = harness.run(argv, stdin=data, plain=True)
    assert plain.returncode == 0 and len(plain.stdout) < len(data)
    output = os.path.join(harness.scratch(), "output")
    start = time.monotonic()
    with open(output, "wb") as file:
        host = harness.Host(argv, stdout=file, extra=EVERY)
    host.process.stdin.write(data)
    host.process.stdin.flush()

    def waited():
        block = contention(host, "block")
        return block if sum(block.by_leaf()[leaf][0] for leaf in CONDITION) >= 2 else None

    block = harness.poll(waited, "threads that have waited")
    mutex = contention(host, "mutex")
    rows = by_pprof(host, "block")
    by_pprof(host, "mutex")
    threads, seconds = len(os.listdir("/proc/%d/task" % host.pid)), time.monotonic() - start
    total = block.total()[1]
    assert 0 < total < threads * seconds * 1e9, (total, threads, seconds)
    assert function in block.by_function() and function in rows, sorted(block.by_function())
    assert host.finish() == 0 and host.stderr().encode() == plain.stderr
    with open(output, "rb") as file:
        packed = file.read()
    assert (
        packed == plain.stdout
        and subprocess.run(unpack, input=packed, capture_output=True).stdout == data
    )
    harness.note("block: " + summary(block))
    harness.note("mutex: " + (summary(mutex) or "nobody was in another's way"))


def test_xz():
    xz = harness.need("xz")
    check_packer([xz, "-T2", "-1", "--block-size=1MiB", "-c"], [xz, "-dc"], "lzma_code")


def test_zstd():
    zstd = harness.need("zstd")
    check_packer([zstd, "-T2", "-9", "-c", "-q"], [zstd, "-dc", "-q"], "pthread_cond_wait")
