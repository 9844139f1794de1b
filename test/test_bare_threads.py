"""Agent threads that libc does not know: it takes a single-threaded program for one, whoever asks;
and since its setuid does not reach them, they follow what the program gives up by themselves."""
import concurrent.futures
import os

import harness
import tls_hosts

FLAGS = ("-O1",)


def served(host):
    for path in ("", "heap", "goroutine?debug=2", "profile?seconds=1&hz=100", "health"):
        status = host.get(path)[0]
        assert status == 200, (path, status)


def test_libc_takes_the_program_for_single_threaded():
    host = harness.Host([harness.build("libc_threads.c", *FLAGS)])
    assert host.ready() == ["single 1"]
    harness.poll(lambda: len(harness.tasks(host.pid)) == 2, "the agent's thread")
    host.go_on()
    assert host.ready() == ["single 1"]
    served(host)
    host.go_on()
    assert host.ready() == ["single 1"]
    harness.poll(lambda: len(harness.tasks(host.pid)) == 2, "the server's end", 20)
    host.go_on()
    assert host.line() == "single 1" and host.finish() == 0


def rights(pid, tid):
    task = "/proc/%d/task/%d" % (pid, tid)
    wanted = ("Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:")
    lines = [
        line for line in harness.proc_text(task + "/status").splitlines() if line.startswith(wanted)
    ]
    try:
        return lines + [
            os.readlink("%s/ns/%s" % (task, name)) for name in ("uts", "net", "mnt", "user")
        ]
    except FileNotFoundError:
        return []


def check_rights(host, at_work=False):
    """All threads', at once: the program has been told that its call has succeeded."""
    own = rights(host.pid, host.pid)
    others = [rights(host.pid, tid) for tid in harness.tasks(host.pid) if tid != host.pid]
    assert all(other in (own, []) for other in others), (own, others)
    assert not at_work or len([other for other in others if other]) >= 3, others


WAYS = (
    "setgroups",
    "initgroups",
    "setegid",
    "seteuid",
    "seteuid_back",
    "setresgid",
    "capset",
    "unshare_uts",
    "unshare_mount",
    "keepcaps",
    "setresuid",
)
ENDS = (
    ("setgid", "setuid"),
    ("number",),
    ("setregid", "setreuid"),
    ("no_capability",),
    ("keepcaps", "setuid"),
    ("unshare_net",),
    ("unshare_user",),
)


def check_gives_up(ways, at_work=False):
    if os.getuid() != 0:
        raise harness.Skip("needs root")
    plain = (
        harness.run(
            [harness.build("gives_up_rights.c", *FLAGS)] + list(ways), plain=True, stdin=b"\n" * 20
        )
        .stdout.decode()
        .splitlines()
    )
    host = harness.Host([harness.build("gives_up_rights.c", *FLAGS)] + list(ways))
    host.ready()
    harness.poll(lambda: len(harness.tasks(host.pid)) == 2, "the agent's thread")
    lines = ["ready"]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        profile = None
        if at_work:
            profile = pool.submit(host.get, "profile?seconds=4")
            harness.poll(lambda: host.health()["cpu_sampling"]["profiles_running"] == 1, "it runs")
        for _ in ways:
            host.go_on()
            lines += host.ready() + ["ready"]
            check_rights(host, at_work)
        if at_work:
            assert profile.result()[0] == 200
    host.go_on()
    assert host.finish() == 0 and lines == plain, (lines, plain)


def test_idle_threads_follow():
    check_gives_up(WAYS)
    for ways in ENDS:
        check_gives_up(ways)


def test_threads_at_work_follow():
    check_gives_up(
        ("setgroups", "setegid", "seteuid", "seteuid_back", "setresgid", "setresuid"), True
    )
    check_gives_up(("keepcaps", "setuid"), True)
    check_gives_up(("number",), True)


def test_children_of_clone_change_their_user():
    if os.getuid() != 0:
        raise harness.Skip("needs root")
    program = harness.build("clone_child_setgroups.c", *FLAGS)
    for how in ("call", "libc"):
        for what in ("nothing", "keepcaps", "unshare"):
            argv = [program, how, what]
            plain = harness.run(argv, plain=True)
            assert plain.returncode == 0, plain
            for _ in range(10):
                done = harness.run(argv)
                assert (done.returncode, done.stdout) == (plain.returncode, plain.stdout), done


def test_a_crowd_that_changes_its_group():
    if os.getuid() != 0:
        raise harness.Skip("needs root")
    host = harness.Host([harness.build("setuid_crowd.c", *FLAGS)])
    host.ready()
    served(host)
    host.go_on()
    assert host.ready() == ["done"]
    check_rights(host)
    served(host)  # and it is there still
    host.go_on()
    assert host.finish() == 0


def test_a_crowd_beside_remote_admin():
    """libc tells each thread that it knows, and waits: the front of remote admin is one of them."""
    if os.getuid() != 0:
        raise harness.Skip("needs root")
    host = tls_hosts.start([harness.build("setuid_crowd.c", *FLAGS)])
    host.ready()
    tls_hosts.tls_port(host)
    host.go_on()
    assert host.ready() == ["done"]
    host.go_on()
    assert host.finish() == 0
