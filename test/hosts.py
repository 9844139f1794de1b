"""Programs under the agent: their environment, their input and output, and what their agent says.

Every wait is a poll with a deadline."""
import contextlib
import http.client
import json
import os
import re
import resource
import select
import socket
import subprocess
import time
import urllib.parse

import stuck_state
from pprof_reader import Profile
from workbench import DEADLINE, agent, remove_scratch, scratch


def agent_environment(
    rate=None,
    address="127.0.0.1:0",
    preload_before=(),
    preload_after=(),
    log=None,
    extra=None,
    plain=False,
):
    """The environment of a host. plain: the same without the agent, for comparisons."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("PPROFAGENT_") and key not in ("LD_PRELOAD", "LD_BIND_NOW")
    }
    libraries = list(preload_before) + ([] if plain else [agent()]) + list(preload_after)
    if libraries:
        environment["LD_PRELOAD"] = ":".join(libraries)
    environment["PPROFAGENT_ADDR"] = address
    if rate is not None:
        environment["PPROFAGENT_MEMPROFILERATE"] = str(rate)
    if log is not None:
        environment["PPROFAGENT_LOG"] = log
    environment.update(extra or {})
    return environment


def by_timers(options=None):
    """Options of a Host whose CPU samples come by timers' signals, also where the kernel has
    rings."""
    options = dict(options or {})
    options["extra"] = dict(options.get("extra") or {}, PPROFAGENT_CPU="timer")
    return options


def run(argv, stdin=b"", timeout=None, cwd=None, preexec_fn=None, **environment_options):
    """Runs a command to its end; returns CompletedProcess with bytes stdout and stderr. plain=True:
    without the agent."""
    return subprocess.run(
        argv,
        input=stdin,
        capture_output=True,
        timeout=timeout or DEADLINE * 3,
        cwd=cwd,
        preexec_fn=preexec_fn,
        env=agent_environment(**environment_options),
    )


def limit(which, value):
    """A preexec_fn that sets both limits of a resource."""
    return lambda: resource.setrlimit(which, (value, value))


_hosts = []


def stop_everything():
    while _hosts:
        _hosts.pop().kill()
    remove_scratch()


def poll(condition, what, seconds=None):
    """Calls condition() until it returns something true, and returns that."""
    end = time.monotonic() + (seconds or DEADLINE)
    pause = 0.002
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, "timed out: " + what
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def in_time(action, seconds, what, prepare=lambda: None, attempts=4):
    """Runs action(prepare()) until it takes no longer than so many seconds, a few times: what is
    kept waiting always is, a busy machine is not always slow. Each attempt has to find the same
    state: prepare() makes it."""
    took = []
    for _ in range(attempts):
        state = prepare()
        start = time.monotonic()
        action(state)
        took.append(time.monotonic() - start)
        if took[-1] < seconds:
            return
    raise AssertionError("%s: took %s s each time" % (what, ["%.1f" % each for each in took]))


class Host:
    """A program under the agent. Workloads print a line when they are ready and go on when they can
    read one (workload.h). directory: for its log and stderr, in place of one of root's."""

    def __init__(
        self,
        argv,
        rate=None,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None,
        cwd=None,
        preexec_fn=None,
        directory=None,
        **environment_options
    ):
        self.directory = directory or scratch()
        self.log_path = os.path.join(self.directory, "agent.log")
        self.stderr_path = os.path.join(self.directory, "stderr")
        environment = agent_environment(rate=rate, log=self.log_path, **environment_options)
        with open(self.stderr_path, "wb") as error_file:
            self.process = subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=stdout,
                stderr=error_file,
                env=environment,
                cwd=cwd,
                preexec_fn=preexec_fn,
            )
        self.pid = self.process.pid
        self._buffer = b""
        self._address = None
        _hosts.append(self)

    # the host's own input and output

    def line(self, seconds=None):
        """The next line of the host's stdout, without its newline."""
        end = time.monotonic() + (seconds or DEADLINE * 3)
        descriptor = self.process.stdout.fileno()
        while b"\n" not in self._buffer:
            left = end - time.monotonic()
            assert left > 0, "no line from the host in time" + self.describe_stuck()
            if select.select([descriptor], [], [], left)[0]:
                piece = os.read(descriptor, 65536)
                assert piece, "the host closed its stdout" + self.describe()
                self._buffer += piece
        text, self._buffer = self._buffer.split(b"\n", 1)
        return text.decode()

    def ready(self, seconds=None):
        """The lines that the workload printed before its line `ready`."""
        lines = []
        while True:
            text = self.line(seconds)
            if text == "ready":
                return lines
            lines.append(text)

    def go_on(self):
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def finish(self, seconds=None):
        """Lets the host end (its stdin closes) and returns its exit code."""
        if self.process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        try:
            return self.process.wait(seconds or DEADLINE)
        except subprocess.TimeoutExpired:
            raise AssertionError("the host does not end" + self.describe_stuck()) from None

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def stderr(self):
        with open(self.stderr_path, errors="replace") as file:
            return file.read()

    def log(self):
        if not os.path.exists(self.log_path):
            return ""
        with open(self.log_path, errors="replace") as file:
            return file.read()

    def describe(self):
        return "; exit code %s\nstderr: %s\nagent log: %s" % (
            self.process.poll(),
            self.stderr()[-2000:],
            self.log()[-2000:],
        )

    def describe_stuck(self):
        return self.describe() + "\n" + stuck_state.describe(self.pid)

    # the agent

    @property
    def address(self):
        """(host, port), read from the agent's log."""
        if self._address is None:

            def look():
                found = re.search(
                    r"\[%d\]: listening on http://([^/\s]+):(\d+)/" % self.pid, self.log()
                )
                if not found:
                    assert self.process.poll() is None, (
                        "the host ended before its agent listened" + self.describe()
                    )
                return found

            found = poll(look, "the agent's address in its log")
            self._address = found.group(1), int(found.group(2))
        return self._address

    def url(self, path=""):
        return "http://%s:%d/debug/pprof/%s" % (self.address + (path,))

    def get(self, path, method="GET", body=None, headers=None, timeout=None):
        """(status, headers as http.client gives them, body). A path without a leading / is below
        /debug/pprof/."""
        full = path if path.startswith("/") else "/debug/pprof/" + path
        connection = http.client.HTTPConnection(*self.address, timeout=timeout or DEADLINE)
        try:
            connection.request(method, full, body=body, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def text(self, path, **options):
        status, _, body = self.get(path, **options)
        assert status == 200, "%s: %d %r" % (path, status, body[:300])
        return body.decode("utf-8")

    def profile(self, path="heap", **options):
        status, headers, body = self.get(path, **options)
        assert status == 200, "%s: %d %r" % (path, status, body[:300])
        assert headers["Content-Type"] == "application/octet-stream", headers["Content-Type"]
        return Profile(body)

    def health(self):
        return json.loads(self.text("health"))


def losses(health):
    """{name: count} of every loss counter of the heap profile and its stacks that is not 0."""
    return {
        name: count
        for name, count in health["losses"].items()
        if count and not name.startswith("symbols_")
    }


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def host_port(url):
    parts = urllib.parse.urlsplit(url)
    return parts.hostname, parts.port
