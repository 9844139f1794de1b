"""Programs that a service manager starts under a list of forbidden system calls, each of which
kills: whatever is asked of the agent, the program lives as it does without; what the agent then
cannot do it says."""
import concurrent.futures
import http.client
import resource

import harness
from system_calls import numbers, under_filter

# What the agent makes and a program's start does not. Without the first it serves nobody, without
# the others it lacks a part.
SERVING = (
    "signalfd4",
    "eventfd2",
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
    "tgkill",
    "accept4",
    "bind",
    "listen",
    "getpeername",
    "setsockopt",
    "fcntl",
    "getdents64",
    "ioctl",
    "geteuid",
    "getresuid",
    "clock_nanosleep",
)
SAMPLING = ("timer_create", "timer_settime", "timer_delete", "clock_getres", "rt_sigpending")
HARMLESS = (
    "process_vm_readv",
    "close_range",
    "unshare",
    "perf_event_open",
    "readlinkat",
    "unlinkat",
)
LISTS = {  # as systemd.exec(5) names them, with what is not the program's own
    "@debug": (
        "perf_event_open",
        "process_vm_readv",
        "process_vm_writev",
        "ptrace",
        "kcmp",
        "pidfd_getfd",
    ),
    "@timer": (
        "timer_create",
        "timer_settime",
        "timer_gettime",
        "timer_getoverrun",
        "timer_delete",
        "timerfd_create",
        "timerfd_settime",
        "setitimer",
        "getitimer",
        "alarm",
        "times",
    ),
    "@ipc": (
        "process_vm_readv",
        "process_vm_writev",
        "memfd_create",
        "pipe2",
        "shmget",
        "semget",
        "msgget",
        "mq_open",
    ),
    "@resources": (
        "sched_setscheduler",
        "sched_setaffinity",
        "setpriority",
        "ioprio_set",
        "mbind",
        "move_pages",
        "set_mempolicy",
    ),
}
PATHS = (
    "",
    "heap",
    "goroutine?debug=2",
    "goroutine",
    "profile?seconds=1",
    "block",
    "mutex",
    "threadcreate",
    "health",
    "cmdline",
    "?processes=1",
)
FORBIDS = "the program was started under a seccomp filter that ends it for "


def served():
    return harness.build("served_under_filter.c", "-O1")


def plain_outcome(argv, **options):
    done = harness.run(
        argv, plain=True, stdin=b"\n", preexec_fn=harness.limit(resource.RLIMIT_CORE, 0), **options
    )
    return done.returncode, done.stdout, done.stderr


def ask_everything(host):
    """{path: status}"""
    found = {}
    for path in PATHS:
        try:
            found[path] = host.get(path)[:3:2]
        except (OSError, http.client.HTTPException) as error:
            raise AssertionError("%s: %s%s" % (path, error, host.describe())) from None
    return found


def check(names, action="kill_process", serves=True):
    """The host ends as it would; the answers by path ({}: the agent is off and says why)."""
    argv = under_filter(action, names, [served()])
    expected = plain_outcome(argv)
    assert (
        expected == plain_outcome(argv, preload_after=[harness.build("nothing.c", shared=True)])
        and expected[0] == 7
    ), (names, expected)
    host = harness.Host(
        argv,
        preexec_fn=harness.limit(resource.RLIMIT_CORE, 0),
        extra={"PPROFAGENT_BLOCKPROFILERATE": "1"},
    )
    host.ready()
    if serves:
        host.address
        answers = ask_everything(host)
    else:
        answers = {}
        harness.poll(
            lambda: FORBIDS + names[0] in host.log() or host.process.poll() is not None,
            "the agent to say why it is off",
        )
    host.go_on()
    assert (host.finish(), host.stderr().encode()) == (expected[0], expected[2]), (
        names,
        host.describe(),
    )
    return answers


def check_each(cases, **options):
    plain_outcome(
        under_filter("errno", ["personality"], [served()])
    )  # builds them before several run
    harness.build("nothing.c", shared=True)
    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        running = [(names, executor.submit(check, names, **options)) for names in cases]
        return {names[0]: future.result() for names, future in running}


def known(names):
    return tuple(name for name in names if name in numbers())


def test_calls_that_it_cannot_serve_without():
    check_each([(name,) for name in known(SERVING)], serves=False)


def test_calls_by_which_threads_are_sampled():
    for name, answers in check_each([(name,) for name in known(SAMPLING)]).items():
        status, body = answers.pop("profile?seconds=1")
        assert status == 500 and (FORBIDS + name).encode() in body, (name, status, body)
        assert all(status == 200 for status, _ in answers.values()), (name, answers)
        assert (FORBIDS + name).encode() in answers["goroutine?debug=2"][1], answers[
            "goroutine?debug=2"
        ]


def test_calls_that_have_a_substitute():
    """Names, stacks and profiles are there all the same."""
    for name, answers in check_each([(name,) for name in known(HARMLESS)]).items():
        assert all(status == 200 for status, _ in answers.values()), (name, answers)
        assert b"served_under_filter.c" in answers["goroutine?debug=2"][1], (
            name,
            answers["goroutine?debug=2"],
        )


def test_lists_of_a_service_manager():
    for names in LISTS.values():
        check(known(names))


def test_calls_that_fail():
    """Refused with an error, which is what containers do: nothing is found out, and what can go on
    does."""
    for names in LISTS.values():
        check(known(names), action="errno")


def test_nothing_is_tried_where_there_is_no_filter():
    """No child: a tracer would see it, and a large program pay for it."""
    strace = harness.need("strace")
    calls = harness.scratch() + "/calls"
    host = harness.Host([strace, "-f", "-o", calls, "-e", "trace=clone,fork,vfork", served()])
    host.ready()
    harness.poll(lambda: "listening on" in host.log(), "the agent to listen")
    host.go_on()
    assert host.finish() == 7
    with open(calls) as file:
        lines = file.read().splitlines()
    children = [line for line in lines if "clone(" in line and "CLONE_VM" not in line]
    assert len(lines) > 1 and children == [], lines
