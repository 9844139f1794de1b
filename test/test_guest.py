"""The admin thread is a good guest: descriptors, signals, namespaces, fork, exec, the end of the
process and memory are as without it."""
import os
import subprocess
import time

import harness
from http_guest import WAIT, answers, cpu_seconds, guest, request


def lines_until_ready(what, plain=False, **options):
    host = harness.Host([harness.build("guest.c", *WAIT), what], plain=plain, **options)
    host.ready()
    if not plain:
        assert request(host)[0] == 200
    host.go_on()
    return host, host.ready()


def test_host_descriptors_are_as_without_the_agent():
    plain, expected = lines_until_ready("descriptors", plain=True)
    host, lines = lines_until_ready("descriptors")
    strip = lambda text: [line.split(" ")[:2] for line in text]  # pipes have other numbers
    assert strip(lines) == strip(expected), (lines, expected)
    assert request(host)[0] == 200, "the listener did not survive the host's closefrom"
    assert host.finish() == 0 and plain.finish() == 0


def test_signals_are_as_without_the_agent():
    plain, expected = lines_until_ready("signals", plain=True)
    host, lines = lines_until_ready("signals")
    assert lines == expected and "SIGPIPE default" in lines, (lines, expected)
    everything = (1 << 64) - 1 & ~(
        1 << 8 | 1 << 18 | 1 << 31 | 1 << 32
    )  # but SIGKILL, SIGSTOP and the C library's 32 and 33

    def agent_threads():
        for tid in harness.tasks(host.pid):
            text = harness.proc_text("/proc/%d/task/%d/status" % (host.pid, tid))
            if tid != host.pid and text:
                yield dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)

    # While a thread starts it has its creator's name, and the C library blocks its own two as well.
    harness.poll(
        lambda: all(
            (status["Name"], int(status["SigBlk"], 16)) == ("pprofagent", everything)
            for status in agent_threads()
        ),
        "all signals blocked",
    )
    assert host.finish() == 0


def check_namespace(what, sign):
    plain, expected = lines_until_ready(what, plain=True)
    if sign not in expected:
        raise harness.Skip("not allowed here: %s" % expected)
    host, lines = lines_until_ready(what)
    assert lines == expected, (lines, expected)

    # In its new user namespace the program's user has no number, so nobody can be told to be the
    # same: it says so.
    def asked_who_it_is():
        try:
            return request(host)[0] in (200, 403)
        except OSError:
            return False

    harness.poll(asked_who_it_is, "the server afterwards")
    assert host.finish() == 0


def test_agent_threads_leave_for_unshare_and_come_back():
    check_namespace("new_namespace", "unshare user 0")


def test_agent_threads_leave_for_setns_and_come_back():
    check_namespace("other_namespace", "setns user 0")


def test_unshare_command():
    command = [harness.need("unshare"), "-U", "-r", "/usr/bin/id", "-u"]
    plain = harness.run(command, plain=True)
    done = harness.run(command)
    assert (done.returncode, done.stdout, done.stderr) == (
        plain.returncode,
        plain.stdout,
        plain.stderr,
    ), (done, plain)


def test_mount_namespace():
    _, expected = lines_until_ready("mount_namespace", plain=True)
    host, lines = lines_until_ready("mount_namespace")
    assert lines == expected, (lines, expected)
    harness.poll(lambda: answers(host), "the server after setns")


def test_wake_signal_pending_in_the_host():
    _, expected = lines_until_ready("pending_signal", plain=True)
    host = harness.Host([harness.build("guest.c", *WAIT), "pending_signal"])
    host.ready()
    host.go_on()
    host.ready()
    assert request(host)[0] == 200
    before = cpu_seconds(host.pid)
    time.sleep(0.7)
    assert (
        cpu_seconds(host.pid) - before < 0.1
    ), "the admin thread spins on a signal that is not its own"
    host.go_on()
    lines = host.ready()
    assert lines[0] == "sigwait 23", lines
    assert host.finish() == 0


def test_process_ends_when_only_the_agent_is_left():
    for what, expected in (
        ("main_ends", b"atexit ran\n"),
        ("main_ends_first", b"last thread ends\natexit ran\n"),
    ):
        for delay in (0, 0.1):
            host = harness.Host([harness.build("guest.c", *WAIT), what])
            host.ready()
            if delay:
                assert request(host)[0] == 200
            host.go_on()
            assert host.process.wait(harness.DEADLINE) == 0, what
            assert host._buffer + host.process.stdout.read() == expected, what


def test_exec_gives_the_port_to_the_new_program():
    port = harness.free_port()
    host = guest("exec", address="127.0.0.1:%d" % port)
    assert request(host)[0] == 200
    host.go_on()
    host.ready()
    harness.poll(lambda: host.log().count("listening on") == 2, "the new program's agent")
    assert request(host)[0] == 200
    assert host.finish() == 0


def test_forked_child_that_unshares_and_ends_at_once():
    """Its agent has hardly been started then (test_fork.py has the children that stay)."""
    _, expected = lines_until_ready("fork", plain=True)
    host, lines = lines_until_ready("fork")
    assert lines == expected and lines[-1] == "child exit 7", (lines, expected)
    assert request(host)[0] == 200
    assert host.finish() == 0


def test_idle_process_has_one_agent_thread_and_uses_no_cpu():
    host = guest()
    host.address
    assert len(harness.tasks(host.pid)) == 2

    def switches():
        text = harness.proc_text(
            "/proc/%d/task/%d/status" % (host.pid, max(harness.tasks(host.pid)))
        )
        return [line for line in text.splitlines() if "ctxt_switches" in line]

    def idle_for_a_second():  # once in 5 s it looks whether the program is still there
        before = switches()
        time.sleep(1)
        return switches() == before

    harness.poll(idle_for_a_second, "a second without a context switch", 20)


def test_agent_threads_take_no_memory_of_the_hosts_allocator():
    host = guest()

    def peak():
        return next(
            int(line.split()[1])
            for line in open("/proc/%d/status" % host.pid)
            if line.startswith("VmPeak")
        )

    before = peak()
    for path in ("cmdline", "", "heap", "heap?debug=1", "health"):
        assert host.get(path)[0] == 200
    # A thread's first malloc reserves an arena of 64 MB.
    assert peak() - before < 24 * 1024, "%d kB more address space" % (peak() - before)


def caught(pid):
    text = harness.proc_text("/proc/%d/status" % pid)
    return [line for line in text.splitlines() if line.startswith(("SigCgt", "SigIgn", "Threads"))]


def test_what_clients_need_leaves_with_them():
    """Threads, timers and the handler of the sampling signal; and they come again."""
    host = guest(**harness.by_timers())
    before = caught(host.pid)
    for _ in range(2):
        assert request(host, "/debug/pprof/profile?seconds=1")[0] == 200
        assert request(host, "/debug/pprof/goroutine?debug=2")[0] == 200
        assert caught(host.pid) != before
        harness.poll(lambda: caught(host.pid) == before, "what was there before", 30)


def test_the_signal_retires_in_the_middle_of_a_fork():
    """A fork lets in again what it has blocked, whatever is chosen then."""
    host = harness.Host([harness.build("fork_while_retiring.c", "-O1")], **harness.by_timers())
    host.ready()
    assert request(host, "/debug/pprof/profile?seconds=1")[0] == 200
    host.go_on()
    assert host.line() == "caught before 1, blocked by parent 0, child 0"
    assert host.finish() == 0


def test_pprofagent_command():
    tool = os.path.join(harness.ROOT, "scripts", "pprofagent")
    environment = dict(os.environ, PPROFAGENT_LIBRARY=harness.agent())
    path = os.path.join(harness.scratch(), "agent.sock")
    for address, shown in (
        ("127.0.0.1:0", "http://127.0.0.1:"),
        ("unix:" + path, "unix:" + path),
        ("off", "not listening"),
    ):
        process = subprocess.Popen(
            [tool, "run", "--addr", address, "--", "/bin/sleep", "60"], env=environment
        )
        try:

            def listed():
                lines = subprocess.run(
                    [tool, "ps"], capture_output=True, text=True, check=True
                ).stdout.splitlines()
                return [
                    line
                    for line in lines
                    if line.split()[0] == str(process.pid) and shown in line and "sleep" in line
                ]

            harness.poll(listed, "pprofagent ps to list " + address)
        finally:
            process.kill()
            process.wait()
    done = subprocess.run(
        [tool, "run", "--addr=off", "sh", "-c", "echo $0 $1; exit 3", "a b", "c"],
        env=environment,
        capture_output=True,
    )
    assert (done.returncode, done.stdout) == (3, b"a b c\n"), done
    assert subprocess.run([tool, "run"], env=environment, capture_output=True).returncode == 2


def test_log_to_stderr_and_silence():
    program = harness.build("guest.c", *WAIT)
    done = harness.run(["/bin/sleep", "0.2"])
    assert done.stderr == b"" and done.stdout == b"", done
    done = harness.run([program], log="stderr", stdin=b"\n\n")
    done = harness.run(["/bin/sleep", "0.2"], log="stderr")
    assert (
        done.stderr.count(b"\n") == 1 and b"listening on http://127.0.0.1:" in done.stderr
    ), done.stderr


def test_capabilities_that_outlive_a_change_of_user():
    """They are a thread's own: with an agent thread of the old ones libc would find that one thread
    may change its group and another not, and abort."""
    command = [
        harness.need("setpriv"),
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--",
        "/usr/bin/id",
    ]
    plain = harness.run(command, plain=True)
    if plain.returncode != 0:
        raise harness.Skip("not allowed here: %s" % plain.stderr)
    done = harness.run(command)
    assert done.stdout == plain.stdout and done.returncode == 0, done
