"""Hosts that wrappers of locks are known to break: locks in allocators, the loader, signal
handlers, before main, in forked children, on small stacks, in sandboxes; other wrappers and other
tools beside the agent. Each runs as it does without the agent (lockhaz.c, one mode a test)."""
import os

import harness
from test_hazards import check_same, difference, outcome

EVERYTHING = {"PPROFAGENT_BLOCKPROFILERATE": "1", "PPROFAGENT_MUTEXPROFILEFRACTION": "1"}
NOTHING = {"PPROFAGENT_BLOCKPROFILERATE": "0", "PPROFAGENT_MUTEXPROFILEFRACTION": "0"}
RATES = (EVERYTHING, {}, NOTHING)


def hazards():
    return harness.build("lockhaz.c", "-O1")


def check(argv, contains, rates=RATES, extra=None, **options):
    """As without the agent at every rate of the lock profiles; and without it the program says what
    it is to say."""
    for rate in rates:
        expected = check_same(argv, rates=(None,), extra=dict(rate, **(extra or {})), **options)
        assert expected[0] == 0 and contains in expected[1], expected


def check_mode(mode, contains, *arguments, **options):
    check([hazards(), mode] + list(arguments), contains, **options)


def test_posts_from_a_timers_handler():
    check_mode("signal_posts", b"every post was taken: yes")


def test_fork_in_the_midst_of_contention():
    check_mode(
        "fork_in_contention",
        b"300 of 300 children well, handlers 200 200 0",
        rates=(EVERYTHING, {}),
    )


def test_locks_in_destructors_of_threads():
    check_mode("thread_ends", b"destructors 1440, counted 1440")
    check(
        [harness.build("lockhaz_sanitized.cc", "-std=c++17", "-O1")],
        b"counted 6000, destroyed 6, timeout 1, future 5",
    )


def test_smallest_stacks():
    check_mode("small_stacks", b"counted 16000")


def test_signal_handlers_on_smallest_stacks():
    check_mode("small_stacks_and_signals", b"many signals: yes")


def test_both_versions_of_condition_variables():
    check_mode("versions", b"turns 6000, the object is a pointer: 1")


def test_jumps_cost_and_change_nothing():
    check_mode("jumps", b"sum 3999997")
    check([harness.build("lockhaz.c", "-O2", "-D_FORTIFY_SOURCE=2"), "jumps"], b"sum 3999997")


def test_seccomp_strict():
    check_mode("seccomp_strict", b"strict mode survived")


def test_filter_that_kills_whoever_reads_the_clock():
    check_mode("seccomp_filter", b"filter survived")


def test_waits_in_the_loader():
    """IFUNC resolvers, constructors, callbacks of dl_iterate_phdr: loaded at run time, linked,
    preloaded; lazily bound and at once."""
    library = harness.build("lockhaz_library.c", "-O1", shared=True)
    plain = harness.build("lockhaz_library.c", "-O1", "-DNO_IFUNC", shared=True)
    linked = harness.build(
        "lockhaz.c",
        "-O1",
        "-Wl,--no-as-needed",
        library,
        "-Wl,-rpath," + os.path.dirname(library),
        name="lockhaz_linked",
    )
    for extra in ({}, {"LD_BIND_NOW": "1"}):
        check_mode("loader", b"loaded", library, plain, rates=(EVERYTHING, {}), extra=extra)
        check([linked, "everything"], b"consumed 20000", rates=(EVERYTHING, {}), extra=extra)
        for order in ("preload_before", "preload_after"):
            check_mode(
                "everything",
                b"consumed 20000",
                rates=(EVERYTHING,),
                extra=extra,
                **{order: [library]}
            )
            check_same(
                ["/bin/ls", "/"],
                rates=(None,),
                extra=dict(EVERYTHING, **extra),
                **{order: [library]}
            )


def test_allocators_that_lock():
    """One whose every call takes a pthread mutex; jemalloc, tcmalloc and mimalloc; at heap rate 1
    too."""
    allocators = [harness.build("lockhaz_malloc.c", "-O1", "-fno-builtin", shared=True)]
    allocators += [
        os.path.join(harness.LIBRARIES, name)
        for name in ("libjemalloc.so.2", "libtcmalloc_minimal.so.4", "libmimalloc.so.2.0")
    ]
    for allocator in allocators:
        if not os.path.exists(allocator):
            harness.note(allocator + " is not installed")
            continue
        for order in ("preload_before", "preload_after"):
            for rate in (None, 1):
                expected = check_same(
                    [hazards(), "everything"],
                    rates=(rate,),
                    extra=EVERYTHING,
                    **{order: [allocator]}
                )
                assert expected[0] == 0 and b"consumed 20000" in expected[1], expected
    check_same(
        [
            "/usr/bin/python3",
            "-c",
            "import threading; t = [threading.Thread(target=print) for _ in range(9)]; [x.start() "
            "for x in t]",
        ],
        rates=(1,),
        extra=EVERYTHING,
        preload_after=[allocators[0]],
    )


def test_another_library_that_wraps_locks():
    wrapper = harness.build("lockhaz_wrapper.c", "-O1", shared=True)
    for order in ("preload_before", "preload_after"):
        for mode, contains in (
            ("everything", b"wrapped calls: many"),
            ("thread_ends", b"counted 1440"),
            ("versions", b"turns 6000"),
        ):
            check_mode(
                mode,
                contains,
                rates=(EVERYTHING,),
                extra={"LOCKHAZ_COUNTS": "1"},
                **{order: [wrapper]}
            )


def test_mutrace_beside_the_agent():
    library = next(
        (
            path
            for path in ("/usr/lib/mutrace/libmutrace.so", harness.LIBRARIES + "/libmutrace.so")
            if os.path.exists(path)
        ),
        None,
    )
    if library is None:
        raise harness.Skip("mutrace is not installed")
    for order in ("preload_before", "preload_after"):
        expected, found = (
            harness.run(
                [hazards(), "everything"], plain=plain, extra=EVERYTHING, **{order: [library]}
            )
            for plain in (True, False)
        )
        assert (found.returncode, found.stdout) == (expected.returncode, expected.stdout), (
            expected,
            found,
        )


def test_every_setting_may_be_read_before_libc_is_ready():
    """By a call of malloc's in an IFUNC resolver, when nothing of libc works that needs its
    locale."""
    library = harness.build("lockhaz_library.c", "-O1", shared=True)
    argv = [hazards(), "everything"]
    dumps = harness.scratch()
    settings = """ADDR=127.0.0.1:0 MEMPROFILERATE=1 BLOCKPROFILERATE=1 MUTEXPROFILEFRACTION=1
        CPUPROFILERATE=9 CPU=auto STACKDEPTH=99 SYMBOL_MEMORY=64M TRACE_BUFFER=16M FLIGHT=1.5s
        CHILDREN=all ALLOW_UIDS=1 ORIGINS=http://a TLS_ADDR=:6443 TLS_CERT=x DUMP=x
        DUMP_ON=exit,interval:1.5m,rss:2G,peak:20%,oom DUMP_PROFILES=heap DUMP_KEEP=9"""
    expected = harness.run(argv, plain=True)
    for setting in settings.split():
        name, _, value = setting.partition("=")
        for given in (value, "x" + value):
            extra = {"PPROFAGENT_DUMP": dumps, "PPROFAGENT_" + name: given}
            found = harness.run(argv, preload_before=[library], extra=extra, cwd=dumps)
            assert outcome(found) == outcome(expected), (name, given)


def test_valgrind():
    valgrind = harness.need("valgrind")
    for program in (
        [hazards(), "everything"],
        [harness.build("lockhaz_sanitized.cc", "-std=c++17", "-O1")],
    ):
        expected = check_same(
            [valgrind, "-q", "--fair-sched=yes", "--error-exitcode=9"] + program,
            rates=(None,),
            timeout=180,
            extra=EVERYTHING,
        )
        assert expected[0] == 0, expected


def check_sanitized(kind, extra):
    """The agent leaves such hosts alone, as they wrap locks themselves: nothing is reported that is
    not reported without it."""

    def program(source, *flags):
        return harness.build(
            source,
            "-O1",
            "-fsanitize=" + kind,
            *flags,
            name="%s_%s" % (kind, source.replace(".", "_"))
        )

    for argv in (
        [program("lockhaz.c"), "everything"],
        [program("lockhaz.c"), "thread_ends"],
        [program("lockhaz_sanitized.cc", "-std=c++17")],
    ):
        expected = outcome(harness.run(argv, plain=True, extra=extra))
        if b"FATAL: " in expected[2]:
            raise harness.Skip(
                "the sanitizer does not run here: " + expected[2].decode(errors="replace")[:100]
            )
        assert expected[0] == 0, expected
        for rate in (EVERYTHING, {}):
            found = outcome(harness.run(argv, timeout=harness.DEADLINE, extra=dict(extra, **rate)))
            assert found == expected, "%s, %s\n%s" % (argv, kind, difference(expected, found))


def test_address_sanitizer():
    check_sanitized("address", {"ASAN_OPTIONS": "verify_asan_link_order=0:detect_leaks=0"})


def test_thread_sanitizer():
    check_sanitized("thread", {"TSAN_OPTIONS": "exitcode=66"})


def test_profiles_interrupt_no_waits():
    """EINTR of sem_timedwait and futexes under a CPU profile, beside a thread that uses the CPU."""
    expected = harness.run([hazards(), "interrupted_waits"], plain=True, stdin=b"\n\n")
    assert expected.stdout == b"ready\ninterrupted 0\nready\n", expected
    host = harness.Host(
        [hazards(), "interrupted_waits"], **harness.by_timers({"extra": EVERYTHING})
    )
    host.ready()
    host.go_on()
    profile = host.profile("profile?seconds=2&hz=1000")
    assert host.ready(60) == ["interrupted 0"]
    assert profile.total()[0] > 100, profile.total()
    assert host.finish() == 0
