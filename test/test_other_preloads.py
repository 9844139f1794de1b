"""Other preloaded libraries, and programs that export functions of libc's names: the agent's own
threads and its code never call theirs, and its time is the kernel's. What the program itself calls
still goes through all of them."""
import hashlib
import os
import socket
import time

import harness

ORDERS = ("preload_before", "preload_after")
PAGES = (
    "",
    "?debug=1",
    "heap",
    "heap?debug=1",
    "allocs",
    "allocs?debug=1",
    "block",
    "block?debug=1",
    "mutex",
    "mutex?debug=1",
    "threadcreate",
    "threadcreate?debug=1",
    "goroutine",
    "goroutine?debug=1",
    "goroutine?debug=2",
    "cmdline",
    "symbol",
    "health",
    "profile?seconds=1",
    "heap?seconds=1",
)
EVERYTHING_ON = {"PPROFAGENT_BLOCKPROFILERATE": "1", "PPROFAGENT_MUTEXPROFILEFRACTION": "1"}


def every_profile(*flags):
    return harness.build("every_profile.c", "-O1", "-fno-optimize-sibling-calls", *flags)


def names_header():
    return os.path.join(harness.BUILD, "gen", "libc_names.h")


def defines_everything(name, source, *flags, **options):
    with open(names_header(), "rb") as file:
        mark = hashlib.sha256(file.read()).hexdigest()[:16]
    return harness.build(
        source,
        "-O1",
        "-fno-builtin",
        "-include",
        names_header(),
        *flags,
        name=name + "_" + mark,
        **options
    )


def everything():
    return defines_everything("preload_everything", "preload_everything.c", shared=True)


def fetch_everything(host):
    for page in PAGES:
        status, _, body = host.get(page)
        assert status == 200 and body, (page, status, body[:200])
    status, _, body = host.get("symbol", method="POST", body="0x1+0x2")
    assert status == 200, body
    assert host.get("no_such_page")[0] == 404
    assert host.get("heap", headers={"Host": "example.com"})[0] == 403
    with socket.create_connection(host.address) as broken:
        broken.sendall(b"not a request\r\n\r\n")
        broken.settimeout(harness.DEADLINE)
        while broken.recv(4096):
            pass


def check_nobody_elses(program, **options):
    host = harness.Host([program], rate=512, extra=EVERYTHING_ON, **options)
    host.ready()
    fetch_everything(host)
    host.go_on()
    child = int(host.ready()[0].split()[1])
    # the agent of the forked child too, reached through its parent's port
    harness.poll(lambda: host.get("/pid/%d/debug/pprof/heap" % child)[0] == 200, "the child's page")
    assert host.finish() == 0, host.describe()
    assert host.stderr() == "", host.stderr()


def test_no_other_preload_is_called_by_the_agent():
    for order in ORDERS:
        check_nobody_elses(every_profile(), **{order: [everything()]})


def test_no_function_of_the_program_is_called_by_the_agent():
    definitions = os.path.join(harness.WORKLOADS, "preload_everything.c")
    check_nobody_elses(
        defines_everything(
            "every_profile_defining",
            "every_profile.c",
            "-rdynamic",
            "-fno-optimize-sibling-calls",
            definitions,
        )
    )


def test_the_test_library_notices_calls():
    """What it defines is called by the program, and it knows what an agent thread is."""
    program = harness.build("thread_named_agent.c", "-O1")
    host = harness.Host([program], preload_before=[everything()])
    assert host.finish() == 97, host.describe()
    assert "getppid: called on an agent thread" in host.stderr(), host.stderr()


def test_a_socket_wrapper_with_a_table():
    wrapper = harness.build("preload_socket_table.c", "-O1", shared=True)
    for order in ORDERS:
        host = harness.Host([every_profile()], **{order: [wrapper]})
        host.ready()
        assert host.profile("heap")
        assert host.finish() == 0, order + host.describe()
        assert host.stderr() == "", host.stderr()


def libfaketime():
    path = os.path.join(harness.LIBRARIES, "faketime", "libfaketimeMT.so.1")
    if not os.path.exists(path):
        raise harness.Skip("faketime is not installed")
    return path


def check_true_time(faked, order):
    host = harness.Host(
        [every_profile()],
        extra={"FAKETIME": faked, "FAKETIME_DONT_RESET": "1"},
        **{order: [libfaketime()]}
    )
    host.ready()
    for page in ("profile?seconds=2", "heap?seconds=2", "mutex?seconds=2"):
        wall, begin = time.time_ns(), time.monotonic_ns()
        profile = host.profile(page)
        took = time.monotonic_ns() - begin
        seen = faked, order, page, took, profile.duration_nanos, wall, profile.time_nanos
        assert took > 1.5e9 and 1.5e9 < profile.duration_nanos <= took, seen
        assert wall - 2e9 < profile.time_nanos < wall + took + 2e9, seen
    assert host.finish() == 0, host.describe()


def test_a_frozen_clock():
    for order in ORDERS:
        check_true_time("2020-01-01 00:00:00", order)


def test_a_fast_clock():
    for order in ORDERS:
        check_true_time("+0 x10", order)
