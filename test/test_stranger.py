"""Everything at once: redis as root under the agent, with remote admin; a stranger's uid keeps
silent, floods, sends halves and garbage, joins, squats, plants links and files and swaps
directories, and runs hostile programs; the owner profiles all the while and starts processes whose
log and socket lie where the stranger may write. Twenty seconds; SOAK=1: ten minutes, and how long
the owner waited."""
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import threading
import time

import harness
import process_tree
import tls_hosts
from process_tree import Port, Process
from test_access import OTHER, as_user, readable_by_all
from test_costly_names import RUST, pack, program_with
from test_planted_files import given_to
from test_planted_paths import shared_directory
from test_tls_strangers import client_hello
from tree_strangers import hello_message

SECONDS = 600 if os.environ.get("SOAK") else 20
BLOCK = 40961
# docs/security.md: the server's 14, remote admin's, a CPU profile's; 64 who wait for TLS, 16 who
# have it (two each), 32 strangers, 40 who wait for the server, and what the agent has open itself
THREADS_MAX, DESCRIPTORS_MAX, MEMORY_MAX = 16, 200, 64 << 20
STRANGER = os.path.join(harness.TEST_DIRECTORY, "stranger.py")


def agent_threads(pid):
    comm = "/proc/%d/task/%d/comm"
    return [
        tid for tid in harness.tasks(pid) if harness.proc_text(comm % (pid, tid)) == "pprofagent\n"
    ]


class Watch(threading.Thread):
    """The most that the agent of a process has at a time."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.ending = pid, threading.Event()
        self.threads = self.descriptors = 0

    def run(self):
        while not self.ending.wait(0.05):
            with contextlib.suppress(OSError):  # a thread, or a failed test's process, has ended
                threads = agent_threads(self.pid)
                self.threads = max(self.threads, len(threads))
                held = os.listdir("/proc/%d/task/%d/fd" % (self.pid, threads[0]))
                self.descriptors = max(self.descriptors, len(held))


class Scene:
    """Root's processes on one port, and what lies where the stranger may write."""

    def __init__(self):
        process_tree.run_as_root()
        self.shared = shared_directory()
        self.own = harness.scratch()
        self.port, self.latencies, self.most_memory = Port(), [], 0
        self.redis_port = str(harness.free_port())
        self.precious = {name: os.path.join(self.own, name) for name in ("first", "second")}
        for path in self.precious.values():
            with open(path, "w") as file:
                file.write("of root\n")
        self.before = {path: os.stat(path) for path in self.precious.values()}
        self.start_redis()
        self.start_victim()
        self.start_hostile()
        self.pids = [self.redis.pid, self.victim.pid, self.hostile.pid]
        self.port.await_processes(self.pids)

    def start_redis(self):
        server = harness.need("redis-server")
        self.redis = harness.Host(
            [server, "--port", self.redis_port, "--save", "", "--bind", "127.0.0.1"],
            address=self.port.address,
            extra=tls_hosts.settings(),
            cwd=self.own,
        )
        harness.poll(lambda: self.ask("ping") == "PONG", "redis answers")
        self.tls_port = tls_hosts.tls_port(self.redis)
        self.port.await_processes([self.redis.pid])

    def start_victim(self):
        """Its functions are named in its debug file only, and that is the stranger's."""
        program = os.path.join(self.shared, "victim")
        shutil.copy(process_tree.build(), program)
        debug = program + ".debug"
        run = lambda *words: subprocess.run(words, check=True, capture_output=True)  # noqa: E731
        run("objcopy", "--only-keep-debug", program, debug)
        run("strip", program)
        run("objcopy", "--add-gnu-debuglink=" + debug, program)
        with open(debug, "rb") as file:
            contents = file.read()
        with open(debug, "wb") as file:
            file.write(contents.replace(b"own_block", b"evil_name"))
        given_to(OTHER, debug)
        self.victim = VictimProcess(program, self.port)
        assert self.victim.do("alloc:%d" % BLOCK) == self.victim.pid

    def start_hostile(self):
        """Root runs what a stranger has built; and he runs it himself, at the same address."""
        self.names = [RUST] + [pack(40, "f%d" % i) for i in range(60)] + ["_Z5plainm"]
        program = program_with(self.names)
        self.hostile = harness.Host([program], rate=1, address=self.port.address)
        self.hostile.ready()
        tables = harness.build("hostile_tables.c", "-O1", "-fno-optimize-sibling-calls")
        directory = readable_by_all(program, tables, harness.agent())
        mine = lambda path: os.path.join(directory, os.path.basename(path))  # noqa: E731
        extra = {"LD_PRELOAD": mine(harness.agent())}
        self.strangers_own = [
            harness.Host(
                [mine(path), *words],
                rate=1,
                address=self.port.address,
                extra=extra,
                preexec_fn=as_user(OTHER),
                cwd="/",
            )
            for path, words in ((program, ()), (tables, ("offset",)), (tables, ("elsewhere",)))
        ]
        for host in self.strangers_own:
            host.ready()

    def ask(self, *words):
        command = [harness.need("redis-cli"), "-p", self.redis_port, *words]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    # ---- the owner ----

    def timed(self, what, function, *arguments, beyond=0):
        started = time.monotonic()
        answer = function(*arguments)
        self.latencies.append((time.monotonic() - started - beyond, what))
        return answer

    def profile_everything(self):
        pid, port = self.redis.pid, self.port
        heap = self.timed("heap", port.profile, "heap", pid)
        assert heap.total()[3] > 0 and "main" in heap.by_function(), "redis's heap"
        cpu = self.timed("profile", port.profile, "profile?seconds=1", pid, beyond=1)
        assert [kind for kind, _ in cpu.sample_types] == ["samples", "cpu"], cpu.sample_types
        dump = self.timed("goroutine", port.ok, "goroutine?debug=2", pid)
        assert b"\ngoroutine %d [" % pid in b"\n" + dump and b"main(" in dump, dump[:1000]
        health = json.loads(self.timed("health", port.ok, "health", pid))
        assert health["process"]["pid"] == pid, health["process"]
        memory = health["agent"]["memory_bytes"]["total"]
        assert memory < MEMORY_MAX, health["agent"]
        self.most_memory = max(self.most_memory, memory)
        found = self.timed("list", port.processes)
        assert set(found) == set(self.pids), found
        block = self.timed("victim", port.profile, "heap", self.victim.pid)
        found = [each for each in block.samples if each.labels.get("bytes") == BLOCK]
        assert [each.values[2:] for each in found] == [[1, BLOCK]], found
        assert not {"own_block", "evil_name"} & set(block.by_function()), block.by_function()
        costly = self.timed("hostile", port.profile, "heap", self.hostile.pid)
        names = {s.frames[0].function for s in costly.samples if s.labels.get("bytes") == 1001}
        assert names == set(self.names[:-1]) | {"plain(unsigned long)"}, names
        assert self.timed("remote", tls_hosts.get, self.tls_port).startswith(b"/")

    def start_where_he_may_write(self):
        """One whose log and socket have his links and directories on their way."""
        log = os.path.join(self.shared, "next.log")
        socket = "unix:%s/of_stranger/run/agent.sock" % self.shared
        host = harness.Host(
            [harness.build("guest.c", "-O1"), "wait"], address=socket, extra={"PPROFAGENT_LOG": log}
        )
        host.ready()
        assert host.finish() == 0, host.describe()

    def check_files(self):
        for path, before in self.before.items():
            now = os.stat(path)
            assert open(path).read() == "of root\n", path
            assert (now.st_mtime_ns, now.st_size, now.st_ino, now.st_uid) == (
                before.st_mtime_ns,
                before.st_size,
                before.st_ino,
                before.st_uid,
            ), path
        his = os.path.join(self.shared, "of_stranger")
        for directory, names, files in os.walk(his):
            for name in names + files:
                assert os.lstat(os.path.join(directory, name)).st_uid == OTHER, (directory, name)


class VictimProcess(Process):
    def __init__(self, program, port):
        harness.Host.__init__(self, [program], rate=1, address=port.address)
        self.pid = self.done()


@contextlib.contextmanager
def stranger(**aim):
    """Gives a dictionary, in which his report is afterwards."""
    directory = readable_by_all(STRANGER)
    path = os.path.join(directory, "aim.json")
    with open(path, "w") as file:
        json.dump(aim, file)
    os.chmod(path, 0o644)
    report = {}
    command = [harness.need("python3"), os.path.join(directory, "stranger.py"), path]
    process = subprocess.Popen(
        command,
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=as_user(OTHER),
        env={"PATH": os.environ["PATH"]},
    )
    try:
        assert process.stdout.readline() == b"ready\n"
        yield report
        out, _ = process.communicate(timeout=harness.DEADLINE)
        report.update(json.loads(out))
    finally:
        process.kill()
        process.communicate()
        for pid in aim["pids"]:  # he has not, if he was killed
            with contextlib.suppress(FileNotFoundError):
                os.unlink("/tmp/perf-%d.map" % pid)


@contextlib.contextmanager
def load(port):
    """redis has something to do."""
    command = [
        harness.need("redis-benchmark"),
        "-p",
        port,
        "-t",
        "set,get,lpush",
        "-r",
        "1000",
        "-n",
        "20000",
        "-l",
        "-q",
    ]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def aim_at(scene):
    his = os.path.join(scene.shared, "of_stranger")
    for path in (his, os.path.join(his, "run"), os.path.join(his, "other")):
        os.mkdir(path)
        given_to(OTHER, path)
    first, second = scene.precious.values()
    return {
        "port": scene.port.number,
        "tls_port": scene.tls_port,
        "pids": scene.pids,
        "hello": hello_message(),
        "client_hello": client_hello().hex(),
        "directory": his,
        "links": {
            "../next.log": first,
            "../next.log.1": second,
            "other/agent.sock": second,
            "run/agent.sock": first,
        },
        "swap": ["run", "other"],
    }


def test_everything_at_once():
    started, scene = time.monotonic(), Scene()
    program_descriptors = lambda: sorted(
        harness.proc_links("/proc/%d/task/%d/fd" % (scene.redis.pid, scene.redis.pid))  # noqa: E731
    )
    idle = len(agent_threads(scene.redis.pid))
    descriptors = program_descriptors()
    watch = Watch(scene.redis.pid)
    watch.start()
    with load(scene.redis_port), stranger(**aim_at(scene)) as report:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            scene.profile_everything()
            scene.start_where_he_may_write()
    watch.ending.set()
    watch.join()
    assert not report["violations"], report
    assert report["counts"]["answered 403"] > 0 and report["counts"]["planted"] > 0, report
    assert report["counts"]["tree"] > 0, report
    scene.check_files()
    assert watch.threads <= THREADS_MAX and watch.descriptors <= DESCRIPTORS_MAX, vars(watch)
    for host in (scene.redis, scene.victim, scene.hostile, *scene.strangers_own):
        assert host.process.poll() is None, host.describe()
    harness.poll(lambda: len(agent_threads(scene.redis.pid)) <= max(idle, 2), "the server's end")
    harness.poll(lambda: program_descriptors() == descriptors, "redis has what it had")
    slowest = max(scene.latencies)
    harness.note("%s" % report["counts"])
    harness.note(
        "the owner: %d answers, all right, the slowest %.2f s (%s); at most %d threads, "
        "%d descriptors, %.1f MB"
        % (
            len(scene.latencies),
            *slowest,
            watch.threads,
            watch.descriptors,
            scene.most_memory / (1 << 20),
        )
    )
    if os.environ.get("SOAK"):
        late = sorted(each for each in scene.latencies if each[0] > 2)
        harness.note("longer than 2 s: %d of %d%s" % (len(late), len(scene.latencies), late[-3:]))
        for what in sorted({what for _, what in scene.latencies}):
            took = [seconds for seconds, which in scene.latencies if which == what]
            harness.note(
                "%s: first %.2f s, median %.2f s, slowest %.2f s"
                % (what, took[0], statistics.median(took), max(took))
            )
    lines = len(scene.redis.log().splitlines())
    assert lines < 100 + 1.5 * (time.monotonic() - started), lines  # 100, and one a second
    assert scene.ask("ping") == "PONG"
