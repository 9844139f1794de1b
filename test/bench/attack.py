"""What a program's own clients feel while its admin port is attacked: redis-server's answer times by redis-benchmark.

Three states, in turn: nobody attacks; a bystander's port is attacked (another program under the agent: what the attacker itself takes of
the machine); redis's own port is attacked. The ratio is own / bystander.

"stranger": the attacks of test/stranger.py on port, TLS port and tree, all at once, by another user, while the owner asks for profiles, also
CPU profiles, of what is attacked. Three states, in turn: redis without an agent, and a bystander (a redis under the agent) attacked and
profiled; redis with an idle agent, and the bystander attacked and profiled; redis with the agent, attacked and profiled. The first and the last tell what an attacked agent
costs redis, the last two what the attack costs it.
Environment: BENCH_ROUNDS.
"""
import contextlib
import csv
import os
import statistics
import subprocess
import sys
import threading
import time

import harness
import redis_load
import test_stranger
import test_tls
from comparison import ROUNDS, Ratios, heading, row, wanted
from process_tree import Port
from test_tls_strangers import client_hello
from test_tree_hazards import hello_message

LOAD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "attack_load.py")
STATES = ("quiet", "bystander", "own")
RATES = {"attack, 1000 connections a second": 1000, "attack, as fast as one process can": 0}
COLUMNS = {"p50": "p50_latency_ms", "p95": "p95_latency_ms", "p99": "p99_latency_ms"}


def latencies(server):
    command = [harness.need("redis-benchmark"), "-p", server.port, "-n", "40000", "-c", "4", "-t", "get", "--csv"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
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


# ---- everything at once ----------------------------------------------------------------------------------------------------

STRANGERS = {"stranger, 1000 connections a second": 0.004, "stranger, as fast as Python goes": 0}
SCENES = ("plain", "idle", "own")
ACTS = ["refused_requests", "silence", "half_requests", "members_flood", "tls", "join_the_tree"]


class Target:
    """A program under the agent with both ports."""

    def __init__(self, start):
        self.port, log = Port(), os.path.join(harness.scratch(), "log")
        self.program = start(harness.agent_environment(address=self.port.address, log=log, extra=test_tls.settings()))
        self.pid = self.program.process.pid
        self.log = lambda: harness.proc_text(log)
        self.port.await_processes([self.pid])

    def tls_port(self):
        return int(harness.poll(lambda: [line.rsplit(":", 1)[1].split("/")[0] for line in self.log().splitlines()
                                         if "remote admin on" in line], "remote admin")[0])


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


def under_attack(server, target, hellos, pause):
    with profiled(target), test_stranger.stranger(
            port=target.port.number, tls_port=target.tls_port(), pids=[target.pid], only=ACTS, pause=pause, directory="/", links={},
            swap=[], **hellos) as report:
        time.sleep(0.5)
        found = latencies(server)
    assert not report["violations"] and report["counts"]["answered 403"], report
    return found


def bench_stranger():
    pauses = {name: pause for name, pause in STRANGERS.items() if wanted(name)}
    if not pauses:
        return
    hellos = {"hello": hello_message(), "client_hello": client_hello().hex()}
    own, bystander = [Target(lambda environment: redis_load.Server(environment, affinity=None)) for _ in range(2)]
    plain = redis_load.Server(harness.agent_environment(plain=True), affinity=None)
    idle = redis_load.Server(harness.agent_environment(), affinity=None)
    scenes = {"plain": (plain, bystander), "idle": (idle, bystander), "own": (own.program, own)}
    try:
        heading("redis GET, 4 clients, ms", *SCENES, "own / plain", "own / idle", "idle / plain")
        for name, pause in pauses.items():
            found = {scene: [] for scene in SCENES}
            for number in range(ROUNDS):
                for scene in SCENES[number % 3:] + SCENES[:number % 3]:
                    found[scene].append(under_attack(*scenes[scene], hellos, pause))
            for column in COLUMNS:
                values = {scene: [one[column] for one in found[scene]] for scene in SCENES}
                row("%s: %s" % (name, column), *["%.3f" % statistics.median(values[scene]) for scene in SCENES],
                    *[Ratios(values[a], values[b]) for a, b in (("plain", "own"), ("idle", "own"), ("plain", "idle"))])
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
    environments = {state: harness.agent_environment(address="127.0.0.1:%d" % port) for state, port in ports.items()}
    server = redis_load.Server(environments["own"], affinity=None)
    bystander = subprocess.Popen(["/bin/sleep", "100000"], env=environments["bystander"])
    try:
        heading("redis GET, 4 clients, ms", *STATES, "own / bystander")
        for name, rate in rates.items():
            found = {state: [] for state in STATES}
            for number in range(ROUNDS):
                for state in STATES[number % 3:] + STATES[:number % 3]:
                    found[state].append(measure(server, ports[state], rate))
            for column in COLUMNS:
                values = {state: [one[column] for one in found[state]] for state in STATES}
                ratios = [own / other for own, other in zip(values["own"], values["bystander"])]
                low, middle, high = statistics.quantiles(ratios, n=4)
                row("%s: %s" % (name, column), *["%.3f" % statistics.median(values[state]) for state in STATES],
                    "%.2f (%.2f-%.2f)" % (middle, low, high))
    finally:
        server.stop()
        bystander.kill()
        bystander.wait()

