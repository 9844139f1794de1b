"""CPU profiles of packaged programs at work: their output and exit code are their own, and the
functions known to work are in the profile."""
import collections
import glob
import json
import os
import pwd
import re
import subprocess
import threading

import harness
from pprof_reader import bare

HZ = 250


class Load:
    """Calls a function again and again in a thread of its own, from `with` to its end."""

    def __init__(self, function):
        self.function, self.stopped, self.calls, self.fault = function, False, 0, None
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            while not self.stopped:
                self.function()
                self.calls += 1
        except Exception as fault:
            self.fault = fault

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *unused):
        self.stopped = True
        self.thread.join()
        assert self.fault is None, self.fault


def cpu_profile(host, seconds=3, hz=HZ):
    profile = host.profile(
        "profile?seconds=%d&hz=%d" % (seconds, hz), timeout=harness.DEADLINE + seconds
    )
    assert profile.sample_types == [
        ("samples", "count"),
        ("cpu", "nanoseconds"),
    ], profile.sample_types
    return profile


def whole(profile):
    """The share of the samples whose stack is followed to its end."""
    cut = sum(
        sample.values[0]
        for sample in profile.samples
        if sample.frames[-1].function.startswith("[truncated")
    )
    return 1 - cut / profile.total()[0]


def check(profile, functions, at_least=50, whole_stacks=0.97):
    total = profile.total()[0]
    assert total >= at_least, "only %d samples" % total
    sums = profile.by_function()
    missing = [name for name in functions if sums[name][0] <= 0]
    assert not missing, "not in the profile: %s; there are %s" % (
        missing,
        sorted(sums, key=lambda name: -sums[name][0])[:40],
    )
    garbage = {
        frame.function
        for sample in profile.samples
        for frame in sample.frames
        if frame.mapping is None and not frame.function
    }
    assert not garbage
    for sample in profile.samples:
        assert isinstance(sample.labels["tid"], int) and isinstance(
            sample.labels["thread_name"], str
        ), sample.labels
    assert whole(profile) >= whole_stacks, "%.3f of the stacks are whole; ends: %s" % (
        whole(profile),
        collections.Counter(
            tuple(bare(frame.function) for frame in sample.frames[-4:])
            for sample in profile.samples
        ).most_common(5),
    )
    leafs = sorted(profile.by_leaf().items(), key=lambda item: -item[1][0])[:6]
    harness.note(
        "%d samples, %.1f %% whole; %s"
        % (
            total,
            100 * whole(profile),
            ", ".join("%s %d" % (name or "?", value[0]) for name, value in leafs),
        )
    )


def check_pprof(host, profile_path, function):
    assert function in harness.pprof_clean("-top", "-nodecount=500", profile_path)
    assert function in harness.pprof_clean("-traces", profile_path)
    assert "Type: cpu" in harness.pprof_clean("-top", profile_path)


def test_python_threads():
    python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else harness.need("python3")
    script = (
        "import hashlib, sys, threading, zlib\n"
        "stop, counts = threading.Event(), {}\n"
        "def hashing():\n"
        "    data = b'x' * 1000000\n"
        "    while not stop.is_set(): counts['hash'] = hashlib.sha256(data).hexdigest()\n"
        "def packing():\n"
        "    data = bytes(range(256)) * 4000\n"
        "    while not stop.is_set(): counts['pack'] = len(zlib.compress(data, 9))\n"
        "def counting():\n"
        "    while not stop.is_set(): counts['sum'] = sum(i * i for i in range(20000))\n"
        "threads = [threading.Thread(target=f) for f in (hashing, packing, counting)]\n"
        "for t in threads: t.start()\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "stop.set()\n"
        "for t in threads: t.join()\n"
        "print(sorted(counts.items()))\n"
        "sys.exit(7)\n"
    )
    expected = harness.run([python, "-c", script], stdin=b"\n", plain=True)
    host = harness.Host([python, "-c", script])
    assert host.ready() == []
    profile = cpu_profile(host)
    check(profile, ["_PyEval_EvalFrameDefault", "deflate"])
    busy = collections.Counter()
    for sample in profile.samples:
        busy[sample.labels["tid"]] += sample.values[0]
    assert len([count for count in busy.values() if count > 30]) == 3, busy
    host.go_on()
    assert (
        host.line() == expected.stdout.decode().splitlines()[1]
        and host.finish() == expected.returncode == 7
    )
    assert host.stderr() == ""


def test_redis_with_a_snapshot_under_load():
    server, benchmark, client = harness.need("redis-server", "redis-benchmark", "redis-cli")
    port, directory = str(harness.free_port()), harness.scratch()
    host = harness.Host(
        [server, "--port", port, "--save", "", "--dir", directory, "--bind", "127.0.0.1"]
    )

    def ask(*words):
        return subprocess.run(
            [client, "-p", port] + list(words),
            capture_output=True,
            text=True,
            timeout=harness.DEADLINE,
        ).stdout.strip()

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

    harness.poll(lambda: ask("ping") == "PONG", "redis answers")
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


NODE_SCRIPT = (
    "function fibonacci(n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }\n"
    "const crypto = require('crypto');\n"
    "let stop = false, result = 0;\n"
    "process.stdin.once('data', () => { stop = true; });\n"
    "console.log('ready');\n"
    "function step() { result = fibonacci(24); "
    "crypto.createHash('sha512').update('x'.repeat(300000)).digest();\n"
    "  const kept = []; for (let i = 0; i < 3000; i++) kept.push({text: 'x' + i});\n"
    "  if (stop) { console.log(result); process.exitCode = 9; process.stdin.destroy(); } else "
    "setImmediate(step); }\n"
    "step();\n"
)


def cut_share(profile):
    cut = sum(
        sample.values[0]
        for sample in profile.samples
        if sample.frames[-1].function.startswith("[truncated")
    )
    return cut / profile.total()[0]


def check_node_stacks(profile, named):
    """V8's code keeps frame pointers. named: a map names it."""
    assert cut_share(profile) <= 0.02, cut_share(profile)
    chains = 0
    for sample in profile.samples:
        names = [bare(frame.function) for frame in sample.frames]
        calls = [i for i, name in enumerate(names) if re.search(r"[*~^+]fibonacci ", name)]
        if not named or not calls or names[-1].startswith("[truncated"):
            continue
        # from the innermost fibonacci on there are only others, or calls that are interpreted
        between = [names[i] for i in range(calls[0], calls[-1]) if i not in calls]
        assert all(name.startswith("Builtins_Interpreter") for name in between), names
        assert len(calls) + len(between) <= 26, names
        assert sample.labels["guessed_frames"] > 0
        assert names[-4] == "main" or "node::Start" in names[-4], names
        chains += sample.values[0]
    assert chains > 20 or not named, chains


def test_node():
    node = harness.need("node")
    for options in ([], ["--perf-basic-prof"]):
        directory = harness.scratch()
        argv = [node] + options + ["-e", NODE_SCRIPT]
        expected = harness.run(argv, stdin=b"\n", plain=True, cwd=directory)
        # a sample's copy of the stack lacks what SHA-512 keeps below its stack pointer
        host = harness.Host(argv, cwd=directory, **harness.by_timers())
        assert host.ready() == []
        profile = cpu_profile(host)
        check(profile, [], whole_stacks=0)
        check_node_stacks(profile, named=bool(options))
        host.go_on()
        assert (
            host.line() == expected.stdout.decode().splitlines()[1]
            and host.process.wait(harness.DEADLINE) == expected.returncode == 9
        )
        assert host.stderr().encode() == expected.stderr
        for path in glob.glob("/tmp/perf-%d.map" % host.pid):
            os.unlink(path)


def test_node_profiles_itself_meanwhile():
    """V8's own profiler uses SIGPROF: both get their samples."""
    node = harness.need("node")
    directory = harness.scratch()
    host = harness.Host(
        [node, "--cpu-prof", "--cpu-prof-dir=" + directory, "-e", NODE_SCRIPT], cwd=directory
    )
    assert host.ready() == []
    check(cpu_profile(host), [], whole_stacks=0)
    host.go_on()
    assert (
        host.line() == "46368" and host.process.wait(harness.DEADLINE) == 9 and host.stderr() == ""
    ), host.describe()
    with open(glob.glob(directory + "/*.cpuprofile")[0]) as file:
        theirs = json.load(file)
    assert len(theirs["samples"]) > 500 and any(
        node["callFrame"]["functionName"] == "fibonacci" for node in theirs["nodes"]
    )


JAVA_SOURCE = """
public class Burn {
  static volatile boolean stop;
  static long collatz(long n) { long steps = 0;
    while (n != 1) { n = n % 2 == 0 ? n / 2 : 3 * n + 1; steps++; } return steps; }
  static void work() { long sum = 0; while (!stop) {
    for (int i = 1; i < 5000; i++) sum += collatz(i); String s = "";
    for (int i = 0; i < 300; i++) s += i;
    if (s.length() != 790) throw new Error();
    try { Object o = null; o.hashCode(); } catch (NullPointerException e) { sum++; } } }
  static int depth(int n) { return n + depth(n + 1); }
  public static void main(String[] words) throws Exception {
    Thread[] threads = new Thread[2];
    for (int i = 0; i < 2; i++) { threads[i] = new Thread(Burn::work, "burner-" + i);
      threads[i].start(); }
    System.out.println("ready");
    System.in.read();
    stop = true;
    for (Thread t : threads) t.join();
    try { depth(0); } catch (StackOverflowError e) { System.out.println("overflow caught"); }
    System.gc();
    System.out.println(collatz(27));
    System.exit(11);
  }
}
"""


def test_java():
    """HotSpot handles SIGSEGV in compiled code, has stack guard pages, and no unwind tables for
    what it compiles; its interpreter keeps frame pointers, its compilers only if told to."""
    java, javac = harness.need("java", "javac")
    directory = harness.scratch()
    with open(os.path.join(directory, "Burn.java"), "w") as file:
        file.write(JAVA_SOURCE)
    subprocess.run([javac, "-d", directory, os.path.join(directory, "Burn.java")], check=True)
    for options in ([], ["-Xint"], ["-XX:+PreserveFramePointer"]):
        argv = [java] + options + ["-Xmx256m", "-XX:-UsePerfData", "-cp", directory, "Burn"]
        expected = harness.run(argv, stdin=b"\n", plain=True)
        host = harness.Host(argv)
        assert host.ready(seconds=60) == []
        profile = cpu_profile(host)
        check(profile, [], whole_stacks=0)
        names = collections.Counter()
        for sample in profile.samples:
            names[sample.labels["thread_name"]] += sample.values[0]
        assert names["burner-0"] > 50 and names["burner-1"] > 50, names
        of_a_file = lambda mapping: (
            mapping and mapping.filename.startswith(("/usr", "/lib", "[vdso]"))
        )
        compiled = [sample for sample in profile.samples if not of_a_file(sample.frames[0].mapping)]
        assert len(compiled) > 20, len(compiled)
        for sample in compiled:  # to a thread's start, or cut visibly: nothing in between
            last = sample.frames[-1].function
            assert last.startswith(("[truncated", "clone", "__clone", "_start")), last
        if options:  # else its code uses the frame pointer for something else
            assert cut_share(profile) <= 0.02, (options, cut_share(profile))
        host.go_on()
        assert [host.line(), host.line()] == expected.stdout.decode().splitlines()[
            1:
        ] and host.process.wait(harness.DEADLINE) == 11
        assert host.stderr().encode() == expected.stderr, host.stderr()


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
    host.process.send_signal(harness.signal.SIGQUIT)
    assert host.process.wait(harness.DEADLINE) == 0 and host.stderr() == ""
    with open(os.path.join(directory, "error.log")) as file:
        bad = [line for line in file if re.search(r"\[(alert|emerg|crit|error|warn)\]", line)]
    assert not bad, bad


def postgres_programs():
    places = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not places:
        raise harness.Skip("postgresql is not installed")
    return places[-1]


def unprivileged():
    """postgres refuses to be run by root: (preexec_fn, uid, gid)."""
    if os.getuid() != 0:
        return None, os.getuid(), os.getgid()
    user = pwd.getpwnam("nobody")
    if subprocess.run(
        [
            "setpriv",
            "--reuid=%d" % user.pw_uid,
            "--regid=%d" % user.pw_gid,
            "--clear-groups",
            "test",
            "-r",
            harness.agent(),
        ]
    ).returncode:
        raise harness.Skip("the build directory cannot be read by another user")

    def become():
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)

    return become, user.pw_uid, user.pw_gid


QUERY = "select count(*), sum(length(md5(i::text))) from generate_series(1, 3000000) i;"


def test_postgres():
    """A backend by itself (single-user mode), then a server whose backends are forked from the
    process that is profiled."""
    programs = postgres_programs()
    become, uid, gid = unprivileged()
    directory = harness.scratch()
    os.chown(directory, uid, gid)
    data = os.path.join(directory, "data")
    subprocess.run(
        [programs + "/initdb", "-D", data, "-A", "trust", "-U", "tester", "--no-sync"],
        check=True,
        preexec_fn=become,
        capture_output=True,
        cwd="/",
    )

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
        [
            programs + "/postgres",
            "-D",
            data,
            "-p",
            port,
            "-k",
            "",
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "fsync=off",
        ],
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
    host.process.send_signal(harness.signal.SIGINT)
    assert host.process.wait(harness.DEADLINE) == 0
    assert not re.search("PANIC|terminated by signal|server process", host.stderr()), host.stderr()


def in_open_directory(argv, become, uid, **options):
    """A host that runs as another user and writes its agent's log where that user may."""
    original = harness.scratch

    def open_scratch():
        path = original()
        os.chown(path, uid, -1)
        return path

    harness.scratch = open_scratch
    try:
        return harness.Host(argv, preexec_fn=become, cwd="/", **options)
    finally:
        harness.scratch = original
