"""What a program's own clients feel while its admin port is attacked: redis-server's answer times by redis-benchmark.

Three states, in turn: nobody attacks; a bystander's port is attacked (another program under the agent: what the attacker itself takes of
the machine); redis's own port is attacked. The ratio is own / bystander.
Environment: BENCH_ROUNDS.
"""
import csv
import os
import statistics
import subprocess
import sys
import time

import harness
import redis_load
from comparison import ROUNDS, heading, row, wanted

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


def bench():
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

