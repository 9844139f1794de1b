"""The real `go tool pprof`, and a page as chromium makes it."""
import contextlib
import os
import re
import signal
import socket
import subprocess

from hosts import free_port, poll
from workbench import DEADLINE, need, scratch


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
