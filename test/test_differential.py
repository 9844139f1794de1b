"""Programs find the same under the agent, idle and while all of its pages are fetched, as without
it (differential.py). make test runs part of our own cases; SOAK=1 all, and other people's tests and
programs, and writes the table of docs/do-no-harm.md."""
import datetime
import functools
import hashlib
import json
import os
import platform
import textwrap

import differential
import differential_programs as programs
import differential_roots as roots
import harness

DOCUMENT = os.path.join(harness.ROOT, "docs", "do-no-harm.md")
SLOW = ("tsync_kill_long", "storm", "rttime", "rttime_inherited", "cpu_time", "waits")
MUCH_THE_SAME = ("clone3_", "libc_new", "syscall_new", "raw_", "inline_set", "setns_")
QUICK_AT_START = {
    name + " at start"
    for name in ("syscall_none", "libc_none", "vm_set_ids", "storm", "libc_drop", "unshare_user")
}
SOAK = {
    "system_calls_" + name: functools.partial(programs.subject, name) for name in programs.SUBJECTS
}
SOAK.update(
    (name.replace("test_", "cpython_"), functools.partial(programs.cpython, name))
    for name in programs.CPYTHON
)
SOAK.update(
    tools=programs.tools,
    qemu=programs.qemu,
    containers=roots.containers,
    python_fork_warnings=roots.python_fork,
    browsers=programs.browsers,
    stress_ng=programs.stress_ng,
)
KEPT = os.path.join(harness.BUILD, "test", "soak")  # what each program's run has found
COUNTED = "the kernel counts the agent's thread"
INLINE = (
    "nobody sees a system call by an instruction of the program's own; its other threads' "
    "credentials stay what they were, as they would with a thread of the program's"
)
# Differences that stay, and why: docs/limits.md.
KNOWN = {
    "nproc_2": COUNTED + "s: RLIMIT_NPROC leaves room for as many less",
    "nproc_20": COUNTED + "s: RLIMIT_NPROC leaves room for as many less",
    "session_to_parent": COUNTED + ": KEYCTL_SESSION_TO_PARENT wants a parent with one",
    "keyctl new_session": COUNTED + ": KEYCTL_SESSION_TO_PARENT wants a parent with one",
    **{"inline_" + call: INLINE for call in ("setuid", "setresuid", "setresgid", "setgroups")},
    "reads": "a signal ends a large read early, and CPU samples by timers (PPROFAGENT_CPU=timer, "
    "as here, or where the kernel gives no rings) are signals",
    "memlock_all": "MCL_CURRENT is refused where all that is mapped, the library's 3.9 MB too, is "
    "more than RLIMIT_MEMLOCK",
    "fork, forkpty, subprocess": "while a client is connected the agent's threads stay, and Python "
    "3.12 and later warns of a fork beside them",
}


def case_of(test):
    """What holds for a case holds at the start and in a child."""
    return test.removesuffix(" at start").removesuffix(" in a child")


def check(found):
    for way in found.ways:
        harness.note(
            "%s, %s: %d tests, %d differ; %d pages fetched"
            % (found.name, way, len(found.expected), len(found.differ[way]), found.answers[way])
        )
    lines = [
        "%s, %s, %s: %s" % (found.name, way, test, how)
        for test, way, how in found.report()
        if case_of(test) not in KNOWN
    ]
    assert not lines, "%d differ\n%s" % (len(lines), "\n".join(lines))
    assert found.answers.get("fetched", 1), found.name + ": no page was fetched"


def is_quick(test):
    if test in QUICK_AT_START:
        return True
    return " " not in test and test not in SLOW and not test.startswith(MUCH_THE_SAME)


def quick(name):
    if os.environ.get("SOAK"):
        raise harness.Skip("SOAK=1 runs all cases")
    program = programs.subject(name)
    check(differential.Differences(program, only=set(filter(is_quick, program.tests))))


def soak(name):
    if not os.environ.get("SOAK"):
        raise harness.Skip("SOAK=1")
    found = {"library": library_mark()}
    try:
        program = SOAK[name]()
        difference = differential.Differences(program)
        found["left_out"] = {
            "%s: %s" % (program.name, part): reason for part, reason in program.left_out.items()
        }
        found["name"], found["row"] = program.name, row(difference)
        found["differ"] = list(difference.report())
        check(difference)
    except harness.Skip as reason:
        found["left_out"] = {name.replace("_", " "): str(reason)}
        raise
    except BaseException as fault:
        found.setdefault(
            "left_out", {name.replace("_", " "): "its run failed: %s" % (str(fault).split("\n")[0])}
        )
        raise
    finally:
        keep(name, found)


def define(name, function, argument):
    def test():
        function(argument)

    test.__name__ = name
    globals()[name] = test


for each in programs.SUBJECTS[:-1]:  # the last takes its time
    define("test_quick_" + each, quick, each)
for each in SOAK:
    define("test_soak_" + each, soak, each)


# ---- the table -----------------------------------------------------------------------------------

HEAD = """\
# What programs notice of the agent
Written by `make soak`. Each program's tests were run without the agent, under an agent that nobody
asked (idle) and under one of which every page was fetched in a loop (fetched); a test counts as
different where its outcomes were none that it has without the agent or with an empty preload, or
where it crashed or hung once and never without.

%s, Linux %s, %s; %s.

| Program | tests | differ, idle | differ, fetched | pages fetched \
| vary without it | by any preload |
|---|---|---|---|---|---|---|
"""


def library_mark():
    with open(harness.agent(), "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def keep(name, found):
    os.makedirs(KEPT, exist_ok=True)
    with open(os.path.join(KEPT, name + ".json"), "w") as file:
        json.dump(found, file)


def kept():
    """{name: what was found} of the programs that were run with this very library."""
    found = {}
    for name in SOAK:
        path = os.path.join(KEPT, name + ".json")
        if os.path.exists(path):
            with open(path) as file:
                one = json.load(file)
            if one["library"] == library_mark():
                found[name] = one
    return found


def row(found):
    return "| %s | %d | %d | %d | %d | %d | %d |\n" % (
        found.name,
        len(found.expected),
        *[len(found.differ[way]) for way in found.ways],
        found.answers["fetched"],
        len(found.varying),
        len(set().union(*found.any_preload.values())),
    )


def differences(found):
    """A line for each case, with what its first test that differs has found."""
    cases = {}
    for test, way, how in found.get("differ", ()):
        cases.setdefault(case_of(test), []).append((test, way, how))
    for name, seen in cases.items():
        ways = " and ".join(dict.fromkeys(way for _, way, _ in seen))
        forms = dict.fromkeys(test.removeprefix(name).strip() or "as it is" for test, _, _ in seen)
        reason = " Why: %s." % KNOWN[name] if name in KNOWN else ""
        text = "**%s: %s** (%s; %s): %s.%s" % (
            found["name"],
            name,
            ways,
            ", ".join(forms),
            seen[0][2],
            reason,
        )
        yield textwrap.fill(
            text,
            100,
            initial_indent="- ",
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        ) + "\n"


def table(results):
    with open("/etc/os-release") as file:
        system = next(
            line.split("=")[1].strip().strip('"') for line in file if line.startswith("PRETTY_NAME")
        )
    lines = [
        HEAD % (system, platform.release(), platform.machine(), datetime.date.today().isoformat())
    ]
    lines += [found["row"] for found in results.values() if "row" in found]
    left_out = [
        "- %s: %s.\n" % (part, reason.rstrip("."))
        for found in results.values()
        for part, reason in found["left_out"].items()
    ]
    lines += ["\n## Not run\n"] * bool(left_out) + left_out
    differ = [line for found in results.values() for line in differences(found)]
    lines += ["\n## Differences\n"] * bool(differ) + differ
    return "".join(lines)


def test_table_is_written():
    if not os.environ.get("SOAK"):
        raise harness.Skip("SOAK=1")
    results = kept()
    missing = set(SOAK) - set(results)
    assert not missing, "no results of %s: make soak TESTS=test_differential" % sorted(missing)
    os.makedirs(os.path.dirname(DOCUMENT), exist_ok=True)
    with open(DOCUMENT, "w") as file:
        file.write(table(results))
