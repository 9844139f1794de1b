"""Every call of the allocation family, over every allocator, in either preload order: served as
without the agent, counted once."""
import os
import re
import subprocess

import harness
from test_heap_exact import FLAGS, check_leaves, compare, truths

ALLOCATORS = ("libjemalloc.so.2", "libtcmalloc_minimal.so.4", "libmimalloc.so.2")
WITHOUT_PVALLOC = ["without-pvalloc"]  # jemalloc has none


def conformance_output(**environment):
    program = harness.build("conformance.c", "-O1", "-fno-builtin")
    done = harness.run([program], **environment)
    return done.returncode, done.stdout


def check_conformance(libraries, rates):
    expected = conformance_output(plain=True, preload_after=libraries)
    assert expected[0] == 0 and b"contents done\nready\n" in expected[1], expected
    for rate in rates:
        found = conformance_output(rate=rate, preload_after=libraries)
        assert found[0] == 0, "rate %s: exit code %d\n%s" % (rate, found[0], found[1][-500:])
        different = [
            pair
            for pair in zip(expected[1].splitlines(), found[1].splitlines())
            if pair[0] != pair[1]
        ]
        assert found == expected, "rate %s, over %s: without the agent, with it:\n%s" % (
            rate,
            libraries or "glibc",
            "\n".join("%s | %s" % pair for pair in different[:20]),
        )


def test_conformance_over_glibc():
    """Failures, errno, alignment, contents, usable size: the same answers, byte for byte."""
    check_conformance([], (None, 0, 1, 512, 65536))


def test_conformance_over_jemalloc():
    check_conformance([harness.need_library(ALLOCATORS[0])], (None, 1, 512))


def test_conformance_over_tcmalloc():
    check_conformance([harness.need_library(ALLOCATORS[1])], (None, 1, 512))


def test_conformance_over_mimalloc():
    """mimalloc 2.0.9 misaligns some blocks of its own accord; which ones depends on its pages. So
    only: no answer is worse."""
    libraries = [harness.need_library(ALLOCATORS[2])]
    expected = conformance_output(plain=True, preload_after=libraries)
    drop = (
        b"misaligned",
        b"errno was changed",
    )  # its first malloc changes errno: under the agent that one is the loader's
    for rate in (None, 1, 512):
        code, output = conformance_output(rate=rate, preload_after=libraries)
        assert code == 0
        lines = [
            [line for line in text.splitlines() if not any(word in line for word in drop)]
            for text in (expected[1], output)
        ]
        assert lines[0] == lines[1], "rate %s: %s" % (
            rate,
            [pair for pair in zip(*lines) if pair[0] != pair[1]][:10],
        )


def heap_off_reason(host):
    """What health says about the heap profile being off, or None."""
    heap = host.health()["profiles"]["heap"]
    return None if heap["on"] else heap["reason"]


def not_seen(library):
    """mimalloc 3 has a strdup of its own, which does not call malloc."""
    names = subprocess.run(
        ["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True
    ).stdout
    return {"by_strdup"} if re.search(r"\bstrdup\b", names) else set()


def check_exact(argv, may_be_off=False, without=(), **environment):
    host = harness.Host(argv, rate=1, **environment)
    expected = {
        name: values for name, values in truths(host.ready()).items() if name not in without
    }
    reason = heap_off_reason(host)
    if reason:
        assert may_be_off, "heap is off: " + reason
        page = host.text("/debug/pprof/")
        assert reason[:20] in page.replace("&#39;", "'"), (
            "the index page does not say why heap is off: " + reason
        )
        harness.note("off: " + reason)
    else:
        profile = host.profile("heap")
        check_leaves(profile)
        below = {"by_strdup"}
        compare(
            profile,
            {f: v for f, v in expected.items() if f not in below},
            profile.by_leaf(),
            "heap",
        )
        compare(
            profile,
            {f: v for f, v in expected.items() if f in below},
            profile.by_function(),
            "heap",
        )
        lost = harness.losses(host.health())
        assert not lost, "losses: %s" % lost
    assert host.finish() == 0, host.describe()


def test_agent_before_the_allocator():
    for name in ALLOCATORS:
        library = harness.need_library(name)
        check_exact(
            [harness.build("exact.c", *FLAGS)] + WITHOUT_PVALLOC,
            without=not_seen(library),
            preload_after=[library],
        )


def test_agent_after_the_allocator():
    """The program's malloc is then the allocator's own. Either the agent sees it all the same, or
    it says that heap is off and why."""
    for name in ALLOCATORS:
        library = harness.need_library(name)
        check_exact(
            [harness.build("exact.c", *FLAGS)] + WITHOUT_PVALLOC,
            may_be_off=True,
            without=not_seen(library),
            preload_before=[library],
        )


def test_allocator_linked_to_the_program():
    for name in ALLOCATORS:
        library = harness.need_library(name)
        program = harness.build(
            "exact.c", "-Wl,--no-as-needed", "-l:" + os.path.basename(library), *FLAGS
        )
        check_exact([program] + WITHOUT_PVALLOC, without=not_seen(library))


def test_cxx_over_each_allocator():
    """jemalloc's operator new does not call malloc, libstdc++'s does: either way it counts once,
    with the caller of new as the leaf."""
    for name in ALLOCATORS:
        for order in ("preload_after", "preload_before"):
            check_cxx_over(harness.need_library(name), order)


def check_cxx_over(library, order):
    host = harness.Host(
        [
            harness.build("exact_new.cc", "-std=c++17", *FLAGS),
            "without-failing-new" if "mimalloc" in library else "-",
        ],
        rate=1,
        **{order: [library]}
    )
    expected = truths(host.ready())
    if heap_off_reason(host) is None:
        profile = host.profile("heap")
        check_leaves(profile)
        compare(
            profile,
            {f: v for f, v in expected.items() if f != "by_failing_new"},
            profile.by_leaf(),
            library,
        )
    host.go_on()
    host.ready()
    assert host.finish() == 0, host.describe()


def test_jemalloc_own_interface():
    library = harness.need_library("libjemalloc.so.2")
    program = [harness.build("nonstandard.c", *FLAGS), "jemalloc"]
    check_exact(program, preload_after=[library])
    check_exact(program, may_be_off=True, preload_before=[library])


def test_tcmalloc_own_interface():
    library = harness.need_library("libtcmalloc_minimal.so.4")
    program = [harness.build("nonstandard.c", *FLAGS), "tcmalloc"]
    check_exact(program, preload_after=[library])
    check_exact(program, may_be_off=True, preload_before=[library])


def test_allocator_inside_the_program():
    """Runs unharmed, at every rate; the index page and health say why heap is off."""
    program = harness.build("own_allocator.c", "-O1", "-fno-builtin", "-rdynamic")
    expected = harness.run([program], plain=True)
    assert expected.returncode == 0 and b"yes" in expected.stdout, expected
    for rate in (1, 512, None):
        done = harness.run([program], rate=rate)
        assert (done.returncode, done.stdout, done.stderr) == (
            expected.returncode,
            expected.stdout,
            expected.stderr,
        ), done
    host = harness.Host([program], rate=1)
    host.ready()
    reason = heap_off_reason(host)
    assert reason, "health does not say that heap is off: %s" % host.health()
    page = host.text("/debug/pprof/")
    assert reason[:20] in page.replace("&#39;", "'"), "the index page does not say why heap is off"
    harness.note(reason)
    status, _, body = host.get("heap")
    assert status == 503 and reason in body.decode(), (status, body)
    assert host.finish() == 0


def test_allocator_inside_the_program_not_exported():
    """Without -rdynamic the loader knows nothing of it: libraries use glibc's malloc, the program
    its own. Both go on as before."""
    program = harness.build("own_allocator.c", "-O1", "-fno-builtin", name="own_allocator_hidden")
    expected = harness.run([program], plain=True)
    for rate in (1, None):
        done = harness.run([program], rate=rate)
        assert (done.returncode, done.stdout, done.stderr) == (
            expected.returncode,
            expected.stdout,
            expected.stderr,
        ), done


def test_symbols_that_the_host_looks_for_by_name():
    """A host that asks whether jemalloc's or tcmalloc's calls exist must get the answer that it
    would get without the agent."""
    program = harness.build("symbol_presence.c", "-O1")
    expected = harness.run([program], plain=True)
    done = harness.run([program])
    assert done.stdout == expected.stdout, "without the agent:\n%s\nwith it:\n%s" % (
        expected.stdout.decode(),
        done.stdout.decode(),
    )
