"""Packaged programs under the agent: their output and exit code are their own, functions known to
allocate are in the profile, and every view of the real `go tool pprof` works without a warning."""
import os
import random
import re
import signal
import subprocess

import harness
from packaged_programs import redis_client

RATE = 8192


def saved(host, name):
    """The profile of now, in a file."""
    path = os.path.join(host.directory, name)
    status, _, body = host.get("heap")
    assert status == 200 and body
    with open(path, "wb") as file:
        file.write(body)
    return path


def check_profile(host, functions):
    """Each word of `functions` names a function that must have bytes in the profile, somewhere on a
    stack."""
    sums = host.profile("allocs").by_function()
    missing = [name for name in functions if sums[name][1] <= 0]
    most = sorted(sums.items(), key=lambda item: -item[1][1])[:25]
    assert not missing, "not in the profile: %s; there are: %s" % (
        missing,
        [name for name, _ in most],
    )


def check_pprof(host, base, function):
    """-top, -traces, -diff_base, -svg of the live program and of a saved file, and the web page of
    pprof in a browser."""
    url = host.url("heap")
    top = harness.pprof_clean(
        "-top", "-nodecount=500", "-sample_index=alloc_space", host.url("allocs")
    )
    assert re.search(r"\b%s\b" % re.escape(function), top), "%s is not in\n%s" % (
        function,
        top[:3000],
    )
    assert function in harness.pprof_clean("-traces", "-sample_index=alloc_space", url)
    assert "Type: inuse_space" in harness.pprof_clean("-top", url)
    assert "Type:" in harness.pprof_clean("-top", "-diff_base", base, url)
    assert "flat%" in harness.pprof_clean("-top", "-base", base, saved(host, "later.pb.gz"))
    harness.need("dot")
    picture = os.path.join(host.directory, "graph.svg")
    harness.pprof_clean("-svg", "-sample_index=alloc_space", "-output", picture, url)
    with open(picture) as file:
        assert "<svg" in file.read()
    with harness.pprof_web(saved(host, "web.pb.gz")) as (page, errors):
        document, console = harness.dom(page + "ui/?si=alloc_space")
        assert 'id="graph0"' in document and 'class="node"' in document, document[:2000]
        nodes = re.findall(r"<title>([^<]+)</title>", document)
        assert len(nodes) > 5, nodes
        document, _ = harness.dom(page + "ui/top?si=alloc_space")
        assert function in document, "%s is not on pprof's top page" % function
        assert not console, console
        assert not [
            line for line in errors().splitlines() if line and not line.startswith("Serving web UI")
        ], errors()


def check_silent(host):
    """Neither a word on stderr nor a loss."""
    assert host.stderr() == "", host.stderr()
    assert "stacks_truncated_memory" not in harness.losses(host.health())


def test_redis_server():
    server, benchmark = harness.need("redis-server", "redis-benchmark")
    port = str(harness.free_port())
    host = harness.Host(
        [server, "--port", port, "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"],
        rate=RATE,
    )

    ask = redis_client(port)
    base = saved(host, "base.pb.gz")
    done = subprocess.run(
        [
            benchmark,
            "-p",
            port,
            "-n",
            "40000",
            "-r",
            "20000",
            "-d",
            "200",
            "-P",
            "16",
            "-t",
            "set,get,lpush,sadd",
            "-q",
        ],
        capture_output=True,
        text=True,
        timeout=harness.DEADLINE * 2,
    )
    assert done.returncode == 0 and done.stdout.count("requests per second") >= 4, done
    assert int(ask("dbsize")) > 10000 and int(ask("llen", "mylist")) == 40000
    check_profile(
        host,
        [
            "main",
            "aeMain",
            "processCommand",
            "call",
            "setCommand",
            "pushGenericCommand",
            "setGenericCommand",
        ],
    )
    live = host.profile("heap").by_function()["processMultibulkBuffer"]
    assert live[3] > 10000 * 150, (
        "processMultibulkBuffer (the values that were set) holds %s" % live
    )
    check_pprof(host, base, "setCommand")
    assert ask("shutdown", "nosave") == "" and host.process.wait(harness.DEADLINE) == 0
    assert host.stderr() == ""


def test_redis_fork_for_a_snapshot():
    """BGSAVE forks under load: the child writes a good dump and ends well."""
    server, benchmark = harness.need("redis-server", "redis-benchmark")
    port, directory = str(harness.free_port()), harness.scratch()
    host = harness.Host(
        [server, "--port", port, "--save", "", "--dir", directory, "--bind", "127.0.0.1"], rate=512
    )

    ask = redis_client(port)
    subprocess.run(
        [benchmark, "-p", port, "-n", "30000", "-r", "30000", "-P", "16", "-t", "set", "-q"],
        check=True,
        capture_output=True,
    )
    for _ in range(3):
        assert ask("bgsave") == "Background saving started"
        harness.poll(
            lambda: "rdb_bgsave_in_progress:0" in ask("info", "persistence"), "bgsave ends"
        )
        assert "rdb_last_bgsave_status:ok" in ask("info", "persistence")
    assert os.path.getsize(os.path.join(directory, "dump.rdb")) > 100000
    host.profile("heap")


def test_sqlite_million_inserts():
    sqlite = harness.need("sqlite3")
    script = (
        "create table t(a integer primary key, b text);\n"
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000000) insert "
        "into t select i, 'row ' || i from n;\n"
        "create index u on t(b);\nselect count(*), sum(length(b)) from t;\n.print ready\n"
    ).encode()
    expected = harness.run([sqlite, ":memory:"], stdin=script, plain=True)
    host = harness.Host([sqlite, ":memory:"], rate=RATE)
    base = saved(host, "base.pb.gz")
    host.process.stdin.write(script)
    host.process.stdin.flush()
    lines = host.ready()
    assert "\n".join(lines + ["ready", ""]) == expected.stdout.decode(), (lines, expected)
    check_profile(host, ["sqlite3_step", "sqlite3_prepare_v2"])
    live = host.profile("heap").total()
    assert 30 << 20 < live[3] < 200 << 20, live
    check_pprof(host, base, "sqlite3_step")
    check_silent(host)
    assert host.finish() == expected.returncode


def test_python_json_churn():
    python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else harness.need("python3")
    script = (
        "import json, sys\n"
        "kept = []\n"
        "for i in range(60):\n"
        "    text = json.dumps([{'key %d' % n: [n, str(n) * 20, {'x': n / 3}]} for n in "
        "range(2000)])\n"
        "    kept.append(json.loads(text)) if i % 10 == 0 else json.loads(text)\n"
        "print(len(kept), len(text), flush=True)\n"
        "big = [bytearray(100000) for _ in range(100)]\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print('bye', file=sys.stderr)\n"
        "sys.exit(7)\n"
    )
    expected = harness.run([python, "-c", script], plain=True)
    host = harness.Host([python, "-c", script], rate=RATE)
    lines = host.ready()
    base = saved(host, "base.pb.gz")
    assert lines + ["ready"] == expected.stdout.decode().splitlines()
    check_profile(host, ["_PyEval_EvalFrameDefault", "Py_BytesMain", "PyByteArray_Resize"])
    live = host.profile("heap").by_function()["PyByteArray_Resize"]
    assert 9 << 20 < live[3] < 11 << 20, live
    check_pprof(host, base, "_PyEval_EvalFrameDefault")
    assert host.finish() == expected.returncode == 7
    assert host.stderr().encode() == expected.stderr == b"bye\n"


def test_nginx_in_the_foreground():
    nginx, curl = harness.need("nginx", "curl")
    port, directory = harness.free_port(), harness.scratch()
    os.chmod(directory, 0o755)
    with open(os.path.join(directory, "index.html"), "w") as file:
        file.write("<p>hello from nginx</p>\n" * 1000)
    configuration = os.path.join(directory, "nginx.conf")
    with open(configuration, "w") as file:
        file.write(
            "daemon off; master_process off; worker_processes 1; pid %(d)s/pid; error_log "
            "%(d)s/error.log;\n"
            "events { worker_connections 256; }\n"
            "http { access_log off; gzip on; client_body_temp_path %(d)s/b; proxy_temp_path "
            "%(d)s/p;\n"
            "fastcgi_temp_path %(d)s/f; uwsgi_temp_path %(d)s/u; scgi_temp_path %(d)s/s;\n"
            "server { listen 127.0.0.1:%(port)d; root %(d)s; } }\n" % {"d": directory, "port": port}
        )
    host = harness.Host([nginx, "-c", configuration, "-p", directory], rate=512)
    url = "http://127.0.0.1:%d/" % port

    def fetch(*options):
        return subprocess.run(
            [curl, "-s"] + list(options) + [url], capture_output=True, timeout=harness.DEADLINE
        ).stdout

    harness.poll(lambda: fetch(), "nginx answers")
    base = saved(host, "base.pb.gz")
    for _ in range(50):
        assert len(fetch("--compressed")) == 24 * 1000
    check_profile(host, ["main", "ngx_alloc", "ngx_create_pool", "ngx_init_cycle"])
    check_pprof(host, base, "ngx_alloc")
    check_silent(host)
    host.process.send_signal(signal.SIGQUIT)
    assert host.process.wait(harness.DEADLINE) == 0
    with open(os.path.join(directory, "error.log")) as file:
        bad = [line for line in file if re.search(r"\[(alert|emerg|crit|error|warn)\]", line)]
    assert not bad, bad


def large_source(path, functions):
    """C that keeps gcc -O2 busy: many functions with loops, switches and calls of one another; with
    warnings, for stderr."""
    generator = random.Random(2)
    with open(path, "w") as file:
        file.write(
            "#include <stdio.h>\n#include <string.h>\nstruct s { int a[16]; struct s *next; };\n"
        )
        for n in range(functions):
            numbers = [generator.randrange(1, 1000) for _ in range(6)]
            file.write(
                "int f%d(struct s *p, int n) {\n  int t = %d, unused%d;\n"
                "  for (int i = 0; i < n; i++) {\n" % (n, numbers[0], n)
            )
            file.write("    switch ((i * %d + t) %% 7) {\n" % numbers[1])
            for case in range(6):
                file.write(
                    "    case %d: t += p->a[(i + %d) & 15] * %d; break;\n"
                    % (case, numbers[case], numbers[5 - case])
                )
            file.write(
                "    default: t ^= %s; p = p->next ? p->next : p;\n    }\n"
                % ("f%d(p, i / 2)" % generator.randrange(n) if n else "1")
            )
            file.write("    memcpy(p->a, p->a + 8, 32);\n  }\n  return t;\n}\n")


def test_gcc_on_a_large_file():
    """The driver's children inherit the agent; stdout, stderr and the object file are byte for byte
    those of a run without."""
    gcc = harness.need("gcc")
    directory = harness.scratch()
    source, target = os.path.join(directory, "large.c"), os.path.join(directory, "large.o")
    large_source(source, 400)
    results = []
    for options in ({"plain": True}, {"rate": None}, {"rate": 4096}):
        done = harness.run(
            [gcc, "-O2", "-g", "-Wall", "-v", "-save-temps=obj", "-c", source, "-o", target],
            cwd=directory,
            timeout=300,
            **options
        )
        stderr = re.sub(rb"/tmp/cc\w+", b"/tmp/ccX", done.stderr)
        with open(target, "rb") as file:
            results.append((done.returncode, done.stdout, stderr, file.read()))
        os.unlink(target)
    assert results[0][0] == 0 and len(results[0][3]) > 100000
    assert results[0] == results[1] == results[2], [
        result[:2] + (result[2][-300:], len(result[3])) for result in results
    ]
    cc1 = subprocess.run(
        [gcc, "-print-prog-name=cc1"], capture_output=True, text=True
    ).stdout.strip()
    large_source(source, 3000)
    preprocessed = os.path.join(directory, "large.i")
    subprocess.run([gcc, "-E", source, "-o", preprocessed], check=True)
    host = harness.Host(
        [
            cc1,
            "-quiet",
            "-O2",
            "-fpreprocessed",
            preprocessed,
            "-o",
            os.path.join(directory, "large.s"),
        ],
        rate=RATE,
    )
    harness.poll(lambda: host.profile("allocs").total()[1] > 100 << 20, "cc1 has allocated 100 MB")
    base = saved(host, "base.pb.gz")
    check_profile(host, ["main", "xmalloc"])
    harness.pprof_clean("-top", base)
    harness.pprof_clean("-traces", base)


def test_jq():
    jq = harness.need("jq")
    text = (
        "[%s]\n"
        % ",".join(
            '{"id": %d, "name": "name %d", "tags": ["a", "b%d"]}' % (n, n, n) for n in range(40000)
        )
    ).encode()
    argv = [jq, "--unbuffered", "-r", "[.[] | select(.id % 2 == 0) | .name] | length, \"ready\""]
    expected = harness.run(argv, stdin=text, plain=True)
    host = harness.Host(argv, rate=RATE)
    base = saved(host, "base.pb.gz")
    host.process.stdin.write(text)
    host.process.stdin.flush()
    assert host.ready() == expected.stdout.decode().splitlines()[:-1] == ["20000"]
    check_profile(host, ["jv_mem_alloc", "jv_parser_next"])
    check_pprof(host, base, "jv_mem_alloc")
    check_silent(host)
    assert host.finish() == expected.returncode == 0


def check_own_program(program, code, functions, shown):
    expected = harness.run([program], stdin=b"\n", plain=True)
    host = harness.Host(
        [program], rate=512
    )  # its main allocates some 17 KB: at 8192 one run in eight would not see it
    lines = host.ready()
    base = saved(host, "base.pb.gz")
    assert lines + ["ready"] == expected.stdout.decode().splitlines()
    check_profile(host, functions)
    check_pprof(host, base, shown)
    check_silent(host)
    assert host.finish() == expected.returncode == code


def test_cxx_stl_and_threads():
    check_own_program(
        harness.build("stl_threads.cc", "-std=c++17", "-O2"),
        3,
        ["inventory::catalogue::insert", "main"],
        "inventory::catalogue::insert",
    )


def test_rust():
    check_own_program(
        harness.build("shelves.rs", "-O"),
        5,
        ["shelves::fill_shelves", "shelves::make_shapes", "shelves::main", "main"],
        "shelves::fill_shelves",
    )
