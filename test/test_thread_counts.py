"""A program that counts its threads finds its own: the agent's steps aside for the look, and is
there again afterwards."""
import json
import re
import signal
import threading
import time

import harness
from differential import empty_preload
from differential_programs import chromium

WAYS = ("links", "files", "forks", "child closes", "handlers")
ONE = re.compile(r": (0, )?1(, errno 0)?$|^wrong: 0, in the handler: 0$")
FLAGS = ("-O1", "-Wno-nonnull")


def program():
    return harness.build("thread_counts.c", *FLAGS)


def start(what, plain=False, wait=False, **options):
    """Once its agent listens, it counts, unless it is to wait for host.go_on()."""
    host = harness.Host([program(), what], plain=plain, **options)
    host.ready()
    if not plain:
        assert host.address
        harness.poll(lambda: len(harness.tasks(host.pid)) == 2, "the agent's thread")
    if not wait:
        host.go_on()
    return host


def is_reached(host):
    try:
        return host.get("cmdline")[0] == 200
    except OSError:
        return False


def agent_threads(host):
    return [
        tid
        for tid in harness.tasks(host.pid)
        if harness.proc_text("/proc/%d/task/%d/comm" % (host.pid, tid)) == "pprofagent\n"
    ]


def caught(pid):
    return int(harness.proc_text("/proc/%d/status" % pid).split("SigCgt:")[1].split()[0], 16)


def check_same(what):
    plain = start(what, plain=True)
    expected = plain.ready()
    assert expected and plain.finish() == 0
    preloaded = start(what, plain=True, preload_after=[empty_preload()])
    assert preloaded.ready() == expected and preloaded.finish() == 0
    host = start(what)
    found = host.ready()
    assert found == expected, [pair for pair in zip(found, expected) if pair[0] != pair[1]]
    harness.poll(lambda: is_reached(host), "the agent afterwards")
    assert host.finish() == 0, host.describe()
    return expected


def define(what):
    def test():
        lines = check_same(what)
        assert all(ONE.search(line) for line in lines), lines

    test.__name__ = "test_" + what.replace(" ", "_")
    globals()[test.__name__] = test


for each in WAYS:
    define(each)


def test_while_the_agent_starts():
    """In the first tenth of a second its thread only sleeps."""
    for what in ("links", "files"):
        plain = harness.run([program(), what], plain=True, stdin=b"\n\n\n")
        done = harness.run([program(), what], stdin=b"\n\n\n")
        assert (done.returncode, done.stdout) == (plain.returncode, plain.stdout), (what, done)


def test_without_an_agent():
    plain = harness.run([program(), "files"], plain=True, stdin=b"\n\n\n")
    done = harness.run([program(), "files"], address="off", stdin=b"\n\n\n")
    assert (done.returncode, done.stdout) == (plain.returncode, plain.stdout), done


def test_rust():
    host = harness.Host([harness.build("threads_counted.rs")])
    host.ready()
    assert host.address
    host.go_on()
    assert host.ready() == ["1 1"]
    harness.poll(lambda: is_reached(host), "the agent afterwards")


def test_chromium():
    """Its zygote ends it unless it is alone. SOAK=1 compares more (test_differential.py)."""
    harness.need("chromium")
    picture = {way: chromium([], ["--no-sandbox"], way)[0] for way in ("plain", "idle")}
    assert picture["idle"] == picture["plain"] and "no picture" not in picture["plain"], picture


def test_the_log_says_nothing_of_it():
    host = start("files")
    host.ready()
    harness.poll(lambda: is_reached(host), "the agent afterwards")
    assert host.log().count("\n") == 1 and "listening on" in host.log(), host.log()


def test_a_program_with_threads_pays_nothing():
    host = start("with a thread")
    host.ready()
    before = agent_threads(host)
    assert len(before) == 1
    host.go_on()
    host.ready()
    assert agent_threads(host) == before  # the very same


def test_who_looks_all_the_time_finds_it_in_the_end():
    host = start("often")
    assert host.ready() == ["more than one: some"]
    harness.poll(lambda: is_reached(host), "the agent afterwards")


def wait_until_late():
    now = time.monotonic()
    harness.poll(lambda: time.monotonic() > now + 0.2, "a tenth of a second and more")


def test_what_is_never_closed():
    for until in ("until it opens", "until it allocates", "until it has a thread"):
        host = start(until)
        assert host.ready() == ["kept: 1"]
        for _ in range(3):  # nothing brings it back by itself
            assert not agent_threads(host)
        wait_until_late()
        host.go_on()
        host.ready()
        harness.poll(lambda: is_reached(host), until)


def test_who_shares_the_port_is_reached_too():
    """Whoever holds it after a look."""
    host = start("with a child")
    pids = {host.pid, int(host.ready()[0].split()[1])}

    def both_answer():
        try:
            found = json.loads(host.text("/?format=json"))["processes"]
        except OSError:
            return False
        return {entry["pid"] for entry in found if entry["answered"]} == pids

    harness.poll(both_answer, "both at the start")
    harness.poll(lambda: len(agent_threads(host)) == 1, "the end of the request")
    host.go_on()
    assert all(": 1, " in line for line in host.ready())
    harness.poll(both_answer, "both afterwards")


def test_what_another_thread_closes():
    host = start("another closes")
    assert host.ready() == ["kept: 1"]
    before = harness.poll(lambda: agent_threads(host), "the agent is back")
    wait_until_late()
    host.go_on()
    host.ready()
    assert agent_threads(host) == before and is_reached(host)


def test_a_client_is_not_cut_off_by_what_is_opened():
    host = start("files", wait=True, **harness.by_timers())
    found = []
    client = threading.Thread(target=lambda: found.append(host.get("profile?seconds=2")[0]))
    client.start()
    harness.poll(lambda: caught(host.pid) & 1 << signal.SIGURG - 1, "the client is served")
    host.go_on()
    counts = host.ready()
    client.join()
    assert found == [200]
    assert not any(": 1, " in line for line in counts), counts
