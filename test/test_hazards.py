"""Hosts that preload agents are known to break: each runs as it does without the agent (hazards.c,
one mode a test)."""
import difflib
import os
import re
import resource
import signal
import subprocess
import time

import harness

RATES = (None, 1, 512)


def hazards():
    return harness.build("hazards.c", "-O1")


def outcome(done):
    return (
        done.returncode,
        done.stdout,
        re.sub(rb"(?m)^==\d+==", b"==PID==", done.stderr),
    )  # as valgrind and the sanitizers write it


def difference(expected, found):
    """The exit codes, and the lines of stdout and stderr that differ."""
    texts = [
        ["exit code %d" % code]
        + stdout.decode(errors="replace").splitlines()
        + stderr.decode(errors="replace").splitlines()
        for code, stdout, stderr in (expected, found)
    ]
    return "\n".join(
        line
        for line in list(difflib.unified_diff(*texts, "without", "with", lineterm="", n=0))[:60]
    )


def check_same(argv, rates=RATES, **options):
    """Exit code, stdout and stderr are those of a run without the agent."""
    expected = outcome(harness.run(argv, plain=True, **options))
    for rate in rates:
        found = outcome(harness.run(argv, rate=rate, **options))
        assert found == expected, "%s at rate %s differs from a run without the agent:\n%s" % (
            " ".join(argv),
            rate,
            difference(expected, found),
        )
    return expected


def check_mode(mode, *arguments, contains=b"", rates=RATES, **options):
    expected = check_same([hazards(), mode] + list(arguments), rates=rates, **options)
    assert expected[0] == 0 and contains in expected[1], expected


def test_constructors_that_allocate():
    check_mode("constructors", contains=b"early and late")


def test_bind_now():
    for mode in ("constructors", "spawns"):
        check_mode(mode, extra={"LD_BIND_NOW": "1"})


def test_second_preloaded_library_with_dlsym_wrapper():
    """Before and after the agent; it allocates in its constructor and in its own dlsym."""
    wrapper = harness.build("preload_wrapper.c", "-O1", shared=True)
    for order in ("preload_before", "preload_after"):
        for argv in (
            [hazards(), "constructors"],
            [hazards(), "spawns"],
            ["/bin/ls", "/"],
            ["/usr/bin/python3", "-c", "print('x' * 3)"],
        ):
            check_same(argv, rates=(None, 1), **{order: [wrapper]})


def test_fork_storm():
    check_mode("fork_storm", contains=b"500 of 500 children well")


def test_vfork_spawn_system_popen_and_raw_clone():
    check_mode("spawns", contains=b"spawns done")


def test_seccomp_strict():
    """On the hot path there is no system call and no clock."""
    check_mode("seccomp_strict", contains=b"strict mode survived\nstatus 0\n", rates=(None, 65536))


def test_seccomp_strict_main_thread_ends():
    """The only thread of the host ends by exit(2), as strict mode demands: the process must end,
    although the agent has threads."""
    check_mode("seccomp_strict_main", contains=b"strict mode survived", rates=(None,), timeout=20)


def test_locked_memory():
    expected = harness.run([hazards(), "locked_memory"], plain=True)
    if b"mlockall 0" not in expected.stdout:
        raise harness.Skip("mlockall is not permitted here")
    check_mode("locked_memory")


def test_address_space_limit():
    """With little address space left the agent gives way: malloc fails where it would have failed,
    by ENOMEM, and nothing breaks."""
    for megabytes in (100, 200, 1000):
        limits = harness.limit(resource.RLIMIT_AS, megabytes << 20)
        check_mode("out_of_memory", contains=b"ENOMEM after many: yes", preexec_fn=limits)
    for megabytes in (10, 20, 40, 60):  # enough for the program, perhaps not for the agent
        check_same(
            ["/bin/echo", "hello"], preexec_fn=harness.limit(resource.RLIMIT_AS, megabytes << 20)
        )


def test_few_descriptors():
    for count in (4, 5, 6, 8):
        check_same(
            ["/bin/echo", "hello"],
            rates=(None,),
            preexec_fn=harness.limit(resource.RLIMIT_NOFILE, count),
        )
    check_mode("constructors", preexec_fn=harness.limit(resource.RLIMIT_NOFILE, 4))


def test_cancellation():
    check_mode("cancellation", contains=b"200 cancelled")


def test_main_thread_that_exits():
    """pthread_exit in main: the process ends with its last own thread, exit handlers run, the exit
    code is 0."""
    check_mode("main_thread_exits", contains=b"last thread ends\natexit ran\n", timeout=30)


def test_signals_reach_the_host():
    check_mode("signals_to_the_host", contains=b"200 signals")


def scraped(mode, *arguments):
    """Output of a mode that says ready, plain and under a scraped agent."""
    outputs = []
    expected = harness.run([hazards(), mode] + list(arguments), stdin=b"\n\n\n", plain=True)
    assert expected.returncode == 0, expected
    host = harness.Host([hazards(), mode] + list(arguments), rate=512)
    lines = []
    for text in expected.stdout.decode().splitlines():
        lines.append(host.line())
        if lines[-1] == "ready":
            host.profile("heap")
            host.text("heap?debug=1")
            host.text("/debug/pprof/")
            host.go_on()
        outputs.append(text)
    assert host.finish() == 0
    assert lines == outputs, "without the agent: %s\nwith it: %s" % (outputs, lines)


def test_signal_dispositions_and_mask():
    scraped("dispositions")


def test_descriptors_and_closefrom():
    """The host sees no descriptor of the agent's, gets the numbers that it would get, and closes
    what it likes; the agent goes on."""
    scraped("descriptors")


def test_cleared_environment():
    scraped("environment")


def test_short_threads_leak_nothing():
    host = harness.Host([hazards(), "short_threads"], rate=1)
    sizes = []
    for _ in range(2):
        host.ready(seconds=120)
        host.profile("heap")
        health = host.health()
        with open("/proc/%d/statm" % host.pid) as file:
            sizes.append(
                (health["agent"]["memory_bytes"]["total"], int(file.read().split()[1]) * 4096)
            )
        host.go_on()
    assert host.finish() == 0
    harness.note("agent bytes and RSS after 200 threads %s, after 10,200 %s" % tuple(sizes))
    assert sizes[1][0] - sizes[0][0] < 1 << 20, sizes
    assert sizes[1][1] - sizes[0][1] < 8 << 20, sizes


def test_deepbind_and_foreign_pointers():
    plugin = harness.build("plugin.c", "-O1", shared=True)
    check_mode("deepbind", plugin, contains=b"deepbind done")


def test_dlopen_dlclose_under_scrape():
    plugin = harness.build("plugin.c", "-O1", "-fno-optimize-sibling-calls", shared=True)
    host = harness.Host([hazards(), "plugins", plugin], rate=1)
    host.ready()
    end = time.monotonic() + 4
    scrapes = 0
    while time.monotonic() < end:
        for path in ("heap", "heap?debug=1", "allocs"):
            status, _, body = host.get(path)
            assert status == 200 and body
            scrapes += 1
    host.go_on()
    rounds = int(host.line().split()[1])
    host.ready()
    values = host.profile("heap").by_leaf()["plugin_allocate"]
    harness.note("%d loads and unloads, %d scrapes" % (rounds, scrapes))
    assert values == [rounds * 11, rounds * 1033, rounds, rounds * 33], (rounds, values)
    assert host.finish() == 0
    host = harness.Host(
        [hazards(), "plugins", plugin], rate=1
    )  # never scraped while the module was loaded: its name is kept
    host.ready()
    host.go_on()
    host.line()
    host.ready()
    assert host.finish() == 0


def test_user_namespace():
    """unshare(CLONE_NEWUSER) is refused to a process with several threads."""
    unshare = harness.need("unshare")
    if subprocess.run([unshare, "-U", "true"], capture_output=True).returncode:
        raise harness.Skip("user namespaces are not permitted here")
    check_same([unshare, "-U", "--map-root-user", "id", "-u"])
    check_same([unshare, "-Ur", "sh", "-c", "echo inside; exit 4"])


COMMANDS = (
    ["/bin/ls", "-la", "/usr/include"],
    ["/bin/cat", "/etc/passwd"],
    ["/bin/grep", "-c", "include", "-r", "/usr/include/linux"],
    ["/bin/false"],
    ["/usr/bin/sort", "/etc/services"],
    ["/bin/sed", "-n", "1,5p", "/etc/passwd"],
    ["/bin/date", "-u", "-d", "@0"],
    ["/usr/bin/find", "/usr/include/linux", "-name", "*.h"],
    ["/bin/tar", "cf", "-", "-C", "/usr/include", "linux"],
    [
        "/usr/bin/perl",
        "-e",
        "my %h; $h{$_} = 'x' x $_ for 1 .. 2000; print scalar(keys %h), qq(\\n); exit 5",
    ],
    [
        "/usr/bin/python3",
        "-c",
        "import json, sys; print(json.dumps(list(range(1000)))); print('e', file=sys.stderr); "
        "sys.exit(6)",
    ],
    ["/usr/bin/awk", "BEGIN { for (i = 0; i < 9999; i++) a[i] = i; print length(a) }"],
    ["/bin/ls", "/nonexistent"],
    ["/bin/bash", "-c", "for i in 1 2 3; do echo $i | tr 123 abc; done; (exit 9)"],
    ["/bin/sh", "-c", "kill -9 $$"],
    ["/bin/bash", "-c", "exec 0<&- 1>&-; exit 3"],
    ["/usr/bin/env", "-i", "/bin/echo", "bare"],
    ["/usr/bin/od", "-c", "/etc/hostname"],
    [
        "/bin/bash",
        "-c",
        "x=$(seq 1000 | sort -r | head -1); echo $x; ulimit -n; cat < /etc/hostname | wc -c; trap "
        "'echo t' EXIT",
    ],
)


def test_commands_are_byte_identical():
    for argv in COMMANDS:
        if os.path.exists(argv[0]):
            check_same(argv, rates=(None, 512))


def test_minimal_environment():
    """Nothing but LD_PRELOAD: the defaults, and silence, even where the port is taken."""
    for _ in range(2):
        done = subprocess.run(
            ["/bin/bash", "-c", "echo hello; echo $((6 * 7)) >&2; exit 4"],
            capture_output=True,
            env={"LD_PRELOAD": harness.agent()},
            timeout=harness.DEADLINE,
        )
        assert (done.returncode, done.stdout, done.stderr) == (4, b"hello\n", b"42\n"), done


def test_make_with_children():
    """A build with many short processes, side by side: the same log, the same products."""
    make = harness.need("make")
    directory = harness.scratch()
    with open(os.path.join(directory, "Makefile"), "w") as file:
        file.write(
            "all: $(foreach n,1 2 3 4 5 6 7 8,f$(n))\n\t@cat f* | sort | md5sum\nf%:\n"
            "\t@sh -c 'seq $* 1000 | tac > $@'\n"
        )
    expected = harness.run([make, "-j2", "-C", directory], plain=True)
    for name in range(1, 9):
        os.unlink(os.path.join(directory, "f%d" % name))
    found = harness.run([make, "-j2", "-C", directory], rate=512)
    assert outcome(found) == outcome(expected), (expected, found)


def test_address_sanitizer_host():
    for flags, extra in (
        (["-static-libasan"], {}),
        ([], {"ASAN_OPTIONS": "verify_asan_link_order=0"}),
    ):
        program = harness.build(
            "conformance.c",
            "-O1",
            "-fno-builtin",
            "-fsanitize=address",
            *flags,
            name="asan_conformance" + "".join(flags).replace("-", "_")
        )
        extra = {
            "ASAN_OPTIONS": extra.get("ASAN_OPTIONS", "")
            + ":allocator_may_return_null=1:detect_leaks=0"
        }
        check_same([program], rates=(None, 1), extra=extra)


def test_valgrind_host():
    valgrind = harness.need("valgrind")
    for program, rates in (
        ([hazards(), "constructors"], (None, 1)),
        ([hazards(), "cancellation"], (None, 1)),
        ([harness.build("stl_threads.cc", "-std=c++17", "-O2")], (1,)),
    ):
        expected = check_same(
            [valgrind, "-q", "--error-exitcode=9"] + program, rates=rates, timeout=180
        )
        assert expected[0] != 9, expected


def test_killed_host_leaves_nothing():
    """SIGKILL at any time during start: no file stays behind in the temporary directories."""
    before = {
        name
        for name in os.listdir("/tmp")
        if "pprofagent" in name and not name.startswith("pprofagent-test-")
    }
    for delay in (0, 0.005, 0.1, 0.11, 0.2):
        process = subprocess.Popen(["/bin/sleep", "30"], env=harness.agent_environment())
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
    after = {
        name
        for name in os.listdir("/tmp")
        if "pprofagent" in name and not name.startswith("pprofagent-test-")
    }
    assert after <= before, after - before


def test_program_with_a_copy_of_the_loaders_variable():
    for flags in (["-O1"], ["-O1", "-no-pie"]):
        expected = check_same([harness.build("stack_end.c", *flags)])
        assert expected[:2] == (0, b"1 1\n"), expected


def test_stacks_of_the_programs_own_making():
    program = harness.build("foreign_stacks.c", "-O1", "-fno-optimize-sibling-calls")
    for mode in ("below_tls", "near_main"):
        assert check_same([program, mode], rates=(1, 4096))[:2] == (0, b"ok\n")


def test_library_that_replaces_some_forms_of_operator_new():
    library = harness.build("array_new.cc", "-O1", "-DLIBRARY", shared=True)
    program = harness.build(
        "array_new.cc",
        "-O1",
        "-Wl,--no-as-needed",
        library,
        "-Wl,-rpath," + library.rsplit("/", 1)[0],
    )
    assert check_same([program], rates=(None, 1, 65536))[:2] == (0, b"ok\n")
    # Over an allocator with an operator new of its own the other forms cannot be sampled: said, not
    # silent.
    host = harness.Host(
        [
            harness.build("aligned_new.cc", "-std=c++17", "-O1", "-fno-optimize-sibling-calls"),
            "1000",
            "100",
            "64",
        ],
        rate=1,
        preload_after=[library, harness.need_library("libjemalloc.so.2")],
    )
    host.ready()
    losses = harness.losses(host.health())
    assert host.finish() == 0
    assert losses.get("heap_lost_unknown_new", 0) >= 1000, losses


def test_agent_opened_at_run_time():
    program = harness.build("open_at_run_time.c", "-O1")
    done = harness.run([program, harness.agent()], plain=True)
    assert (done.returncode, done.stdout) == (0, b"ok\n"), done


def test_jumps_out_of_malloc():
    program = harness.build("jump_out.c", "-O1", "-fno-optimize-sibling-calls")
    for rate in (1, 4096):
        # a stack of 1 MB: at rate 1 each of its allocations walks up to 2,048 frames
        host = harness.Host(
            [program], rate=rate, preexec_fn=harness.limit(resource.RLIMIT_STACK, 1 << 20)
        )
        host.ready()
        profile, losses = host.profile("allocs"), harness.losses(host.health())
        assert host.finish() == 0
        seen = profile.by_function()["afterwards"][0]  # at 4096: standard error 0.19 %
        assert seen == 1000000 if rate == 1 else abs(seen - 1000000) < 10000, (rate, seen, losses)
        if rate == 1:  # every overflow is inside a sampled malloc
            assert losses.get("heap_guards_abandoned") == 20, losses


def test_plugins_taking_turns():
    """More often than the module table has entries: names stay right and nothing grows."""
    plugins = [
        harness.build(
            "plugins_taking_turns.c",
            "-O1",
            "-fno-optimize-sibling-calls",
            "-DNAME=" + name,
            shared=True,
            name=name,
        )
        for name in ("only_in_a", "only_in_b")
    ]
    host = harness.Host(
        [harness.build("plugins_taking_turns.c", "-O1")] + plugins + ["3000"], rate=1
    )
    host.ready()
    sums, health = host.profile("allocs").by_leaf(), host.health()
    assert host.finish() == 0
    assert sums["only_in_a"][0] == sums["only_in_b"][0] == 1500, (
        sums.get("only_in_a"),
        sums.get("only_in_b"),
    )
    assert (
        health["tables"]["stacks"]["used"] < 200 and health["tables"]["modules"]["used"] < 20
    ), health["tables"]
