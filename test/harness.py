"""What the tests share: building workloads, running hosts under the agent, asking the agent and
pprof.

Every wait is a poll with a deadline. Every process started here is stopped by stop_everything(), by
its own id.
"""
import contextlib
import glob
import http.client
import json
import os
import re
import resource
import select
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
import urllib.parse

import pytest
import stuck_state
from pprof_reader import Profile

TEST_DIRECTORY = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(TEST_DIRECTORY)
BUILD = os.environ.get("BUILD_DIR", os.path.join(ROOT, "build"))
AGENT = os.environ.get(
    "PPROFAGENT_SO", os.path.join(BUILD, "libpprofagent.so")
)  # another build of it may be tested
WORKLOADS = os.path.join(TEST_DIRECTORY, "workloads")
LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu"
    if os.uname().machine == "x86_64"
    else "/usr/lib/%s-linux-gnu" % os.uname().machine
)
DEADLINE = float(
    os.environ.get("TEST_DEADLINE", "60")
)  # seconds for anything that should take well under one

# The distribution's own programs first: another python3 may be a script that starts one.
os.environ["PATH"] = "/usr/bin:/usr/sbin:/bin:/sbin:/usr/local/bin:" + os.environ.get("PATH", "")

notes = []  # lines that are printed at the end: measured values that are reported, not asserted


class Skip(pytest.skip.Exception):
    """Raised by a test that cannot run here; the text says why."""


def note(text):
    notes.append(text)


def need(*programs):
    """The full paths of the programs, or Skip. make test installs what is missing, so a skip means
    that it could not."""
    found = [shutil.which(program) for program in programs]
    for program, path in zip(programs, found):
        if path is None:
            raise Skip(program + " is not installed")
    return found[0] if len(found) == 1 else found


def need_library(name):
    """Its path, of another version if the release has only that; or Skip."""
    path = os.path.join(LIBRARIES, name)
    others = sorted(glob.glob(path.split(".so")[0] + ".so.*"), key=len)
    if not os.path.exists(path) and not others:
        raise Skip(name + " is not installed")
    return path if os.path.exists(path) else others[0]


def agent():
    assert os.path.exists(AGENT), "%s is missing: run make" % AGENT
    return AGENT


def source(name):
    """The path of one of the project's own source files, whichever room it is in."""
    found = [
        path
        for top in ("agent", "shim")
        for path in glob.glob(os.path.join(ROOT, top, "**", name), recursive=True)
    ]
    assert len(found) == 1, (name, found)
    return found[0]


def objects(top):
    """The paths of the library's objects that are built of agent/ or shim/."""
    sources = glob.glob(os.path.join(top, "**", "*.c"), root_dir=ROOT, recursive=True)
    return [os.path.join(BUILD, "obj", source[:-2] + ".o") for source in sources]


# ---- building workloads --------------------------------------------------------------------------


def build(source, *flags, name=None, shared=False):
    """Compiles test/workloads/SOURCE (or an absolute path) with -g -pthread and the flags; returns
    the program's path."""
    path = source if os.path.isabs(source) else os.path.join(WORKLOADS, source)
    stem = name or re.sub(r"\W+", "_", os.path.basename(source) + "".join(flags))
    directory = os.path.join(BUILD, "test", "workloads")
    os.makedirs(directory, exist_ok=True)
    output = os.path.join(directory, stem + (".so" if shared else ""))
    newest = max(os.path.getmtime(path), os.path.getmtime(os.path.join(WORKLOADS, "workload.h")))
    if os.path.exists(output) and os.path.getmtime(output) > newest:
        return output
    new = "%s.%d" % (output, os.getpid())  # tests that run side by side may want the same one
    if path.endswith(".rs"):
        command = [need("rustc"), "-g", "-o", new, path] + list(flags)
    else:
        command = [
            "g++" if path.endswith(".cc") else "gcc",
            "-g",
            "-pthread",
            "-Wall",
            "-I" + WORKLOADS,
            "-I" + ROOT,
        ]
        command += ["-shared", "-fPIC"] if shared else []
        command += [flag for flag in flags if not flag.startswith("-l")] + ["-o", new, path]
        command += [flag for flag in flags if flag.startswith("-l")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, "%s\n%s" % (" ".join(command), done.stderr)
    os.rename(new, output)
    return output


def scratch():
    """A directory that stop_everything() removes."""
    path = tempfile.mkdtemp(prefix="pprofagent-test-")
    _directories.append(path)
    return path


def is_for_all(path):
    """Whether every user may read the file."""
    directories = [path]
    while directories[-1] != "/":
        directories.append(os.path.dirname(directories[-1]))
    return os.stat(path).st_mode & stat.S_IROTH and all(
        os.stat(each).st_mode & stat.S_IXOTH for each in directories[1:]
    )


_copies = {}


def for_all(path):
    """The file itself, or a copy that every user may read. Of a preload that another user than root
    cannot read the loader says so, at each exec."""
    path = os.path.abspath(path)
    if is_for_all(path):
        return path
    if not os.path.exists(_copies.get(path, "")):
        directory = scratch()
        os.chmod(directory, 0o755)
        _copies[path] = shutil.copy(path, directory)
        os.chmod(_copies[path], 0o755)
    return _copies[path]


# ---- environment ---------------------------------------------------------------------------------


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


# ---- hosts ---------------------------------------------------------------------------------------

_hosts, _directories = [], []


def stop_everything():
    while _hosts:
        _hosts.pop().kill()
    while _directories:
        shutil.rmtree(_directories.pop(), ignore_errors=True)


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


def thread_states(pid):
    """The states that the threads of a process are in, as letters."""
    stats = [proc_text("/proc/%d/task/%d/stat" % (pid, tid)) for tid in tasks(pid)]
    return {stat.rsplit(") ", 1)[1][0] for stat in stats if stat}


def tasks(pid):
    """The thread ids of a process."""
    return [int(name) for name in os.listdir("/proc/%d/task" % pid)]


def proc_text(path):
    """A file of /proc; "" where its process or thread has ended, as an agent's thread may at any
    moment."""
    try:
        with open(path) as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def proc_links(directory):
    """Where the links in a directory of /proc lead, those that have gone left out."""
    found = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for name in os.listdir(directory):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found.append(os.readlink(os.path.join(directory, name)))
    return found


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
    read one (workload.h)."""

    def __init__(
        self,
        argv,
        rate=None,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None,
        cwd=None,
        preexec_fn=None,
        **environment_options
    ):
        self.directory = scratch()
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


# ---- pprof ---------------------------------------------------------------------------------------


def pprof(*arguments, timeout=None, cwd=None):
    """Runs the real `go tool pprof`; returns (stdout, stderr). Fails unless it exits 0."""
    go = need("go")
    directory = scratch()
    environment = dict(os.environ, PPROF_TMPDIR=directory, HOME=directory)
    done = subprocess.run(
        [go, "tool", "pprof"] + list(arguments),
        capture_output=True,
        text=True,
        env=environment,
        cwd=cwd,
        timeout=timeout or DEADLINE * 2,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, "pprof %s: exit code %d\n%s" % (
        " ".join(arguments),
        done.returncode,
        done.stderr,
    )
    return done.stdout, done.stderr


def pprof_warnings(stderr):
    """What pprof wrote to stderr beyond its two lines about fetching and saving."""
    usual = re.compile(
        r"^(Fetching profile over HTTP from |Saved profile in |Generating report in |$)"
    )
    return [line for line in stderr.splitlines() if not usual.match(line)]


def pprof_clean(*arguments, **options):
    """As pprof(), and nothing unusual on stderr."""
    stdout, stderr = pprof(*arguments, **options)
    assert not pprof_warnings(stderr), "pprof warns: " + stderr
    return stdout


@contextlib.contextmanager
def pprof_web(profile):
    """`go tool pprof -http` on a free port; gives its URL."""
    port = free_port()
    directory = scratch()
    error_path = os.path.join(directory, "stderr")
    with open(error_path, "wb") as error_file:
        process = subprocess.Popen(
            [need("go"), "tool", "pprof", "-no_browser", "-http", "127.0.0.1:%d" % port, profile],
            stdin=subprocess.DEVNULL,
            stdout=error_file,
            stderr=error_file,
            start_new_session=True,
            env=dict(os.environ, PPROF_TMPDIR=directory, HOME=directory),
        )
    try:

        def listening():
            assert process.poll() is None, "pprof -http ended: " + open(error_path).read()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        poll(listening, "pprof -http listening")
        yield "http://127.0.0.1:%d/" % port, lambda: open(error_path).read()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(
                process.pid, signal.SIGKILL
            )  # go tool runs pprof as a child, in this session of its own
        process.wait()


def dom(url, seconds=60):
    """The document that headless chromium makes of a page, scripts run; and what chromium's console
    said."""
    directory = scratch()
    command = [
        need("chromium"),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--enable-logging=stderr",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--user-data-dir=" + directory,
        "--virtual-time-budget=10000",
        "--dump-dom",
        url,
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=seconds,
        env=dict(os.environ, HOME=directory),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def host_port(url):
    parts = urllib.parse.urlsplit(url)
    return parts.hostname, parts.port
