"""Real services are many processes: each is listed on the one port and has its own profiles, and
the service does what it does without the agent."""
import hashlib
import os
import signal

import harness
from packaged_programs import Load
from packaged_trees import await_list
from pprof_reader import Profile
from process_tree import Port, is_gone
from test_real_programs import large_source


# ---- python, in the manner of gunicorn -----------------------------------------------------------

PREFORK = r"""
import multiprocessing, os, sys
def work(n):
    return sum(i * i % 7 for i in range(n))
if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    blocks = bytearray(30_000_001)
    with context.Pool(3) as pool:
        print("ready", flush=True)
        results = []
        while sys.stdin.readline():
            results.append(pool.map(work, [400_000 + n for n in range(6)], 1))
            print(os.getpid(), flush=True)
    print(results[0], all(one == results[0] for one in results))
"""


def test_python_worker_pool():
    python = harness.need("python3")
    port = Port()
    expected = (
        harness.run([python, "-c", PREFORK], stdin=b"\n\n", plain=True)
        .stdout.splitlines()[-1]
        .decode()
    )
    host = harness.Host([python, "-c", PREFORK], address=port.address, rate=65536)
    host.ready()
    found = await_list(port, lambda now: len(now) == 4, "the pool")
    workers = [pid for pid in found if pid != host.pid]
    assert all(
        found[pid]["parent"] == host.pid and found[pid]["threads"] == 1 for pid in workers
    ), found

    def one_round():
        host.go_on()
        assert host.line() == str(host.pid)

    with Load(one_round):
        for pid in workers:
            port.await_samples([pid], "_PyEval_EvalFrameDefault")
    for pid in found:
        assert (
            max(sample.values[3] for sample in port.profile("heap", pid).samples) == 30_000_002
        ), pid  # the bytearray and its NUL, in each
    host.process.stdin.close()
    assert (
        host.line() == expected
        and expected.endswith("True")
        and host.process.wait(harness.DEADLINE) == 0
        and host.stderr() == ""
    )


# ---- make, shells --------------------------------------------------------------------------------


def test_make_j2():
    make, gcc = harness.need("make", "gcc")
    directory = harness.scratch()
    for name in ("a", "b", "c"):
        large_source(os.path.join(directory, name + ".c"), 90)
    with open(os.path.join(directory, "Makefile"), "w") as file:
        file.write(
            "all: a.o b.o c.o\n\tcat a.o b.o c.o | cksum\n%%.o: %%.c\n\t%s -O2 -w -c $< -o $@\n"
            % gcc
        )
    command = [make, "-j2", "-C", directory]

    def sorted_lines(output):  # which of two compilers starts first is chance
        return sorted(output.splitlines())

    expected = harness.run(command, plain=True)
    assert expected.returncode == 0, expected
    for name in ("a", "b", "c"):
        os.unlink(os.path.join(directory, name + ".o"))
    port = Port()
    host = harness.Host(command, address=port.address)
    found = await_list(
        port,
        lambda now: len([1 for entry in now.values() if entry["name"] == "cc1"]) == 2,
        "two compilers at once",
    )
    for pid in [pid for pid, entry in found.items() if entry["name"] == "cc1"]:
        driver = found[pid]["parent"]
        assert found[driver]["name"] == "gcc" and found[found[driver]["parent"]]["name"] in (
            "make",
            "sh",
        ), found

        def has_compiled():
            status, _, body = port.get("heap", pid)
            assert status == 200 or is_gone(pid) or status == 503, (status, body)
            return status == 200 and Profile(body).total()[3] > 1 << 20 or is_gone(pid)

        harness.poll(has_compiled, "a compiler's heap")
    output = host.process.stdout.read()
    assert host.process.wait(harness.DEADLINE) == 0 and host.stderr() == expected.stderr.decode()
    assert sorted_lines(output) == sorted_lines(expected.stdout), (output, expected.stdout)


def test_bash_pipeline():
    bash = harness.need("bash")
    port, directory = Port(), harness.scratch()
    fifo = os.path.join(directory, "input")
    os.mkfifo(fifo)
    host = harness.Host(
        [
            bash,
            "-c",
            "set -o pipefail; cat %s | tr a-z A-Z | (sort -r; echo end) | md5sum; echo "
            "${PIPESTATUS[@]}" % fifo,
        ],
        address=port.address,
        rate=1,
    )
    lines = sorted(("line %d of the text" % (n * 7919 % 1000)).upper() for n in range(1000))
    with open(fifo, "w") as file:
        file.write("\n".join(lines[:500]).lower() + "\n")
        file.flush()
        found = await_list(
            port,
            lambda now: {"bash", "cat", "tr", "sort", "md5sum"}
            <= {entry["name"] for entry in now.values()},
            "every part",
        )
        subshell = [
            entry
            for entry in found.values()
            if entry["name"] == "bash" and entry["pid"] != host.pid
        ]
        assert len(found) == 6 and [entry["parent"] for entry in subshell] == [
            host.pid
        ], found  # the parentheses: forked, not exec'd
        for pid, entry in found.items():
            assert port.ok("goroutine?debug=2", pid).startswith(
                b"# pid %d comm %s" % (pid, entry["name"].encode())
            )
            assert port.profile("heap", pid).total()[0] > 0
        file.write("\n".join(lines[500:]).lower() + "\n")
    digest = hashlib.md5(
        "".join(line + "\n" for line in lines[::-1] + ["end"]).encode()
    ).hexdigest()
    assert host.process.stdout.read().decode() == "%s  -\n0 0 0 0\n" % digest
    assert host.process.wait(harness.DEADLINE) == 0 and host.stderr() == ""


def test_daemon_by_libc():
    """memcached -d: daemon(3), which is not fork() to an interposer; its threads are born in the
    child."""
    program = harness.need("memcached")
    port, listen, directory = Port(), harness.free_port(), harness.scratch()
    os.chmod(directory, 0o777)
    pid_path = os.path.join(directory, "pid")
    done = harness.run(
        [program, "-d", "-u", "nobody", "-l", "127.0.0.1", "-p", str(listen), "-P", pid_path],
        address=port.address,
        rate=65536,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), done
    daemon = int(
        harness.poll(lambda: os.path.exists(pid_path) and open(pid_path).read().strip(), "its pid")
    )
    try:
        found = await_list(port, lambda now: set(now) == {daemon}, "the daemon alone")
        assert found[daemon]["threads"] > 4 and found[daemon]["holder"], found
        assert port.profile("heap", daemon).total()[3] > 1 << 20  # its hash table
        created = port.profile("threadcreate", daemon).total()[0]
        assert created >= found[daemon]["threads"] - 1, (created, found)
    finally:
        os.kill(daemon, signal.SIGTERM)
    harness.poll(lambda: is_gone(daemon), "its end")
