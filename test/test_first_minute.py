"""What a user meets first: make's targets install what they need, or one sentence says what is
missing; the demo shows what it promises."""
import glob
import os
import re
import shutil
import signal
import subprocess
import urllib.request

import harness

SCRIPTS = os.path.join(harness.ROOT, "scripts")
PLAIN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/go/bin", "HOME": "/nonexistent"}


def test_targets_install_what_they_need():
    """make looks up no pattern rule for a phony target: nothing would be installed, silently."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    wanted = {"demo": "demo", "test": "test", "bench": "bench", "soak": "soak", "fresh": "fresh"}
    for target, packages in wanted.items():
        done = subprocess.run(
            ["make", "-n", target],
            cwd=harness.ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=harness.DEADLINE * 3,
        )
        first = (done.stdout.splitlines() or [""])[0]
        assert done.returncode == 0, (target, done.stderr)
        assert first.endswith("scripts/install_packages " + packages), (target, done.stdout[:500])


# ---- without root, without a network -------------------------------------------------------------


def as_nobody(*command, **environment):
    """Runs it without root, and without a terminal on which sudo could ask for a password."""
    harness.need("setpriv")
    if os.geteuid() != 0:
        raise harness.Skip("needs root to become nobody")
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    return subprocess.run(
        nobody + list(command),
        env=dict(PLAIN, **environment),
        cwd="/",
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=harness.DEADLINE,
    )


def readable_script(name):
    """A copy of it that nobody can read, wherever the checkout is."""
    directory = os.path.join(harness.scratch(), "scripts")
    shutil.copytree(SCRIPTS, directory)
    os.chmod(os.path.dirname(directory), 0o755)
    return os.path.join(directory, name)


def dpkg_without(*packages):
    """A copy of dpkg's database in which the packages are not installed."""
    directory = harness.scratch()
    os.chmod(directory, 0o755)
    with open("/var/lib/dpkg/status", errors="replace") as file:
        stanzas = file.read().split("\n\n")
    with open(os.path.join(directory, "status"), "w") as file:
        file.write(
            "\n\n".join(
                stanza for stanza in stanzas if stanza.split("\n")[0].split(" ")[-1] not in packages
            )
        )
    return directory


def test_without_root_one_sentence_says_what_is_missing():
    script = readable_script("install_packages")
    whole = as_nobody(script, "demo", DPKG_ADMINDIR=dpkg_without())
    if "redis-tools" in whole.stderr:
        raise harness.Skip("the demo's packages are not installed: " + whole.stderr)
    assert (whole.returncode, whole.stdout, whole.stderr) == (0, "", ""), whole
    for target in ("demo", "test"):
        done = as_nobody(script, target, DPKG_ADMINDIR=dpkg_without("redis-tools", "zlib1g-dev"))
        assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1, done
        told = re.fullmatch(
            r"install_packages: not installed:(.*); "
            r"as root: apt-get install --no-install-recommends(.*)\n",
            done.stderr,
        )
        assert told and told.group(1) == told.group(2), done.stderr
        assert {"redis-tools", "zlib1g-dev"} <= set(told.group(1).split()), done.stderr


def test_what_only_some_tests_need_does_not_stop_the_others():
    done = as_nobody(readable_script("install_packages"), "test", DPKG_ADMINDIR=dpkg_without("jq"))
    if "redis-tools" in done.stderr:
        raise harness.Skip("the demo's packages are not installed: " + done.stderr)
    assert done.returncode == 0 and done.stderr.count("\n") == 1, done
    assert "jq" in done.stderr.split(";")[0].split(), done.stderr


def test_offline_with_a_filled_cache():
    """No network at all: what is installed and what was fetched once is enough."""
    harness.need("unshare")
    if subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode:
        raise harness.Skip("no right to make a network namespace")
    offline = ["unshare", "-n"]
    done = subprocess.run(
        offline + [os.path.join(SCRIPTS, "install_packages"), "build"],
        capture_output=True,
        text=True,
        timeout=harness.DEADLINE,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not glob.glob(os.path.join(cache, "pprofagent", "gdb_*")):
        raise harness.Skip("the sources were not downloaded (CIVETWEB_SRC, GDB_SRC)")
    target = os.path.join(harness.scratch(), "src")
    done = subprocess.run(
        offline + [os.path.join(SCRIPTS, "fetch_deps"), target],
        capture_output=True,
        text=True,
        timeout=harness.DEADLINE * 2,
    )
    assert done.returncode == 0, done
    assert os.path.exists(os.path.join(target, "gdb", "libbacktrace", "dwarf.c")), done


def test_a_bare_root_needs_root():
    done = as_nobody(readable_script("fresh"))
    assert (done.returncode, done.stdout) == (1, ""), done
    assert done.stderr == "fresh: building a root needs root: sudo make fresh\n", done.stderr


# ---- the demo ------------------------------------------------------------------------------------


def start_demo(**environment):
    harness.need("redis-server", "redis-benchmark", "go", "curl")
    directory = harness.scratch()
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PPROFAGENT_") and name not in ("KEEP", "LD_PRELOAD")
    }
    kept.update(environment, PPROFAGENT_LIBRARY=harness.agent(), TMPDIR=directory)
    process = subprocess.Popen(
        [os.path.join(SCRIPTS, "demo")],
        env=kept,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return process, directory


def nothing_left(process, directory):
    """The demo's session is empty and so is its TMPDIR."""

    def ended():
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    harness.poll(ended, "the demo's processes ending")
    left = [name for name in os.listdir(directory) if not name.startswith("go-")]
    assert not left, left


def amount(text):
    number, unit = re.fullmatch(r"([\d.]+)(\w+)", text).groups()
    megabytes = {"GB": 1e3, "MB": 1, "kB": 1e-3, "B": 1e-6}
    seconds = {"mins": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
    return float(number) * dict(megabytes, **seconds)[unit]


def rows(section):
    """{function: (flat, cum)} of the table of pprof -top."""
    found = re.findall(r"^ *(\S+) +\S+% +\S+% +(\S+) +\S+%  (.*)$", section, re.MULTILINE)
    return {
        name: tuple(0 if value == "0" else amount(value) for value in (flat, cum))
        for flat, cum, name in found
    }


def test_demo_shows_what_it_promises():
    process, directory = start_demo()
    try:
        output, _ = process.communicate(timeout=harness.DEADLINE * 5)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output
    assert len(output.splitlines()) < 60, output
    head, heap, cpu, locks, threads, end = output.split("\n\n")
    url = re.search(r"under the agent: (http://127\.0\.0\.1:\d+/debug/pprof/)\n", head).group(1)
    for load in ("SET", "LPUSH"):
        assert re.search(r"^%s: .*per second" % load, head, re.MULTILINE), head
    for section, word, profile in (
        (heap, "heap", "heap"),
        (cpu, "CPU", "profile"),
        (locks, "locks", "mutex"),
        (threads, "threads", "goroutine"),
    ):
        command, meaning = section.splitlines()[:2]
        shown = r"\$ (go tool pprof -top|curl) .*%s%s\b" % (re.escape(url), profile)
        assert re.match(shown, command), command
        assert meaning.startswith("# %s: " % word), meaning
    filled = rows(heap)
    # LPUSH fills one list with 98 MB, SET 126,000 different keys (63 % of those drawn) with 62 MB:
    # some 190 and 120 samples, of which the standard error is 7 and 9 %
    assert 98 * 0.7 < filled["lpInsert"][0] < 98 * 2, heap
    assert 62 * 0.5 < filled["_sdsnewlen"][0] < 62 * 2, heap
    assert sum(flat for flat, _ in rows(cpu).values()) > 0.1, cpu
    assert {"bioProcessBackgroundJobs", "bioCreateLazyFreeJob"} & set(rows(locks)), locks
    assert re.search(r"^goroutine \d+ \[sync\.Cond\.Wait.*\]:$", threads, re.MULTILINE), threads
    assert "\nbioProcessBackgroundJobs(...)\n" in threads, threads
    assert "\ncreated by bioInit in goroutine " in threads, threads
    assert url in end and "KEEP=1 make demo" in end and len(end.splitlines()) == 1, end
    nothing_left(process, directory)


def test_demo_can_be_kept():
    process, directory = start_demo(KEEP="1")
    try:
        url = None
        for line in process.stdout:
            url = re.search(r"open (http://127\.0\.0\.1:\d+/\S+) in a browser \(Ctrl-C", line)
            if url:
                break
        assert url, process.wait(harness.DEADLINE)
        with urllib.request.urlopen(url.group(1), timeout=harness.DEADLINE) as page:
            assert b"redis-server" in page.read()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        process.wait(harness.DEADLINE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    nothing_left(process, directory)
