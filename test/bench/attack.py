"""What a program's own clients feel while its admin port is attacked: redis-server's answer times
by redis-benchmark.

Three states, in turn: nobody attacks; a bystander's port is attacked (another program under the
agent: what the attacker itself takes of the machine); redis's own port is attacked. The ratio is
own / bystander.

"stranger": the attacks of test/stranger.py on port, TLS port and tree, all at once, by another
user, alone or while the owner asks for profiles, also CPU profiles, of what is attacked. Three
states, in turn: redis without an agent, and a bystander (a redis under the agent) attacked; redis
with an idle agent, and the bystander attacked; redis with the agent, attacked. The first and the
last tell what an attacked agent costs redis, the last two what the attack costs it. cpu: the time
on a processor of redis's main thread, in us a request. Ratios with their 95 % interval, and how
many pairs. Redis's own threads and redis-benchmark are at nice -20, so that who else has work to do
on the machine, the attacker too, is measured less; the agent's threads are not (thread_manners.c).
Environment: BENCH_ROUNDS.
"""
import contextlib
import csv
import os
import re
import statistics
import subprocess
import sys
import threading
import time

import harness
import redis_load
import test_stranger
import tls_hosts
from comparison import ROUNDS, Interval, Ratios, heading, row, wanted
from process_tree import Port
from test_tls_strangers import client_hello
from tree_strangers import hello_message

LOAD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "attack_load.py")
STATES = ("quiet", "bystander", "own")
RATES = {"attack, 1000 connections a second": 1000, "attack, as fast as one process can": 0}
REQUESTS = 40000
COLUMNS = {"p50": "p50_latency_ms", "p95": "p95_latency_ms", "p99": "p99_latency_ms"}


def latencies(server, **options):
    command = [
        harness.need("redis-benchmark"),
        "-p",
        server.port,
        "-n",
        str(REQUESTS),
        "-c",
        "4",
        "-t",
        "get",
        "--csv",
    ]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL, **options
    )
    fields = next(csv.DictReader(done.stdout.splitlines()))
    return {name: float(fields[column]) for name, column in COLUMNS.items()}


def measure(server, port, rate):
    attacker = port and subprocess.Popen([sys.executable, LOAD, str(port), str(rate)])
    try:
        if attacker:
            time.sleep(0.2)
        found = latencies(server)
        assert not attacker or attacker.poll() is None, "the attacker has ended"
        return found
    finally:
        if attacker:
            attacker.kill()
            attacker.wait()


# ---- everything at once --------------------------------------------------------------------------

STRANGERS = {  # pause after each connection, whether the owner profiles
    "stranger, 1000 connections a second": (0.004, False),
    "stranger, 1000 a second, and profiles": (0.004, True),
    "stranger, as fast as he can, and profiles": (0, True),
}
SCENES = ("plain", "idle", "own")
QUOTIENTS = (("own", "plain"), ("own", "idle"), ("idle", "plain"))
ACTS = ["refused_requests", "silence", "half_requests", "members_flood", "tls", "join_the_tree"]


def go_first():
    os.setpriority(os.PRIO_PROCESS, 0, -20)


class Target:
    """A redis under the agent, with both ports."""

    def __init__(self):
        self.port, log = Port(), os.path.join(harness.scratch(), "log")
        environment = harness.agent_environment(
            address=self.port.address, log=log, extra=tls_hosts.settings()
        )
        self.program = redis_load.Server(environment, affinity=go_first)
        self.pid = self.program.process.pid
        self.port.await_processes([self.pid])
        says = lambda: re.search(r"remote admin on https://\S+:(\d+)/", harness.proc_text(log))
        self.tls_port = int(harness.poll(says, "remote admin").group(1))


@contextlib.contextmanager
def profiled(target):
    ending = threading.Event()

    def ask():
        while not ending.is_set():
            for path in ("profile?seconds=1", "heap", "goroutine?debug=2", "health"):
                target.port.ok(path, target.pid)

    owner = threading.Thread(target=ask)
    owner.start()
    try:
        yield
    finally:
        ending.set()
        owner.join()


def main_thread_seconds(server):
    pid = server.process.pid
    return int(harness.proc_text("/proc/%d/task/%d/schedstat" % (pid, pid)).split()[0]) / 1e9


def under_attack(server, target, hellos, pause, is_profiled):
    owner = profiled(target) if is_profiled else contextlib.nullcontext()
    with owner, test_stranger.stranger(
        port=target.port.number,
        tls_port=target.tls_port,
        pids=[target.pid],
        only=ACTS,
        pause=pause,
        directory="/",
        links={},
        swap=[],
        **hellos
    ) as report:
        time.sleep(0.5)
        before = main_thread_seconds(server)
        found = latencies(server, preexec_fn=go_first)
        found["cpu"] = (main_thread_seconds(server) - before) / REQUESTS * 1e6
    assert not report["violations"] and report["counts"]["answered 403"], report
    return found


def bench_stranger():
    kinds = {name: kind for name, kind in STRANGERS.items() if wanted(name)}
    if not kinds:
        return
    hellos = {"hello": hello_message(), "client_hello": client_hello().hex()}
    own, bystander = Target(), Target()
    plain = redis_load.Server(harness.agent_environment(plain=True), affinity=go_first)
    idle = redis_load.Server(harness.agent_environment(), affinity=go_first)
    scenes = {"plain": (plain, bystander), "idle": (idle, bystander), "own": (own.program, own)}
    try:
        heading("redis GET, 4 clients, ms", *SCENES, *["%s / %s" % pair for pair in QUOTIENTS])
        for name, kind in kinds.items():
            found = {scene: [] for scene in SCENES}
            for number in range(ROUNDS):
                for scene in SCENES[number % 3 :] + SCENES[: number % 3]:
                    found[scene].append(under_attack(*scenes[scene], hellos, *kind))
            for column in [*COLUMNS, "cpu"]:
                values = {scene: [one[column] for one in found[scene]] for scene in SCENES}
                row(
                    "%s: %s" % (name, column),
                    *["%.3f" % statistics.median(values[scene]) for scene in SCENES],
                    *[Interval(Ratios(values[below], values[above])) for above, below in QUOTIENTS]
                )
    finally:
        for each in (own.program, bystander.program, plain, idle):
            each.stop()
        harness.stop_everything()


def bench():
    bench_stranger()
    rates = {name: rate for name, rate in RATES.items() if wanted(name)}
    if not rates:
        return
    ports = {"quiet": 0, "bystander": harness.free_port()}
    ports["own"] = harness.free_port()
    environments = {
        state: harness.agent_environment(address="127.0.0.1:%d" % port)
        for state, port in ports.items()
    }
    server = redis_load.Server(environments["own"], affinity=None)
    bystander = subprocess.Popen(["/bin/sleep", "100000"], env=environments["bystander"])
    try:
        heading("redis GET, 4 clients, ms", *STATES, "own / bystander")
        for name, rate in rates.items():
            found = {state: [] for state in STATES}
            for number in range(ROUNDS):
                for state in STATES[number % 3 :] + STATES[: number % 3]:
                    found[state].append(measure(server, ports[state], rate))
            for column in COLUMNS:
                values = {state: [one[column] for one in found[state]] for state in STATES}
                ratios = [own / other for own, other in zip(values["own"], values["bystander"])]
                low, middle, high = statistics.quantiles(ratios, n=4)
                row(
                    "%s: %s" % (name, column),
                    *["%.3f" % statistics.median(values[state]) for state in STATES],
                    "%.2f (%.2f-%.2f)" % (middle, low, high)
                )
    finally:
        server.stop()
        bystander.kill()
        bystander.wait()
