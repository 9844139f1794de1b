"""What the agent costs where processes come and go: exec of programs that do nothing, forks of
children that soon end, builds.

Each is measured plain, with the agent, with an empty preload and with preloads that have a sleeping
thread (sleeper.c: a pthread, a bare clone), all in one run. On a loaded machine wall time tells of
the load. alone: the program is the first of its
tree; member: what started it is preloaded too and holds the port. `fork`: 10,000 forks. `make -j2`:
forty tiny sources, and half of this library's own; what they build is compared byte by byte.
"""
import filecmp
import glob
import os
import resource
import shutil
import subprocess
import tempfile
import time

import harness
from comparison import PLAIN, ROUNDS, beside, heading_beside, row_beside, together, tool, wanted

FORKS, SOURCES = 10000, 40
REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def is_listening(port):
    with open("/proc/net/tcp") as file:  # asking it would make it work
        return any(
            line.split()[1].endswith(":%04X" % port) and line.split()[3] == "0A"
            for line in file.readlines()[1:]
        )


def run(setup, port, command, member=False):
    """The numbers that spawner, or the program that it ran, prints first."""
    driver = subprocess.Popen(
        [tool("spawner")] + command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=dict(setup.environment("LD_PRELOAD" if member else "SPAWN_PRELOAD"), SPAWN_WAIT="1"),
    )
    if member and setup.preload == harness.agent():
        harness.poll(lambda: is_listening(port), "an agent at port %d" % port)
    out, _ = driver.communicate(b"\n")
    assert driver.returncode == 0, (command, driver.returncode)
    return [float(word) for word in out.split()]


PLACES = {"alone": False, "member": True}
TIMES = ("wall time", "CPU time")  # as spawner and forker print them


def bench_exec():
    command = ["200", "/bin/true"]
    names = {
        "exec /bin/true, %s, %s" % (what, place): (command, column, ROUNDS, member)
        for column, what in enumerate(TIMES)
        for place, member in PLACES.items()
    }
    gcc = ["40", "gcc", "-c", tool("tiny.c"), "-o", "/dev/null"]
    names.update(
        {
            "exec forty tiny gcc runs, CPU time, " + place: (gcc, 1, max(3, ROUNDS // 2), member)
            for place, member in PLACES.items()
        }
    )
    names = {name: value for name, value in names.items() if wanted(name)}
    if not names:
        return
    with open(tool("tiny.c"), "w") as file:
        file.write("int main(void) { return 0; }\n")
    port = harness.free_port()
    heading_beside("exec", "us")
    for name, (command, column, rounds, member) in names.items():
        row_beside(
            name,
            "%.0f",
            together(
                rounds,
                beside("127.0.0.1:%d" % port),
                lambda setup: run(setup, port, command, member)[column],
            ),
        )


def bench_fork():
    names = {
        "fork%s, %s, %s" % (size, what, place): (megabytes, column, member)
        for size, megabytes in (("", 0), (" of 100 MB", 100))
        for column, what in enumerate(TIMES)
        for place, member in PLACES.items()
    }
    names = {name: value for name, value in names.items() if wanted(name)}
    if not names:
        return
    port = harness.free_port()
    heading_beside("%d forks" % FORKS, "us")
    for name, (megabytes, column, member) in names.items():
        command = ["1", tool("forker"), str(FORKS // (10 if megabytes else 1)), str(megabytes)]
        row_beside(
            name,
            "%.0f",
            together(
                max(3, ROUNDS // 2),
                beside("127.0.0.1:%d" % port),
                lambda setup: run(setup, port, command, member)[column],
            ),
        )


# ---- make -j2 ------------------------------------------------------------------------------------


def write_project(directory):
    names = ["part%02d" % number for number in range(SOURCES)]
    for number, name in enumerate(names):
        with open(os.path.join(directory, name + ".c"), "w") as file:
            file.write(
                "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"
                "#include \"parts.h\"\n"
            )
            for function in range(12):
                file.write(
                    "static int step%d(int x) {\n  char text[64];\n  for (int i = 0; i < %d; i++)\n"
                    "    x = x * %d + (int)strlen(text + snprintf(text, 64, \"%%d\", x) %% 2);\n"
                    "  return x;\n}\n" % (function, function + 3, number * 2 + 3)
                )
            file.write(
                "int %s(int x) { return %s; }\n"
                % (name, " + ".join("step%d(x)" % function for function in range(12)))
            )
    with open(os.path.join(directory, "parts.h"), "w") as file:
        file.writelines("int %s(int);\n" % name for name in names)
    with open(os.path.join(directory, "main.c"), "w") as file:
        calls = " ^ ".join("%s(%d)" % (name, number) for number, name in enumerate(names))
        file.write(
            "#include <stdio.h>\n#include \"parts.h\"\nint main(void) { printf(\"%%d\\n\", %s); }\n"
            % calls
        )
    with open(os.path.join(directory, "Makefile"), "w") as file:
        objects = " ".join("%s.o" % name for name in names + ["main"])
        file.write(
            "program: %s\n\t$(CC) -o $@ $^\n\t@./program | tr 0-9 a-j\n%%.o: %%.c parts.h\n"
            "\t@echo compile $<; $(CC) -O1 -c -o $@ $<\n" % objects
        )


def write_tiny(sources):
    write_project(sources)
    return ["make", "-j2", "-Otarget", "--no-print-directory"]


def write_own(sources):
    """This library's shim, and what the build has fetched and generated for it."""
    for name in ("Makefile", "shim", "agent", "proto", "scripts"):
        path = os.path.join(REPOSITORY, name)
        (shutil.copytree if os.path.isdir(path) else shutil.copy2)(
            path, os.path.join(sources, name)
        )
    for name in ("deps", "gen"):
        os.symlink(os.path.join(harness.BUILD, name), os.path.join(sources, name))
    shim = sorted(glob.glob("shim/**/*.c", root_dir=sources, recursive=True))
    return ["make", "-s", "-j2", "BUILD=."] + ["./obj/%s.o" % name[:-2] for name in shim]


def build_project(setup, command, sources, keep):
    """(wall, CPU seconds). keep: products and output go there."""
    shutil.rmtree(keep, ignore_errors=True)
    shutil.copytree(sources, keep, symlinks=True)
    cpu = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    started, cpu_before = time.monotonic(), cpu()
    done = subprocess.run(
        command, cwd=keep, env=setup.environment(), capture_output=True, stdin=subprocess.DEVNULL
    )
    seconds = time.monotonic() - started, cpu() - cpu_before
    assert done.returncode == 0, done
    with open(os.path.join(keep, "output"), "wb") as file:
        file.write(b"\n".join(sorted(done.stdout.splitlines())) + done.stderr)  # -j2: in any order
    return seconds


def files_below(directory):
    return sorted(
        os.path.relpath(os.path.join(path, name), directory)
        for path, _, names in os.walk(directory)
        for name in names
    )


def measure_builds(name, write, setups):
    with tempfile.TemporaryDirectory() as directory:
        sources, product, expected = (
            os.path.join(directory, name) for name in ("sources", "product", "expected")
        )
        os.mkdir(sources)
        command, differing = write(sources), set()
        build_project(PLAIN, command, sources, product)
        os.rename(product, expected)

        def measure(setup):
            seconds = build_project(
                setup, command, sources, product
            )  # always in the same place, which is in the products
            names = files_below(expected)
            differing.update(
                filecmp.cmpfiles(expected, product, names, shallow=False)[1],
                set(names) ^ set(files_below(product)),
            )
            return seconds

        found = together(ROUNDS, setups, measure)
        for column, what in enumerate(TIMES):
            row_beside(
                "%s, %s" % (name, what),
                "%.2f",
                {setup: [value[column] for value in values] for setup, values in found.items()},
                " ".join(sorted(differing)) or "none",
            )


def bench_make():
    projects = {
        name: write
        for name, write in (
            ("make -j2 of %d tiny files" % SOURCES, write_tiny),
            ("make -j2 of this library's shim", write_own),
        )
        if wanted(name)
    }
    if not projects:
        return
    heading_beside("make -j2", "s", "products differ")
    for name, write in projects.items():
        measure_builds(name, write, beside("127.0.0.1:%d" % harness.free_port()))


def bench():
    bench_exec()
    bench_fork()
    bench_make()
