"""What the tests of several processes on one port share: starting them, and asking the port."""
import http.client
import json
import os
import signal
import socket
import subprocess

import harness
from pprof_reader import Profile

NOBODY = 65534
SIZES = {"own": 40961, "child": 70001}  # bytes that a workload's blocks have by default


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Port:
    """An address that several processes are given."""

    def __init__(self, address=None):
        self.number = harness.free_port()
        self.address = address or "127.0.0.1:%d" % self.number

    def connection(self, timeout=None):
        timeout = timeout or harness.DEADLINE
        if self.address.startswith("unix:"):
            return UnixConnection(self.address[5:], timeout)
        return http.client.HTTPConnection("127.0.0.1", self.number, timeout=timeout)

    def get(self, path, pid=None, method="GET", body=None, headers=None, timeout=None):
        """(status, headers, body); pid: below /pid/N/debug/pprof/."""
        connection = self.connection(timeout)
        try:
            connection.request(
                method,
                path if pid is None else "/pid/%d/debug/pprof/%s" % (pid, path),
                body=body,
                headers=headers or {},
            )
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def ok(self, path, pid=None, **options):
        status, _, body = self.get(path, pid, **options)
        assert status == 200, "%s of %s: %d %r" % (path, pid, status, body[:300])
        return body

    def profile(self, path, pid):
        return Profile(self.ok(path, pid))

    def await_samples(self, pids, function, at_least=10):
        """CPU profiles of the processes in turn until so many samples, all together, have the
        function on their stack: a busy machine takes longer."""
        seen = []

        def enough():
            for pid in pids:
                seen.append(self.profile("profile?seconds=1", pid).by_function()[function][0])
            return sum(seen) >= at_least

        harness.poll(enough, "%d samples of %s" % (at_least, function))

    def health(self, pid):
        return json.loads(self.ok("health", pid))

    def url(self, path, pid):
        return "http://127.0.0.1:%d/pid/%d/debug/pprof/%s" % (self.number, pid, path)

    def list(self):
        return json.loads(self.ok("/?format=json"))

    def processes(self):
        """{pid: entry}; {} while nobody holds the port."""
        try:
            return {entry["pid"]: entry for entry in self.list()["processes"]}
        except (OSError, http.client.HTTPException):
            return {}

    def await_processes(self, pids, others=True, seconds=None):
        """Waits until these are in the list, all of them having answered, and (unless others)
        nobody else."""

        def look():
            found = self.processes()
            have = {pid for pid, entry in found.items() if entry["answered"]}
            return (
                found
                if (set(pids) <= have if others else set(pids) == set(found) == have)
                else None
            )

        try:
            return harness.poll(look, "processes %s in the list" % sorted(pids), seconds)
        except AssertionError as error:
            raise AssertionError("%s; there are %s" % (error, self.processes())) from None

    def holder(self):
        return next((pid for pid, entry in self.processes().items() if entry["holder"]), None)


def build():
    return harness.build("process_tree.c", "-O1", "-fno-optimize-sibling-calls")


class Process(harness.Host):
    """workloads/process_tree.c on a shared port."""

    def __init__(self, port, prefix=(), rate=1, **options):
        super().__init__(list(prefix) + [build()], rate=rate, address=port.address, **options)
        self.pid = self.done()

    def done(self):
        line = self.line()
        assert line.startswith("done "), line + self.describe()
        return int(line[5:])

    def do(self, words):
        """The pid of the process that did them."""
        self.process.stdin.write(words.encode() + b"\n")
        self.process.stdin.flush()
        return self.done()


def stop(pid):
    """All of its threads: one that runs may go on for a moment."""
    os.kill(pid, signal.SIGSTOP)
    state = (
        lambda tid: harness.proc_text("/proc/%d/task/%d/stat" % (pid, tid))
        .rpartition(")")[2]
        .split()[:1]
    )
    harness.poll(
        lambda: all(state(tid) in (["T"], []) for tid in harness.tasks(pid)), "all of it stops"
    )


def sleepers(port, count, program="/bin/sleep"):
    """Many small programs; harness.stop_everything() ends them."""
    return [
        harness.Host([program, "300"], address=port.address, stdin=None, stdout=None)
        for _ in range(count)
    ]


def is_gone(pid):
    try:
        with open("/proc/%d/stat" % pid) as file:
            return file.read().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


def run_as_root():
    if os.getuid() != 0:
        raise harness.Skip("needs root")


def pair(port=None, rate=1, of_first=None):
    """(port, the process that holds it, another). of_first: settings of the first alone."""
    port = port or Port()
    first = Process(port, rate=rate, extra=of_first)
    port.await_processes([first.pid])
    second = Process(port, rate=rate)
    port.await_processes([first.pid, second.pid], others=False)
    return port, first, second


def check_exact(port, pid, function, size, named=True):
    """In use from that function: one block of this size, nothing else. Not named: its name is in a
    file that a chroot hides."""
    profile = port.profile("heap", pid)
    if named:
        assert profile.by_leaf()[function][2:] == [1, size], (pid, function, profile.by_leaf())
    found = [sample.values[2:] for sample in profile.samples if sample.labels.get("bytes") == size]
    assert found == [[1, size]], (pid, size, found)


def as_nobody():
    """A preexec_fn."""
    run_as_root()

    def become():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    if subprocess.run(
        ["test", "-r", harness.agent(), "-a", "-x", build()],
        preexec_fn=become,
        cwd="/",
    ).returncode:
        raise harness.Skip("the build directory cannot be read by another user")
    return become
