"""Real services are many processes: each is listed on the one port and has its own profiles, and
the service does what it does without the agent."""
import contextlib
import hashlib
import os
import re
import signal
import subprocess

import harness
from pprof_reader import Profile
from process_tree import Port, is_gone
from test_real_programs import large_source
from test_real_programs_cpu import Load, postgres_programs, unprivileged


def await_list(port, condition, what):
    """The list {pid: entry} of which the condition holds, every process having answered."""

    def look():
        found = port.processes()
        return (
            found
            if found and all(entry["answered"] for entry in found.values()) and condition(found)
            else None
        )

    try:
        return harness.poll(look, what)
    except AssertionError as error:
        raise AssertionError("%s; there are %s" % (error, port.processes())) from None


def having(found, words):
    """Pids whose command has the words, in order."""
    return [pid for pid, entry in found.items() if words in entry["command"]]


def functions(profile):
    return profile.by_function()


# ---- nginx ---------------------------------------------------------------------------------------


def test_nginx_master_workers_reload_and_binary_upgrade():
    nginx, curl = harness.need("nginx", "curl")
    port, listen, directory = Port(), harness.free_port(), harness.scratch()
    os.chmod(directory, 0o755)
    with open(os.path.join(directory, "index.html"), "w") as file:
        file.write(
            "".join(
                "<p>paragraph %d of a page, %x</p>\n" % (n, n * 2654435761 % 1000003)
                for n in range(6000)
            )
        )
    with open(os.path.join(directory, "index.html"), "rb") as file:
        page = file.read()
    configuration, pid_path = os.path.join(directory, "nginx.conf"), os.path.join(directory, "pid")
    with open(configuration, "w") as file:
        # nginx clears its environment for the new binary but for what `env` names.
        file.write(
            "%(user)s daemon on; worker_processes 2; pid %(d)s/pid; error_log %(d)s/error.log;\n"
            "env LD_PRELOAD; env PPROFAGENT_ADDR; env PPROFAGENT_MEMPROFILERATE;\n"
            "events { worker_connections 256; }\n"
            "http { access_log off; gzip on; gzip_comp_level 9; client_body_temp_path %(d)s/b; "
            "proxy_temp_path %(d)s/p;\n"
            "fastcgi_temp_path %(d)s/f; uwsgi_temp_path %(d)s/u; scgi_temp_path %(d)s/s;\n"
            "server { listen 127.0.0.1:%(port)d; root %(d)s; } }\n"
            % {"d": directory, "port": listen, "user": "user www-data;" if os.getuid() == 0 else ""}
        )

    def fetch():
        done = subprocess.run(
            [curl, "-sS", "--compressed"] + ["http://127.0.0.1:%d/" % listen] * 20,
            capture_output=True,
            timeout=harness.DEADLINE,
        )
        assert done.stdout == page * 20 and not done.stderr, (
            done.returncode,
            done.stderr,
            len(done.stdout),
        )

    def one_master_two_workers(found, not_these=()):
        return (
            len(having(found, "nginx: master")) == 1
            and len(having(found, "nginx: worker")) == len(found) - 1 == 2
            and not set(not_these) & set(found)
        )

    done = harness.run(
        [nginx, "-c", configuration, "-p", directory], address=port.address, rate=512
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), done
    with open(pid_path) as file:
        master = int(file.read())
    try:
        gave_up_root = lambda found: os.getuid() != 0 or all(
            found[pid]["uid"] != 0 for pid in having(found, "nginx: worker")
        )
        found = await_list(
            port,
            lambda now: one_master_two_workers(now) and gave_up_root(now),
            "the master and its workers",
        )
        workers = having(found, "nginx: worker")
        assert having(found, "nginx: master") == [master] and all(
            found[pid]["parent"] == master for pid in workers
        ), found
        assert found[master]["uid"] == os.getuid(), found
        with Load(fetch) as load:
            port.await_samples(
                workers, "ngx_process_events_and_timers"
            )  # which of the two takes a connection is the kernel's choice
        assert load.calls > 1
        for pid in (master, *workers):
            heap = functions(port.profile("heap", pid))
            assert heap["ngx_init_cycle"][3] > 0 and (heap["ngx_spawn_process"][3] > 0) == (
                pid != master
            ), (
                pid,
                sorted(heap),
            )  # inherited; a worker's own

        os.kill(master, signal.SIGHUP)
        found = await_list(
            port, lambda now: one_master_two_workers(now, workers), "new workers, the old ones gone"
        )
        assert having(found, "nginx: master") == [master]
        fetch()
        workers = having(found, "nginx: worker")

        os.kill(master, signal.SIGUSR2)
        found = await_list(
            port,
            lambda now: len(having(now, "nginx: master")) == 2
            and len(having(now, "nginx: worker")) == 4,
            "two generations",
        )
        new_master = next(pid for pid in having(found, "nginx: master") if pid != master)
        assert found[new_master]["parent"] == master
        os.kill(master, signal.SIGQUIT)
        found = await_list(
            port,
            lambda now: one_master_two_workers(now, [master] + workers),
            "the new generation alone",
        )
        assert having(found, "nginx: master") == [new_master]
        fetch()
        os.kill(new_master, signal.SIGQUIT)
        harness.poll(lambda: not os.path.exists(pid_path) and is_gone(new_master), "its end")
        assert port.processes() == {}
    finally:
        for name in ("pid", "pid.oldbin"):  # they are there as long as the masters are
            with contextlib.suppress(OSError, ValueError), open(
                os.path.join(directory, name)
            ) as file:
                os.kill(int(file.read()), signal.SIGTERM)
    with open(os.path.join(directory, "error.log")) as file:
        bad = [line for line in file if re.search(r"\[(alert|emerg|crit|error|warn)\]", line)]
    assert not bad, bad


# ---- postgres ------------------------------------------------------------------------------------


def test_postgres_backends_come_and_go():
    programs = postgres_programs()
    become, uid, gid = unprivileged()
    port, listen, directory = Port(), str(harness.free_port()), harness.scratch()
    os.chown(directory, uid, gid)
    data = os.path.join(directory, "data")
    subprocess.run(
        [programs + "/initdb", "-D", data, "-A", "trust", "-U", "tester", "--no-sync"],
        check=True,
        preexec_fn=become,
        capture_output=True,
        cwd="/",
    )
    host = harness.Host(
        [
            programs + "/postgres",
            "-D",
            data,
            "-p",
            listen,
            "-k",
            "",
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "fsync=off",
        ],
        preexec_fn=become,
        cwd="/",
        stdin=subprocess.DEVNULL,
        address=port.address,
        rate=65536,
    )

    def client(program, *options):
        return subprocess.run(
            [programs + "/" + program, "-h", "127.0.0.1", "-p", listen, "-U", "tester"]
            + list(options)
            + ["postgres"],
            capture_output=True,
            text=True,
            timeout=harness.DEADLINE,
        )

    harness.poll(lambda: client("pgbench", "-n", "-i", "-q").returncode == 0, "postgres answers")
    idle = await_list(
        port, lambda now: len(now) > 3 and not having(now, "tester"), "the server's own processes"
    )
    assert all(
        entry["parent"] == host.pid and entry["uid"] == uid
        for pid, entry in idle.items()
        if pid != host.pid
    ), idle
    assert having(idle, "postgres: checkpointer") and having(idle, "postgres: walwriter"), idle

    def bench():  # two backends, which then go
        done = client("pgbench", "-n", "-S", "-c", "2", "-t", "3000")
        assert done.returncode == 0 and "number of failed transactions: 0" in done.stdout, done

    query = "select count(*), sum(length(md5(i::text))) from generate_series(1, 5000000) i;"
    asking = subprocess.Popen(
        [
            programs + "/psql",
            "-h",
            "127.0.0.1",
            "-p",
            listen,
            "-U",
            "tester",
            "-At",
            "-c",
            query,
            "template1",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        with Load(bench):
            found = await_list(
                port,
                lambda now: len(having(now, "postgres: tester postgres")) == 2
                and having(now, "tester template1"),
                "backends at work",
            )
            (busy,) = having(found, "tester template1")
            profile = functions(port.profile("profile?seconds=1", busy))
        assert (
            0 < profile["standard_ExecutorRun"][0] <= profile["PostmasterMain"][0]
            and found[busy]["parent"] == host.pid
        ), profile
        said, _ = asking.communicate(timeout=harness.DEADLINE)
        assert said == "5000000|160000000\n", said
    finally:
        asking.kill()
        asking.wait()
    await_list(port, lambda now: not having(now, "tester"), "the backends' end")
    assert functions(port.profile("heap", host.pid))["PostmasterMain"][3] > 0
    host.process.send_signal(signal.SIGINT)
    assert host.process.wait(harness.DEADLINE) == 0
    assert not re.search("PANIC|terminated by signal|server process", host.stderr()), host.stderr()
    assert port.processes() == {}


# ---- redis ---------------------------------------------------------------------------------------


def test_redis_snapshot_child():
    server, benchmark, client = harness.need("redis-server", "redis-benchmark", "redis-cli")
    port, listen, directory = Port(), str(harness.free_port()), harness.scratch()
    host = harness.Host(
        [server, "--port", listen, "--save", "", "--dir", directory, "--bind", "127.0.0.1"],
        rate=4096,
        address=port.address,
    )

    def ask(*words):
        return subprocess.run(
            [client, "-p", listen] + list(words),
            capture_output=True,
            text=True,
            timeout=harness.DEADLINE,
        ).stdout.strip()

    harness.poll(lambda: ask("ping") == "PONG", "redis answers")
    subprocess.run(
        [
            benchmark,
            "-p",
            listen,
            "-n",
            "30000",
            "-r",
            "30000",
            "-d",
            "300",
            "-P",
            "16",
            "-t",
            "set",
            "-q",
        ],
        check=True,
        capture_output=True,
    )
    keys = int(ask("dbsize"))
    for _ in range(2):
        assert (
            ask("config", "set", "rdb-key-save-delay", "1000") == "OK"
        )  # microseconds a key: the child stays until it is looked at
        assert ask("bgsave") == "Background saving started"
        found = await_list(port, lambda now: len(now) == 2, "the child")
        child = next(pid for pid in found if pid != host.pid)
        assert (
            found[child]["parent"] == host.pid
            and "redis-rdb-bgsave" in found[child]["name"] + found[child]["command"]
        ), found
        assert "rdbSaveRio" in port.ok("goroutine?debug=2", child).decode()
        values = [
            functions(port.profile("heap", pid))["processMultibulkBuffer"][3]
            for pid in (host.pid, child)
        ]
        assert min(values) > keys * 250, (values, keys)  # its copy of the data, whole
        os.kill(child, signal.SIGUSR1)  # redis's own way to end it
        await_list(port, lambda now: set(now) == {host.pid}, "its end")
        harness.poll(
            lambda: "rdb_bgsave_in_progress:0" in ask("info", "persistence"), "redis sees its end"
        )
    assert ask("config", "set", "rdb-key-save-delay", "0") == "OK"
    assert ask("bgsave") == "Background saving started"
    harness.poll(lambda: "rdb_bgsave_in_progress:0" in ask("info", "persistence"), "bgsave ends")
    assert (
        "rdb_last_bgsave_status:ok" in ask("info", "persistence")
        and os.path.getsize(os.path.join(directory, "dump.rdb")) > keys * 300
    )
    assert (
        ask("shutdown", "nosave") == ""
        and host.process.wait(harness.DEADLINE) == 0
        and host.stderr() == ""
    )


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
