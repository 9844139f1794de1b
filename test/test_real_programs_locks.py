"""block and mutex profiles of real languages' libraries and packaged programs at work, every wait
recorded: their output and exit codes are their own, each wait stands under its own function with
the time that the program itself measured."""
import collections
import hashlib
import os
import re
import socket
import subprocess
import threading
import time

import harness
from pprof_reader import bare
from test_real_programs_cpu import Load, in_open_directory, unprivileged

EVERY = {"PPROFAGENT_BLOCKPROFILERATE": "1", "PPROFAGENT_MUTEXPROFILEFRACTION": "1"}
MILLISECOND = 1000000
CONDITION = {"pthread_cond_wait", "pthread_cond_timedwait", "pthread_cond_clockwait"}
SEMAPHORE = {"sem_wait", "sem_timedwait", "sem_clockwait"}
LOCKS = SEMAPHORE | {
    "pthread_mutex_lock",
    "pthread_mutex_timedlock",
    "pthread_mutex_clocklock",
    "pthread_rwlock_rdlock",
    "pthread_rwlock_wrlock",
    "pthread_spin_lock",
    "syscall",
}  # a release of which is in the mutex profile
WAITS = (
    LOCKS
    | CONDITION
    | {"pthread_barrier_wait", "pthread_join", "pthread_timedjoin_np", "pthread_clockjoin_np"}
)
RELEASES = {
    "pthread_mutex_unlock",
    "pthread_rwlock_unlock",
    "pthread_spin_unlock",
    "sem_post",
    "syscall",
} | CONDITION


def contention(host, name):
    """The profile, in the form that Go's have, no event lost."""
    profile = host.profile(name)
    assert profile.sample_types == [
        ("contentions", "count"),
        ("delay", "nanoseconds"),
    ], profile.sample_types
    lost = {
        key: count
        for key, count in host.health()["losses"].items()
        if count and key.startswith("contention_lost")
    }
    assert not lost, lost
    leafs = WAITS if name == "block" else RELEASES
    odd = [
        sample
        for sample in profile.samples
        if sample.frames[0].function not in leafs
        or min(sample.values) < 0
        or sample.values == [0, 0]
    ]
    assert not odd, "not a %s event: %s" % (name, odd[:3])
    return profile


def by_pprof(host, name):
    """What the real go tool pprof fetches and prints: {function: (flat, cum) ns}; its total is the
    reader's."""
    text = harness.pprof_clean(
        "-top",
        "-nodecount=2000",
        "-nodefraction=0",
        "-sample_index=delay",
        "-unit=ns",
        host.url(name),
    )
    assert "Type: delay" in text, text[:500]
    rows = {}
    for flat, cum, function in re.findall(
        r"^\s*(-?\d+)(?:ns)?\s+\S+\s+\S+\s+(-?\d+)(?:ns)?\s+\S+\s+(.+)$", text, re.MULTILINE
    ):
        rows[bare(function.replace(" (inline)", ""))] = int(flat), int(cum)
    return rows


def summary(profile):
    leafs = sorted(profile.by_leaf().items(), key=lambda item: -item[1][1])[:6]
    return ", ".join(
        "%s %d x %.0f ms" % (leaf, count, delay / MILLISECOND) for leaf, (count, delay) in leafs
    )


def truths(lines, kind):
    """{function: (leaf, count, ns, ns of it awake)}"""
    fields = [line.split() for line in lines]
    return {
        function: (leaf, int(count), int(delay), int(awake))
        for word, function, leaf, count, delay, awake in fields
        if word == kind
    }


def is_about(seen, delay, awake):
    """3 % and 10 ms; what the waiter was awake, before it slept or after, may have been part of its
    wait or not."""
    tolerance = 0.03 * delay + 10 * MILLISECOND
    return delay - awake - tolerance <= seen <= delay + tolerance


def named(frame, function):
    return bare(frame.function).split("::")[-1] == function


def check_truths(profile, expected):
    """Each function's stacks have its leaf, its count (a futex wait may end for nothing, and is
    then another one) and its time."""
    wrong = []
    for function, (leaf, count, delay, awake) in expected.items():
        if leaf == "-":
            continue
        samples = [
            sample
            for sample in profile.samples
            if any(named(frame, function) for frame in sample.frames)
        ]
        leafs = collections.Counter(sample.frames[0].function for sample in samples)
        seen = [sum(sample.values[index] for sample in samples) for index in (0, 1)]
        good = set(leafs) == {leaf} and is_about(seen[1], delay, awake)
        if not good or (seen[0] < count if leaf == "syscall" else seen[0] != count):
            wrong.append(
                "%s: %d x %s, %.1f ms (%.1f awake); the profile: %d, %.1f ms, %s"
                % (
                    function,
                    count,
                    leaf,
                    delay / 1e6,
                    awake / 1e6,
                    seen[0],
                    seen[1] / 1e6,
                    dict(leafs),
                )
            )
    assert not wrong, "\n".join(wrong)


def check_balance(block, mutex):
    """At rest: releasers are charged with no more than what was waited for locks. The rest is the
    way from a release to the waiter's going on."""
    released, waits = mutex.total(), block.by_leaf()
    waited = [sum(waits[leaf][index] for leaf in LOCKS) for index in (0, 1)]
    assert released[0] <= waited[0] and released[1] <= 1.03 * waited[1] + 10 * MILLISECOND, (
        released,
        waited,
    )


def without_times(lines):
    return [line.rsplit(" ", 2)[0] for line in lines]


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


def converse(port, pipeline, answer_end, answers):
    with socket.create_connection(("127.0.0.1", port), timeout=harness.DEADLINE) as connection:
        connection.sendall(pipeline)
        received = bytearray()
        while received.count(answer_end) < answers:
            piece = connection.recv(1 << 20)
            assert piece, "closed after %d of %d answers" % (received.count(answer_end), answers)
            received += piece
        return bytes(received)


def test_memcached():
    """Four workers that set and read the same few keys."""
    memcached = harness.need("memcached")
    port = harness.free_port()
    host = harness.Host(
        [
            memcached,
            "-t",
            "4",
            "-l",
            "127.0.0.1",
            "-p",
            str(port),
            "-U",
            "0",
            "-u",
            "root" if os.getuid() == 0 else str(os.getuid()),
        ],
        extra=EVERY,
    )

    def answers():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    harness.poll(answers, "memcached answers")
    value, count = b"v" * 900, 3000
    sets = b"".join(
        b"set key%d 0 0 %d\r\n%s\r\n" % (i % 3, len(value), value) for i in range(count)
    )
    gets = b"".join(b"get key%d\r\n" % (i % 3) for i in range(count))

    def load():
        assert converse(port, sets, b"STORED\r\n", count) == b"STORED\r\n" * count
        received = converse(port, gets, b"END\r\n", count)
        assert received == b"".join(
            b"VALUE key%d 0 %d\r\n%s\r\nEND\r\n" % (i % 3, len(value), value) for i in range(count)
        ), received[:200]

    def waited():
        return contention(host, "mutex").by_leaf()["pthread_mutex_unlock"][0] >= 10

    with Load(load), Load(load), Load(load), Load(load):
        harness.poll(waited, "its workers are in each other's way")
    mutex, block = contention(host, "mutex"), contention(host, "block")
    check_balance(block, mutex)
    assert (
        by_pprof(host, "mutex")["pthread_mutex_unlock"][0]
        == mutex.by_leaf()["pthread_mutex_unlock"][1]
        > 0
    )
    assert (
        by_pprof(host, "block")["pthread_mutex_lock"][0]
        >= block.by_leaf()["pthread_mutex_lock"][1]
        > 0
    )
    for profile in (block, mutex):
        outside = [
            sample
            for sample in profile.samples
            if not any(
                frame.mapping and frame.mapping.filename == memcached for frame in sample.frames
            )
        ]
        assert not outside, outside[:3]
    host.process.send_signal(harness.signal.SIGTERM)
    assert host.process.wait(harness.DEADLINE) in (0, -harness.signal.SIGTERM)
    assert "Signal handled" in host.stderr() or host.stderr() == "", host.stderr()
    harness.note("block: " + summary(block))
    harness.note("mutex: " + summary(mutex))


def test_mariadb():
    """Four clients add to one row: they wait for its lock; the server's own latches are futexes."""
    install, server, client = harness.need("mariadb-install-db", "mariadbd", "mariadb")
    become, uid, gid = unprivileged()
    directory = harness.scratch()
    os.chown(directory, uid, gid)
    data, port = os.path.join(directory, "data"), str(harness.free_port())
    done = subprocess.run(
        [
            install,
            "--no-defaults",
            "--datadir=" + data,
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ],
        cwd="/",
        preexec_fn=become,
        capture_output=True,
        text=True,
        timeout=harness.DEADLINE,
    )
    assert done.returncode == 0, done
    host = in_open_directory(
        [
            server,
            "--no-defaults",
            "--datadir=" + data,
            "--port=" + port,
            "--bind-address=127.0.0.1",
            "--pid-file=" + directory + "/pid",
            "--socket=" + directory + "/socket",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-buffer-pool-size=16M",
            "--innodb-log-file-size=4M",
            "--tmpdir=" + directory,
        ],
        become,
        uid,
        stdin=subprocess.DEVNULL,
        extra=EVERY,
    )

    def ask(text):
        return subprocess.run(
            [client, "--no-defaults", "-h", "127.0.0.1", "-P", port, "-u", "root", "-N", "-B"],
            input=text,
            capture_output=True,
            text=True,
            timeout=harness.DEADLINE,
        )

    harness.poll(lambda: ask("select 1;").returncode == 0, "mariadb answers")
    done = ask(
        "create database d; create table d.t (id int primary key, v int) engine=innodb; insert "
        "into d.t values (1, 0);"
    )
    assert done.returncode == 0, done

    def in_four_clients(text):
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(ask(text))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(done.returncode == 0 and not done.stderr for done in answers), answers

    def row_locks():
        """As the server itself counts: how often a thread waited for a row's lock, and ns (it adds
        whole milliseconds)."""
        lines = dict(
            line.split()
            for line in ask("show global status like 'innodb_row_lock_%';").stdout.splitlines()
        )
        return int(lines["Innodb_row_lock_waits"]), int(lines["Innodb_row_lock_time"]) * MILLISECOND

    def waits_in_update():
        """The row's lock is waited for by a condition variable; the binary has no names for what is
        between that and mysql_update."""
        samples = [
            sample
            for sample in contention(host, "block").samples
            if sample.frames[0].function in CONDITION
            and any(bare(frame.function) == "mysql_update" for frame in sample.frames)
        ]
        return [sum(sample.values[index] for sample in samples) for index in (0, 1)]

    def difference(function, text):
        before = function()
        in_four_clients(text)
        return [after - earlier for earlier, after in zip(before, function())]

    update = "update d.t set v = v + 1 where id = 1;"
    server_before = row_locks()
    waits, waited = difference(
        waits_in_update, ("begin; %s do sleep(0.01); commit;\n" % update) * 15
    )
    true_waits, true_time = [after - before for before, after in zip(server_before, row_locks())]
    in_four_clients((update + "\n") * 500)  # short ones: the server's own latches
    assert ask("select v from d.t;").stdout == "%d\n" % (4 * 515)
    mutex, block = contention(host, "mutex"), contention(
        host, "block"
    )  # in this order: waits go on
    assert (
        waits == true_waits > 0
        and abs(waited - true_time) <= 0.03 * true_time + (waits + 10) * MILLISECOND
    ), (waits, waited, true_waits, true_time)
    check_balance(block, mutex)
    for name in ("block", "mutex"):
        assert "mysql_update" in by_pprof(host, name)
    host.process.send_signal(harness.signal.SIGTERM)
    assert host.process.wait(harness.DEADLINE) == 0, host.describe()
    assert "Shutdown complete" in host.stderr() and not re.search(
        r"\[ERROR\]|got signal|Assertion", host.stderr()
    ), host.stderr()
    harness.note(
        "row lock: %d x %.2f s, the server says %d x %.2f s; block: %s"
        % (waits, waited / 1e9, true_waits, true_time / 1e9, summary(block))
    )
    harness.note("mutex: " + summary(mutex))


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
