"""Programs that put themselves into a sandbox (seccomp): each says the same, and ends the same, as
without the agent and with an empty library in its place; and programs that only ask for what the
kernel can do, which change nothing."""
import concurrent.futures
import contextlib
import http.client
import os
import re
import resource
import signal
import threading

import harness

FATAL = ("kill_process", "kill_thread")
ACTIONS = FATAL + ("trap", "errno", "trace")
DEEDS = ("violate", "heap", "fork", "threads", "handlers", "exit", "leave_main")
EVERYTHING = {"PPROFAGENT_BLOCKPROFILERATE": "1", "PPROFAGENT_MUTEXPROFILEFRACTION": "1"}


def confines():
    return harness.build("confines_itself.c", "-O1")


def with_libseccomp():
    if not os.path.exists("/usr/include/seccomp.h"):
        raise harness.Skip("libseccomp is not installed")
    return harness.build(
        "confines_itself.c",
        "-O1",
        "-DWITH_LIBSECCOMP",
        "-lseccomp",
        name="confines_itself_libseccomp",
    )


def outcome(host, starts, act=None):
    """Exit code, what it said and stderr. act(host): before it goes on, once its agent listens."""
    for _ in range(starts):
        assert host.line() == "ready", host.describe()
        if act:
            act(host)
        host.go_on()
    host.process.stdin.close()
    said = host._buffer + host.process.stdout.read()
    return host.process.wait(harness.DEADLINE), said, host.stderr()


def check_same(
    program, *arguments, rate=None, late=True, act=lambda host: host.address, extra=None
):
    nothing = harness.build("nothing.c", shared=True)
    options = {"preexec_fn": harness.limit(resource.RLIMIT_CORE, 0), "rate": rate, "extra": extra}
    argv = [program] + list(arguments) + (["late"] if late else [])
    plain = outcome(harness.Host(argv, plain=True, **options), late)
    empty = outcome(harness.Host(argv, plain=True, preload_after=[nothing], **options), late)
    host = harness.Host(argv, **options)
    found = outcome(host, late, act)
    assert plain == empty, (argv, plain, empty)
    assert found == plain, (argv, plain, found, host.log())
    return found


def check_all(cases):
    """Several at once: most of them sleep."""
    harness.build("nothing.c", shared=True)
    with concurrent.futures.ThreadPoolExecutor(12) as executor:
        for running in [executor.submit(check_same, *case[0], **case[1]) for case in cases]:
            running.result()


def test_every_action_and_deed():
    program = confines()
    check_all(
        ((program, way, action, deed), {"rate": rate, "late": late})
        for way, rate in (("prctl", None), ("tsync", 1))
        for action in ACTIONS
        for deed in DEEDS
        for late in (True, False)
    )


def test_every_way():
    program = confines()
    check_all(
        ((program, way, "kill_process", deed), {"rate": 512, "extra": EVERYTHING})
        for way in ("syscall", "prctl_by_syscall")
        for deed in DEEDS
    )
    check_all(
        ((program, "strict", "kill_thread", deed), {"rate": rate})
        for deed in ("violate", "heap")
        for rate in (None, 1)
    )
    check_all(
        ((with_libseccomp(), way, action, deed), {})
        for way in ("tsync", "alone")
        for action in FATAL
        for deed in DEEDS
    )


def test_nobody_looks_at_a_program_that_has_confined_itself():
    """It sleeps for long: whatever an agent looks at by the clock does not happen."""
    program = confines()
    check_all(
        [((program, way, action, "idle"), {}) for way in ("prctl", "tsync") for action in ACTIONS]
        + [((with_libseccomp(), "tsync", action, "idle"), {}) for action in FATAL]
    )


def test_a_dispatch_of_system_calls_of_its_own():
    """While it is on, a call of anybody's in that thread ends the program."""
    argv = [confines(), "dispatch", "none", "heap", "late"]
    if harness.run(argv, plain=True, stdin=b"\n").returncode != 7:
        raise harness.Skip("the kernel has no PR_SET_SYSCALL_USER_DISPATCH")
    for rate in (None, 1):
        check_same(*argv[:4], rate=rate)


def test_a_kill_ends_the_process():
    """A violation by the only thread of the program's own ends it, whatever threads the agent
    had."""
    program = confines()
    assert check_same(program, "prctl", "kill_thread", "violate")[0] == -signal.SIGSYS
    assert check_same(program, "strict", "kill_thread", "violate")[0] == -signal.SIGKILL


def test_a_filter_that_is_not_seen():
    """The program's own instruction installs it: when the agent is asked it finds it in /proc, and
    leaves."""
    host = harness.Host([confines(), "unseen", "errno", "idle", "late"])
    host.ready()
    host.address
    host.go_on()
    assert host.line() == "confined"
    with contextlib.suppress(OSError, http.client.HTTPException):
        host.get("")
    harness.poll(
        lambda: "off: the program has put itself under a seccomp filter" in host.log(),
        "the agent to leave",
    )
    harness.poll(lambda: agent_threads(host.pid) == [], "its threads to end")
    assert host.process.wait(harness.DEADLINE) == 7


def agent_threads(pid):
    return [
        task
        for task in harness.tasks(pid)
        if harness.proc_text("/proc/%d/task/%d/comm" % (pid, task)) == "pprofagent\n"
    ]


def test_a_profile_that_runs_meanwhile():
    def profile(host):
        def ask():
            with contextlib.suppress(OSError, http.client.HTTPException):  # it is cut off
                host.get("profile?seconds=60")

        threading.Thread(target=ask, daemon=True).start()
        harness.poll(
            lambda: host.health()["cpu_sampling"]["profiles_running"] == 1, "the profile to run"
        )

    program = confines()
    for way in ("prctl", "tsync"):
        for deed in ("heap", "threads"):
            check_same(program, way, "kill_process", deed, act=profile, extra=EVERYTHING)


# ---- questions that change nothing ---------------------------------------------------------------


def test_probes():
    """The agent's threads do not even pause; every profile stays on."""
    program = harness.build("seccomp_probes.c", "-O1")
    expected = harness.run([program, "harmless"], plain=True, stdin=b"\n\n")
    host = harness.Host([program, "harmless"], rate=1, extra=EVERYTHING)
    assert host.ready() == []
    host.address
    before = agent_threads(host.pid)
    host.go_on()
    lines = host.ready() + ["ready"]
    assert lines == expected.stdout.decode().splitlines()[1:], (lines, expected)
    assert agent_threads(host.pid) == before and len(before) == 1, (
        before,
        agent_threads(host.pid),
        host.log(),
    )
    assert host.log().count("listening on") == 1, host.log()
    status, _, body = host.get("profile?seconds=1")
    assert status == 200, body
    for name in ("heap", "block", "mutex"):
        assert "is off" not in host.text(name + "?debug=1"), name
    assert host.profile("allocs").by_function()["allocate_after"][0] == 1000
    host.go_on()
    assert host.finish() == expected.returncode == 0 and host.stderr() == ""


def test_calls_that_fail():
    """What the kernel alone can find wrong: the agent goes, and comes again."""
    program = harness.build("seccomp_probes.c", "-O1")
    expected = harness.run([program, "refused"], plain=True, stdin=b"\n\n")
    host = harness.Host([program, "refused"], rate=1)
    assert host.ready() == []
    host.address
    host.go_on()
    lines = host.ready() + ["ready"]
    assert lines == expected.stdout.decode().splitlines()[1:], (lines, expected)
    back = harness.poll(
        lambda: re.search(r"(?s).*listening on http://(.*?)/debug/pprof/\n$", host.log()),
        "the agent to be back",
    )
    assert host.log().count("listening on") > 1, host.log()
    host._address = harness.host_port("http://" + back.group(1))
    assert host.profile("allocs").by_function()["allocate_after"][0] == 1000
    assert host.get("profile?seconds=1")[0] == 200
    host.go_on()
    assert host.finish() == expected.returncode == 0 and host.stderr() == ""


def test_children_of_a_program_that_probes():
    program = harness.build("seccomp_probes.c", "-O1")
    host = harness.Host([program, "child"])
    host.ready()
    host.address
    host.go_on()
    host.ready()
    harness.poll(
        lambda: "sharing the port that process %d holds" % host.pid in host.log(),
        "the child to be served",
    )
    host.go_on()
    assert host.finish() == 0
