"""A differential runner: programs whose tests are run plain and under the agent, idle and while all
of its pages are fetched in a loop. What they find must be the same.

A test whose outcome is not always the same without the agent is told by running it again, as is one
that any preload changes (an empty one is the witness).
"""
import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import threading

import harness

RETRIES = 4
# Once is enough, unless it happens without the agent too.
BAD_ENDS = re.compile(
    r"exit code (?:timeout|-4|-6|-7|-11|-31)\b|" r"signal (?:ILL|ABRT|BUS|SEGV|SYS|ALRM)"
)
PAGES = (
    "",
    "?debug=1",
    "heap",
    "heap?debug=1",
    "allocs",
    "block",
    "mutex",
    "threadcreate",
    "goroutine",
    "goroutine?debug=1",
    "goroutine?debug=2",
    "goroutineleak",
    "peak",
    "leaks",
    "heap?labels=age,thread",
    "cmdline",
    "symbol",
    "health",
    "profile?seconds=1",
    "heap?seconds=1",
)


def empty_preload():
    path = os.path.join(harness.BUILD, "test", "empty.so")
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "/dev/null", "-o", path], check=True)
    return path


def library():
    return harness.for_all(harness.agent())


# ---- clients -------------------------------------------------------------------------------------


class Clients:
    """They fetch every page of each process at a port, in a loop."""

    def __init__(self, port, how_many=2):
        self.port, self.answers, self.stopped = port, 0, threading.Event()
        self.threads = [
            threading.Thread(target=self._fetch, args=(number,), daemon=True)
            for number in range(how_many)
        ]
        for thread in self.threads:
            thread.start()

    def _get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
            self.answers += response.status == 200
            return body
        finally:
            connection.close()

    def _fetch(self, number):
        while not self.stopped.is_set():
            try:
                processes = json.loads(self._get("/?format=json"))["processes"]
            except (OSError, http.client.HTTPException, ValueError, KeyError):
                self.stopped.wait(0.005)
                continue
            for entry in processes:
                for page in PAGES[number :: len(self.threads)]:
                    if self.stopped.is_set():
                        return
                    try:
                        self._get("/pid/%d/debug/pprof/%s" % (entry["pid"], page))
                    except (OSError, http.client.HTTPException):
                        pass  # it ended, or does what keeps clients away

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()


# ---- one run -------------------------------------------------------------------------------------


class Way:
    """How a program is run: plain, with an empty preload, under an agent that is idle or fetched.

    NAME: "plain", "preload", "idle" or "fetched"."""

    def __init__(self, name):
        self.name = name
        self.port = harness.free_port()
        self.clients = None

    def environment(self, extra=None):
        if self.name == "fetched":  # by the source of CPU samples that disturbs more
            extra = dict(extra or {}, PPROFAGENT_CPU="timer")
        preloads = {"plain": [], "preload": [harness.for_all(empty_preload())]}
        return harness.agent_environment(
            address="127.0.0.1:%d" % self.port,
            extra=extra,
            plain=True,
            preload_after=preloads.get(self.name, [library()]),
        )

    def under_agent(self):
        return self.name in ("idle", "fetched")

    def __enter__(self):
        if self.name == "fetched":
            self.clients = Clients(self.port)
        return self

    def __exit__(self, *_):
        if self.clients:
            self.clients.stop()

    def await_agent(self, process):
        """Until the agent of a process at its start listens and, if it is to be, is busy."""
        if not self.under_agent():
            return

        def there():
            if process.poll() is not None:
                return True
            if self.clients:
                return self.clients.answers >= 3
            with open("/proc/net/tcp") as file:  # asking it would wake it
                return any(
                    line.split()[1].endswith(":%04X" % self.port) and line.split()[3] == "0A"
                    for line in file.readlines()[1:]
                )

        harness.poll(there, "an agent at port %d" % self.port)


class Outcome:
    """code: the exit code, -N after signal N, or "timeout". answers: pages that clients got."""

    def __init__(self, code, stdout, stderr, answers):
        self.code, self.stdout, self.stderr, self.answers = code, stdout, stderr, answers


def descendants(pid):
    children = harness.proc_text("/proc/%d/task/%d/children" % (pid, pid)).split()
    return [below for child in children for below in [int(child)] + descendants(int(child))]


def run(way, argv, seconds=600, says_ready=False, cwd=None, extra=None, user=None):
    """says_ready: the program prints a line, and goes on when it has read one."""
    stdout = stderr = b""
    with way, subprocess.Popen(
        argv,
        stdin=subprocess.PIPE if says_ready else subprocess.DEVNULL,
        cwd=cwd,
        user=user,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=way.environment(extra),
        start_new_session=True,
    ) as process:
        try:
            if says_ready:
                process.stdout.readline()
                way.await_agent(process)
            stdout, stderr = process.communicate(b"\n" if says_ready else None, timeout=seconds)
            code = process.returncode
        except subprocess.TimeoutExpired:
            code = "timeout"
            for pid in descendants(process.pid):  # in whatever sessions they are
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its session: what it left behind too
    answers = way.clients.answers if way.clients else 0
    return Outcome(code, stdout.decode(errors="replace"), stderr.decode(errors="replace"), answers)


# ---- programs ------------------------------------------------------------------------------------


class Program:
    """run(way_name, only) -> ({test: what it found, a text}, pages fetched meanwhile).

    only: None, or the tests that need be run. tests: their names, where they are known before.
    left_out: {part that cannot be run here: why}."""

    def __init__(self, name, run, tests=(), left_out=None):
        self.name, self.run, self.tests, self.left_out = name, run, tests, left_out or {}


def at_once(name, tests, how_many, left_out=None):
    """A Program of {test: function(way_name) -> (text, answers)}."""

    def run_some(way_name, only=None):
        names = [name for name in tests if only is None or name in only]
        with concurrent.futures.ThreadPoolExecutor(how_many) as pool:
            found = list(pool.map(lambda name: tests[name](way_name), names))
        return (
            {name: text for name, (text, _) in zip(names, found)},
            sum(answers for _, answers in found),
        )

    return Program(name, run_some, list(tests), left_out)


class Differences:
    """Of one program: tests, and those whose outcomes differ in each way."""

    def __init__(self, program, only=None, ways=("idle", "fetched")):
        self.name, self.ways = program.name, ways
        self.expected, _ = program.run("plain", only)
        assert self.expected, program.name + " has no tests"
        self.differ, self.any_preload, self.varying, self.answers = {}, {}, set(), {}
        for way in ways:
            found, self.answers[way] = program.run(way, only)
            suspects = {
                name
                for name in set(found) | set(self.expected)
                if found.get(name) != self.expected.get(name)
            }
            self._settle(program, way, suspects, found)

    def _settle(self, program, way, suspects, found):
        """Runs them again: what also happens without the agent, or with an empty preload, is no
        difference."""
        plain = {name: [self.expected.get(name)] for name in suspects}
        under = {name: [found.get(name)] for name in suspects}
        left = set(suspects)
        for attempt in range(RETRIES):
            doubtful = {
                name
                for name in left  # what is always the same need not be run for ever
                if attempt < 2 or len(set(plain[name])) + len(set(under[name])) > 2
            }
            if not doubtful:
                break
            for which, seen in (("plain", plain), (way, under)):
                again, _ = program.run(which, doubtful)
                for name in doubtful:
                    seen[name].append(again.get(name))
            common = {
                name
                for name in left
                if set(plain[name]) & set(under[name])
                and not bad_ends(under[name]) - bad_ends(plain[name])
            }
            self.varying |= common
            left -= common
        odd = {name: [text for text in under[name] if text not in plain[name]] for name in left}
        if left:
            preloaded, _ = program.run("preload", left)
            self.any_preload[way] = {name for name in left if preloaded.get(name) in odd[name]}
            left -= self.any_preload[way]
        self.differ[way] = {name: (plain[name][-1], odd[name][-1]) for name in left}

    def report(self):
        """(test, way, how it differs)"""
        for way in self.ways:
            for name, (plain, found) in sorted(self.differ[way].items()):
                yield name, way, described(plain, found)


def bad_ends(texts):
    return {end for text in texts for end in BAD_ENDS.findall(text or "")}


def described(plain, found):
    """Both texts, of long ones only the lines that are not in the other."""
    if plain is None or found is None:
        return "without the agent %r, with it %r" % (plain, found)
    first, second = plain.splitlines(), found.splitlines()
    if set(first) == set(second):
        return "without the agent %r, with it %r" % (plain, found)
    only = lambda these, those: "; ".join(line for line in these if line not in those)[:600]
    return "without the agent [%s], with it [%s]" % (only(first, second), only(second, first))
