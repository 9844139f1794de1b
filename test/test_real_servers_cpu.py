"""CPU profiles of packaged servers under load: redis, nginx, postgres."""
import os
import re
import signal
import subprocess

import harness
from packaged_programs import (
    Load,
    check,
    cpu_profile,
    in_open_directory,
    postgres_data,
    postgres_programs,
    postgres_server,
    redis_client,
    unprivileged,
)


def test_redis_with_a_snapshot_under_load():
    server, benchmark = harness.need("redis-server", "redis-benchmark")
    port, directory = str(harness.free_port()), harness.scratch()
    host = harness.Host(
        [server, "--port", port, "--save", "", "--dir", directory, "--bind", "127.0.0.1"]
    )

    ask = redis_client(port)

    def load():
        subprocess.run(
            [
                benchmark,
                "-p",
                port,
                "-n",
                "20000",
                "-r",
                "20000",
                "-d",
                "100",
                "-P",
                "16",
                "-t",
                "set,get,lpush",
                "-q",
            ],
            check=True,
            capture_output=True,
            timeout=harness.DEADLINE,
        )

    load()
    saves = []

    def save():
        assert ask("bgsave") == "Background saving started"
        harness.poll(
            lambda: "rdb_bgsave_in_progress:0" in ask("info", "persistence"), "bgsave ends"
        )
        saves.append("rdb_last_bgsave_status:ok" in ask("info", "persistence"))

    with Load(load) as loading, Load(save):
        profile = cpu_profile(host, seconds=6)
    assert saves and all(saves) and loading.calls, (saves, loading.calls)
    check(
        profile,
        ["main", "aeMain", "readQueryFromClient", "processCommand", "rdbSaveBackground", "fork"],
    )
    assert not [
        sample
        for sample in profile.samples
        if "rdbSaveRio" in [frame.function for frame in sample.frames]
    ], "a child's samples"
    path = os.path.join(host.directory, "cpu.pb.gz")
    _, _, body = host.get("profile?seconds=1")
    with open(path, "wb") as file:
        file.write(body)
    harness.pprof_clean("-top", path)
    assert os.path.getsize(os.path.join(directory, "dump.rdb")) > 100000
    assert ask("shutdown", "nosave") == "" and host.process.wait(harness.DEADLINE) == 0
    assert host.stderr() == "", host.stderr()


def test_nginx_under_load():
    nginx, curl = harness.need("nginx", "curl")
    port, directory = harness.free_port(), harness.scratch()
    os.chmod(directory, 0o755)
    with open(os.path.join(directory, "index.html"), "w") as file:
        file.write(
            "".join(
                "<p>paragraph %d of a page, %x</p>\n" % (n, n * 2654435761 % 1000003)
                for n in range(6000)
            )
        )
    configuration = os.path.join(directory, "nginx.conf")
    with open(configuration, "w") as file:
        file.write(
            "daemon off; master_process off; pid %(d)s/pid; error_log %(d)s/error.log;\n"
            "events { worker_connections 256; }\n"
            "http { access_log off; gzip on; gzip_comp_level 6; client_body_temp_path %(d)s/b; "
            "proxy_temp_path %(d)s/p;\n"
            "fastcgi_temp_path %(d)s/f; uwsgi_temp_path %(d)s/u; scgi_temp_path %(d)s/s;\n"
            "server { listen 127.0.0.1:%(port)d; root %(d)s; } }\n" % {"d": directory, "port": port}
        )
    host = harness.Host([nginx, "-c", configuration, "-p", directory])
    url = "http://127.0.0.1:%d/" % port
    size = os.path.getsize(os.path.join(directory, "index.html"))

    def fetch():
        done = subprocess.run(
            [curl, "-s", "--compressed"] + [url] * 20, capture_output=True, timeout=harness.DEADLINE
        )
        assert len(done.stdout) == size * 20, done

    harness.poll(
        lambda: subprocess.run([curl, "-s", "-o", "/dev/null", url]).returncode == 0,
        "nginx answers",
    )
    with Load(fetch) as load:
        profile = cpu_profile(host)
    assert load.calls
    check(profile, ["main", "ngx_single_process_cycle", "ngx_process_events_and_timers", "deflate"])
    host.process.send_signal(signal.SIGQUIT)
    assert host.process.wait(harness.DEADLINE) == 0 and host.stderr() == ""
    with open(os.path.join(directory, "error.log")) as file:
        bad = [line for line in file if re.search(r"\[(alert|emerg|crit|error|warn)\]", line)]
    assert not bad, bad


QUERY = "select count(*), sum(length(md5(i::text))) from generate_series(1, 3000000) i;"


def test_postgres():
    """A backend by itself (single-user mode), then a server whose backends are forked from the
    process that is profiled."""
    programs = postgres_programs()
    become, uid, gid = unprivileged()
    data = postgres_data(become, uid, gid)
    argv = [
        programs + "/postgres",
        "--single",
        "-D",
        data,
        "-c",
        "dynamic_shared_memory_type=mmap",
        "postgres",
    ]
    expected = harness.run(
        argv, stdin=(QUERY + "\n").encode(), preexec_fn=become, plain=True, cwd="/"
    )
    assert expected.returncode == 0 and b"3000000" in expected.stdout, expected
    host = in_open_directory(argv, become, uid)
    host.process.stdin.write((QUERY + "\n").encode() * 3)
    host.process.stdin.flush()
    profile = cpu_profile(host)
    check(profile, ["PostgresMain", "standard_ExecutorRun", "md5_text"], whole_stacks=0.95)
    host.process.stdin.close()
    output = host.process.stdout.read()
    assert host.process.wait(harness.DEADLINE * 2) == 0 and output.count(b"3000000") == 3, (
        output,
        host.describe(),
    )

    port = str(harness.free_port())
    host = in_open_directory(
        postgres_server(data, port),
        become,
        uid,
        stdin=subprocess.DEVNULL,
    )

    def bench(*options):
        return subprocess.run(
            [programs + "/pgbench", "-h", "127.0.0.1", "-p", port, "-U", "tester", "-n"]
            + list(options)
            + ["postgres"],
            capture_output=True,
            text=True,
            timeout=harness.DEADLINE,
        )

    harness.poll(lambda: bench("-i", "-q").returncode == 0, "postgres answers")

    def connect_and_ask():  # a backend is forked for each transaction
        done = bench("-C", "-c", "4", "-t", "10")
        assert done.returncode == 0 and "number of failed transactions: 0" in done.stdout, done

    with Load(connect_and_ask) as load:
        profile = cpu_profile(host, seconds=4)
    assert load.calls > 1
    check(
        profile, ["PostmasterMain"], at_least=5, whole_stacks=0.9
    )  # it forks with all signals blocked: those ticks come afterwards
    host.process.send_signal(signal.SIGINT)
    assert host.process.wait(harness.DEADLINE) == 0
    assert not re.search("PANIC|terminated by signal|server process", host.stderr()), host.stderr()
