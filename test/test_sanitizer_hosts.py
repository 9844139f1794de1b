"""Programs built with the sanitizers of gcc and clang, which define much of libc and start before
anything else: they run as without the agent, also while its pages are fetched, and nothing is
reported."""
import os
import re
import subprocess

import harness

SOURCE = os.path.join(harness.WORKLOADS, "every_profile.c")
EVERYTHING_ON = {"PPROFAGENT_BLOCKPROFILERATE": "1", "PPROFAGENT_MUTEXPROFILEFRACTION": "1"}
PAGES = (
    "heap",
    "allocs?debug=1",
    "block",
    "mutex",
    "threadcreate",
    "goroutine?debug=2",
    "profile?seconds=1",
    "health",
)


def sanitized(compiler, kind, *flags):
    """The program, or None where this machine has no such runtime."""
    harness.need(compiler)
    name = "_".join(("sanitized", compiler, kind) + flags).replace("-", "_")
    output = os.path.join(harness.BUILD, "test", "workloads", name)
    if not os.path.exists(output) or os.path.getmtime(output) < os.path.getmtime(SOURCE):
        os.makedirs(os.path.dirname(output), exist_ok=True)
        command = [
            compiler,
            "-g",
            "-O1",
            "-w",
            "-pthread",
            "-fno-optimize-sibling-calls",
            "-fsanitize=" + kind,
            "-I" + harness.WORKLOADS,
            *flags,
            "-o",
            output,
            SOURCE,
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            missing = r"libclang_rt|cannot find|unsupported option"
            assert re.search(missing, done.stderr), done.stderr
            harness.note("%s -fsanitize=%s is not installed" % (compiler, kind))
            return None
    return output


def check(program, served=True, **options):
    expected = harness.run([program], plain=True, stdin=b"\n", extra=options.get("extra"))
    assert (expected.returncode, expected.stderr) == (0, b""), expected
    off = harness.run([program], address="off", stdin=b"\n", **options)
    assert (off.returncode, off.stderr) == (0, b""), (program, off)
    settings = dict(EVERYTHING_ON, **options.pop("extra", {}))
    host = harness.Host([program], rate=512, extra=settings, **options)
    host.ready()
    for page in PAGES if served else ():
        status, _, body = host.get(page)
        may_be_off = page.startswith(("heap", "allocs", "block", "mutex"))
        off_for_a_reason = may_be_off and status == 503 and b" is off: " in body
        assert body and (status == 200 or off_for_a_reason), (program, page, status, body[:200])
    host.go_on()
    host.ready()
    assert host.finish() == 0, program + host.describe()
    assert host.stderr() == "", host.stderr()


def check_kind(kind, served=True, **options):
    programs = list(filter(None, (sanitized("gcc", kind), sanitized("clang", kind))))
    if not programs:
        raise harness.Skip("no compiler has it")
    for program in programs:
        check(program, served, **options)


def test_memory_sanitizer():
    program = sanitized("clang", "memory")
    if not program:
        raise harness.Skip("clang's runtimes are not installed")
    check(program)
    check(sanitized("clang", "memory", "-fsanitize-memory-track-origins"))


def test_address_sanitizer():
    check_kind("address", extra={"ASAN_OPTIONS": "verify_asan_link_order=0"})
    check(sanitized("gcc", "address", "-static-libasan"))


def test_address_sanitizer_preloaded():
    runtime = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True
    ).stdout.strip()
    if not os.path.exists(runtime):
        raise harness.Skip("libasan.so is not installed")
    check(sanitized("gcc", "address"), preload_before=[os.path.realpath(runtime)])


def test_undefined_behaviour_sanitizer():
    check_kind("undefined")


def test_leak_sanitizer():
    check_kind("leak")


def test_thread_sanitizer():
    check_kind("thread", served=False)  # the agent is off there
