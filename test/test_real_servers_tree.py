"""Servers of many processes: each is listed on the one port and has its own profiles, and the
server does what it does without the agent."""
import contextlib
import os
import re
import signal
import subprocess

import harness
from packaged_programs import (
    Load,
    postgres_data,
    postgres_programs,
    postgres_server,
    redis_client,
    unprivileged,
)
from packaged_trees import await_list, functions, having
from process_tree import Port, is_gone


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
    port, listen, data = Port(), str(harness.free_port()), postgres_data(become, uid, gid)
    host = harness.Host(
        postgres_server(data, listen),
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
    server, benchmark = harness.need("redis-server", "redis-benchmark")
    port, listen, directory = Port(), str(harness.free_port()), harness.scratch()
    host = harness.Host(
        [server, "--port", listen, "--save", "", "--dir", directory, "--bind", "127.0.0.1"],
        rate=4096,
        address=port.address,
    )

    ask = redis_client(listen)
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
