"""A redis-server under load, measured by its own CPU time (all threads, so those of an agent
too)."""
import os
import signal
import subprocess

import harness

REQUESTS = 300000
LOADS = {
    "set": ["-t", "set", "-r", "10000", "-d", "64"],
    "get": ["-t", "get", "-r", "10000"],
    "lpush": ["-t", "lpush", "-d", "64"],
}


def on_core(number):
    """A preexec_fn: the servers on one core, the load on another, so that they do not move
    about."""
    return lambda: os.sched_setaffinity(0, {number % (os.cpu_count() or 1)})


class Server:
    def __init__(self, environment, affinity=on_core(0)):
        self.port = str(harness.free_port())
        self.process = subprocess.Popen(
            [
                harness.need("redis-server"),
                "--port",
                self.port,
                "--save",
                "",
                "--appendonly",
                "no",
                "--bind",
                "127.0.0.1",
            ],
            env=environment,
            preexec_fn=affinity,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        harness.poll(lambda: self.ask("ping") == "PONG", "redis answers")
        self.microseconds_a_request("set")

    def ask(self, *words):
        done = subprocess.run(
            [harness.need("redis-cli"), "-p", self.port] + list(words),
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def cpu_nanoseconds(self):
        total = 0
        for task in os.listdir("/proc/%d/task" % self.process.pid):
            with open("/proc/%d/task/%s/schedstat" % (self.process.pid, task)) as file:
                total += int(file.read().split()[0])
        return total

    def microseconds_a_request(self, load):
        before = self.cpu_nanoseconds()
        subprocess.run(
            [
                harness.need("redis-benchmark"),
                "-p",
                self.port,
                "-n",
                str(REQUESTS),
                "-P",
                "16",
                "-q",
            ]
            + LOADS[load],
            check=True,
            preexec_fn=on_core(1),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        spent = self.cpu_nanoseconds() - before
        if load == "lpush":
            self.ask("del", "mylist")
        return spent / 1e3 / REQUESTS

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
