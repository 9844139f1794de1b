"""PPROFAGENT_CHILDREN and exec: with fork or none what a program executes finds the environment
that it would find without the agent, but for PPROFAGENT_*; only our own entry of LD_PRELOAD is ever
edited, and with all nothing is."""
import os
import re
import shutil
import subprocess

import harness

WAYS = 18  # of exec_environment.c


def program():
    return harness.build("exec_environment.c", "-O1")


def other_preloads():
    """Two libraries that do nothing to a program, one that changes the environment in its
    constructor."""
    wrapper = harness.build("preload_wrapper.c", "-O1", shared=True)
    copy = os.path.join(harness.scratch(), "libpprofagent.so.2")
    shutil.copy(wrapper, copy)
    return wrapper, copy, harness.build("exec_environment.c", "-DLIBRARY", shared=True)


def environment(libraries, children, **extra):
    """Of a host; libraries: the text of LD_PRELOAD, or None."""
    made = harness.agent_environment(
        plain=True, address="off", extra=dict(extra, PPROFAGENT_CHILDREN=children)
    )
    made["LOOK_FOR"] = "libpprofagent.so,preload_wrapper"
    if libraries is not None:
        made["LD_PRELOAD"] = libraries
    return made


def outcome(argv, variables, own_fields=()):
    done = subprocess.run(
        argv, env=variables, capture_output=True, stdin=subprocess.DEVNULL, timeout=harness.DEADLINE
    )
    lines = (
        [line for line in done.stdout.splitlines() if not line.startswith(tuple(own_fields))]
        if own_fields
        else done.stdout
    )
    return done.returncode, lines, done.stderr


def check_as_plain(argv, plain_libraries, libraries, children, must_contain=None, **extra):
    """stdout, stderr and exit code of a run without our entry; stdout shows the environment of what
    argv executes."""
    expected = outcome(argv, environment(plain_libraries, children, **extra))
    found = outcome(argv, environment(libraries, children, **extra))
    assert expected[0] == 0 and (must_contain is None or must_contain(expected[1])), expected
    assert found == expected, "%s, LD_PRELOAD=%s, children %s:\n%s" % (
        argv,
        libraries,
        children,
        "\n".join(
            sorted(
                set(map(repr, found[1].splitlines() + found[2].splitlines()))
                ^ set(map(repr, expected[1].splitlines() + expected[2].splitlines()))
            )
        ),
    )
    return expected


def test_every_way_to_exec():
    for children in ("fork", "none"):
        expected = check_as_plain([program(), "all"], None, harness.agent(), children)
        assert (
            len(re.findall(rb"^-- ", expected[1], re.M)) == WAYS
            and expected[1].count(b"libpprofagent.so is absent") == WAYS
        ), expected
        assert b"LD_PRELOAD" not in expected[1]
        check_as_plain([program(), "replaced"], None, harness.agent(), children)


def test_all_touches_nothing():
    """Not even separators that stand for nothing; what is executed has the agent again."""
    agent, (wrapper, _, _) = harness.agent(), other_preloads()
    for text in (
        agent,
        ":%s :" % agent,
        "%s: :%s" % (agent, wrapper),
        "%s %s::" % (wrapper, agent),
    ):
        for children in ("all", "", "nonsense"):
            code, output, errors = outcome([program(), "all"], environment(text, children))
            assert (code, errors) == (0, b""), (code, errors)
            assert output.count(b"\nLD_PRELOAD=%s\n" % text.encode()) == WAYS, output
            assert output.count(b"libpprofagent.so is mapped") == WAYS, output


def test_other_preloads_stay():
    agent = harness.agent()
    wrapper, copy, constructor = other_preloads()
    for before, after in (
        (wrapper, ()),
        ((), wrapper),
        (wrapper, copy),
        ((), constructor),
        (constructor, ()),
    ):
        before, after = [
            [item] if isinstance(item, str) else list(item) for item in (before, after)
        ]
        check_as_plain(
            [program(), "all"],
            ":".join(before + after),
            ":".join(before + [agent] + after),
            "fork",
            REMOVED_BY_CONSTRUCTOR="1",
        )
    for plain, text in (
        ("%s %s" % (wrapper, copy), "%s %s %s" % (wrapper, agent, copy)),
        (wrapper + ":", "%s::%s" % (wrapper, agent)),
        (":" + wrapper, ":%s:%s" % (agent, wrapper)),
        (wrapper, "%s:%s:%s" % (agent, wrapper, agent)),
    ):
        expected = check_as_plain([program(), "all"], plain, text, "none")
        assert expected[1].count(b"preload_wrapper is mapped") == WAYS, expected
        assert expected[1].count(b"LD_PRELOAD=%s\n" % plain.encode()) == WAYS, expected


def test_library_found_by_name_or_link():
    """LD_PRELOAD may say a bare name (LD_LIBRARY_PATH), a relative path or a link of another
    name."""
    directory = harness.scratch()
    os.symlink(harness.agent(), os.path.join(directory, "libpprofagent.so"))
    os.symlink(harness.agent(), os.path.join(directory, "profiler.so"))
    for text in (
        "libpprofagent.so",
        os.path.join(directory, "libpprofagent.so"),
        os.path.join(directory, "profiler.so"),
    ):
        check_as_plain([program(), "all"], None, text, "fork", LD_LIBRARY_PATH=directory)
    done = subprocess.run(
        [program(), "all"],
        cwd=directory,
        env=environment("./profiler.so", "none"),
        capture_output=True,
    )
    assert done.returncode == 0 and b"LD_PRELOAD" not in done.stdout, done


PYTHON = """
import os, subprocess, sys
show = [%r, "print"]
sys.stdout.write("".join("%%s=%%s\\n" %% item for item in os.environ.items()))
sys.stdout.flush()
subprocess.run(show, check=True)                                    # vfork and exec
subprocess.run(show, check=True, preexec_fn=lambda: None)           # fork and exec
subprocess.run(show, check=True, close_fds=False)                   # posix_spawn, for some versions
subprocess.run(show, check=True, env=dict(os.environ, MORE="1"))
assert os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn(show[0], show, os.environ), 0)[1]) == 0
assert os.system("%%s print" %% show[0]) == 0
os.execve(show[0], show, os.environ)
"""


BASH_CHANGING = "\\|".join(
    "BASHPID PPID _ BASH_ARGV.* SRANDOM RANDOM EPOCH.* SECONDS LINENO".split()
)  # of bash's own variables


def test_real_programs_that_exec():
    agent, (wrapper, _, _) = harness.agent(), other_preloads()
    show = program() + " print"
    commands = [
        ["/bin/sh", "-c", show + "; env; exec " + show],
        ["/bin/bash", "-c", show + "; env; export -p; (%s); set; exec %s" % (show, show)],
        ["/usr/bin/env", program(), "print"],
        ["/usr/bin/env"],
        ["/usr/bin/env", "-u", "HOME", "A=1", "/bin/sh", "-c", show],
        ["/usr/bin/xargs", program(), "print"],
        ["/usr/bin/find", "/etc/hostname", "-exec", program(), "print", ";"],
        ["/usr/bin/timeout", "50", program(), "print"],
        ["/usr/bin/nice", program(), "print"],
        ["/usr/bin/python3", "-c", PYTHON % program()],
        [
            "/usr/bin/perl",
            "-e",
            "system('%s'); print map { \"$_=$ENV{$_}\\n\" } sort keys %%ENV; exec '%s'"
            % (show, show),
        ],
    ]
    makefile = os.path.join(harness.scratch(), "Makefile")
    with open(makefile, "w") as file:
        file.write(
            "all:\n\t@%s\n\t@env\n\t@$(MAKE) -f %s again\nagain:\n\t@%s\n" % (show, makefile, show)
        )
    commands.append(["/usr/bin/make", "-f", makefile])
    for argv in commands:
        if not os.path.exists(argv[0]):
            continue
        for plain, text in ((None, agent), (wrapper, agent + ":" + wrapper)):
            fixed = dict(PYTHONHASHSEED="0", PERL_HASH_SEED="0")
            if argv[0] == "/bin/bash":
                argv = argv[:2] + [
                    argv[2].replace("set;", "set | grep -v '^\\(%s\\)=';" % BASH_CHANGING)
                ]
            check_as_plain(
                argv, plain, text, "fork", must_contain=lambda output: b"PATH=" in output, **fixed
            )


def test_bare_environment():
    """env -i with nothing but LD_PRELOAD and the variable: the child's environment is empty but for
    that."""
    arguments = ["/usr/bin/env", "-i", "LD_PRELOAD=" + harness.agent(), "PPROFAGENT_ADDR=off"]
    for children, expected in (
        ("none", [b"PPROFAGENT_ADDR=off", b"PPROFAGENT_CHILDREN=none"]),
        ("fork", [b"PPROFAGENT_ADDR=off", b"PPROFAGENT_CHILDREN=fork"]),
    ):
        done = subprocess.run(
            arguments + ["PPROFAGENT_CHILDREN=" + children, "/usr/bin/env", "/usr/bin/env"],
            env={},
            capture_output=True,
        )
        assert (done.returncode, done.stderr, done.stdout.split()) == (0, b"", expected), done
    done = subprocess.run(
        [
            "/usr/bin/env",
            "-i",
            "PPROFAGENT_CHILDREN=none",
            "PPROFAGENT_ADDR=off",
            "LD_PRELOAD=" + harness.agent(),
            program(),
            "all",
        ],
        env={},
        capture_output=True,
    )
    plain = subprocess.run(
        ["/usr/bin/env", "-i", "PPROFAGENT_CHILDREN=none", "PPROFAGENT_ADDR=off", program(), "all"],
        env={},
        capture_output=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (
        plain.returncode,
        plain.stdout,
        plain.stderr,
    ) and plain.returncode == 0, (done, plain)
    # Several variables of that name, as only execve(2) can make them.
    lines = (
        b"A=1\nLD_PRELOAD=%s\nB=2\nLD_PRELOAD=%s:\nPPROFAGENT_CHILDREN=fork\nPPROFAGENT_ADDR=off\n"
        b"C=3" % ((harness.agent().encode(),) * 2)
    )
    helper = harness.build("exec_with.c", "-O1")
    done = subprocess.run([helper, program(), "replaced"], input=lines, env={}, capture_output=True)
    assert (done.returncode, done.stdout) == (
        0,
        b"A=1\nB=2\nPPROFAGENT_CHILDREN=fork\nPPROFAGENT_ADDR=off\nC=3\n",
    ), done


def test_nothing_left_in_proc():
    """What /proc/PID/environ shows of the host itself: our entry is gone, the rest of the string
    with it, no half of a path is left."""
    wrapper = other_preloads()[0]
    done = subprocess.run(
        ["/bin/cat", "/proc/self/environ"],
        env=environment(harness.agent() + ":" + wrapper, "none"),
        capture_output=True,
    )
    parts = [part for part in done.stdout.split(b"\0") if part]
    assert b"LD_PRELOAD=" + wrapper.encode() in parts and all(b"=" in part for part in parts), parts
    assert not [
        part for part in parts if harness.agent().encode() in part and not part.startswith(b"LD_")
    ], parts
