"""What the agent costs where processes come and go: exec of programs that do nothing, forks of children that soon end, builds.

`exec`: a program alone, with an empty preload, with one that has a sleeping thread (sleeper.c: an agent with a thread cannot be below it), with the
agent, with the agent that does not follow it any further. `fork`: 10,000 forks. `make -j2`: forty tiny sources, and half of this library's own;
what they build is compared byte by byte.
"""
import filecmp
import os
import shutil
import statistics
import subprocess
import tempfile
import time

import harness
from comparison import PLAIN, ROUNDS, Setup, compare, heading, row, tool, wanted

FORKS, SOURCES = 10000, 40
REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def setups():
    address = {"PPROFAGENT_ADDR": "127.0.0.1:%d" % harness.free_port()}
    return (Setup("empty", tool("empty.so")), Setup("sleeper", tool("sleeper.so")), Setup("agent", harness.agent(), **address),
            Setup("agent, fork", harness.agent(), PPROFAGENT_CHILDREN="fork", **address))


def run(setup, name, variable, column, *arguments):
    done = subprocess.run([tool(name)] + list(arguments), env=setup.environment(variable), check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    return float(done.stdout.split()[column])


def bench_exec():
    names = [name for name in ("exec /bin/true", "exec forty tiny gcc runs") if wanted(name)]
    if not names:
        return
    others = setups()
    heading("exec", "plain, us", *["%s / plain" % setup.name for setup in others], "agent / sleeper")
    with tempfile.TemporaryDirectory() as directory:
        source = os.path.join(directory, "tiny.c")
        with open(source, "w") as file:
            file.write("int main(void) { return 0; }\n")
        for name in names:
            command = ["/bin/true"] if "true" in name else ["gcc", "-c", source, "-o", "/dev/null"]
            count, column = (200, 0) if "true" in name else (40, 1)  # wall time, CPU time
            rounds = ROUNDS if "true" in name else max(3, ROUNDS // 3)

            def pairs(a, b):
                return compare(rounds, *[lambda setup=setup: run(setup, "spawner", "SPAWN_PRELOAD", column, str(count), *command) for setup in (a, b)])
            results = [pairs(PLAIN, setup) for setup in others]
            row(name, "%.0f" % statistics.median(results[2].first), *results, pairs(others[1], others[2]))


def bench_fork():
    names = {name: megabytes for name, megabytes in (("fork, wall time", 0), ("fork of 100 MB, wall time", 100)) if wanted(name)}
    if not names:
        return
    _, sleeper, agent, _ = setups()
    none = Setup("agent, none", agent.preload, PPROFAGENT_CHILDREN="none", **agent.variables)
    heading("%d forks" % FORKS, "plain, us", "sleeper / plain", "agent / plain", "agent, none / plain")
    for name, megabytes in names.items():
        count = FORKS // (10 if megabytes else 1)
        results = [compare(max(3, ROUNDS // 3), *[lambda setup=setup: run(setup, "forker", "LD_PRELOAD", 0, str(count), str(megabytes))
                                                   for setup in (PLAIN, other)]) for other in (sleeper, agent, none)]
        row(name, "%.0f" % statistics.median(results[1].first), *results)


# ---- make -j2 ----------------------------------------------------------------------------------------------------------------

def write_project(directory):
    names = ["part%02d" % number for number in range(SOURCES)]
    for number, name in enumerate(names):
        with open(os.path.join(directory, name + ".c"), "w") as file:
            file.write("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include \"parts.h\"\n")
            for function in range(12):
                file.write("static int step%d(int x) {\n  char text[64];\n  for (int i = 0; i < %d; i++)\n"
                           "    x = x * %d + (int)strlen(text + snprintf(text, 64, \"%%d\", x) %% 2);\n  return x;\n}\n" % (
                               function, function + 3, number * 2 + 3))
            file.write("int %s(int x) { return %s; }\n" % (name, " + ".join("step%d(x)" % function for function in range(12))))
    with open(os.path.join(directory, "parts.h"), "w") as file:
        file.writelines("int %s(int);\n" % name for name in names)
    with open(os.path.join(directory, "main.c"), "w") as file:
        calls = " ^ ".join("%s(%d)" % (name, number) for number, name in enumerate(names))
        file.write("#include <stdio.h>\n#include \"parts.h\"\nint main(void) { printf(\"%%d\\n\", %s); }\n" % calls)
    with open(os.path.join(directory, "Makefile"), "w") as file:
        objects = " ".join("%s.o" % name for name in names + ["main"])
        file.write("program: %s\n\t$(CC) -o $@ $^\n\t@./program | tr 0-9 a-j\n%%.o: %%.c parts.h\n\t@echo compile $<; $(CC) -O1 -c -o $@ $<\n" % objects)


def write_tiny(sources):
    write_project(sources)
    return ["make", "-j2", "-Otarget", "--no-print-directory"]


def write_own(sources):
    """This library's shim, and what the build has fetched and generated for it."""
    for name in ("Makefile", "shim", "agent", "proto", "scripts"):
        path = os.path.join(REPOSITORY, name)
        (shutil.copytree if os.path.isdir(path) else shutil.copy2)(path, os.path.join(sources, name))
    for name in ("deps", "gen"):
        os.symlink(os.path.join(harness.BUILD, name), os.path.join(sources, name))
    return ["make", "-s", "-j2", "BUILD=."] + ["./obj/shim/%s.o" % name[:-2] for name in sorted(os.listdir(os.path.join(sources, "shim"))) if name.endswith(".c")]


def build_project(setup, command, sources, keep):
    """Wall seconds. keep: products and output go there."""
    shutil.rmtree(keep, ignore_errors=True)
    shutil.copytree(sources, keep, symlinks=True)
    started = time.monotonic()
    done = subprocess.run(command, cwd=keep, env=setup.environment(), capture_output=True, stdin=subprocess.DEVNULL)
    seconds = time.monotonic() - started
    assert done.returncode == 0, done
    with open(os.path.join(keep, "output"), "wb") as file:
        file.write(b"\n".join(sorted(done.stdout.splitlines())) + done.stderr)  # -j2: in any order
    return seconds


def files_below(directory):
    return sorted(os.path.relpath(os.path.join(path, name), directory) for path, _, names in os.walk(directory) for name in names)


def measure_builds(name, write, others):
    with tempfile.TemporaryDirectory() as directory:
        sources, product, expected = (os.path.join(directory, name) for name in ("sources", "product", "expected"))
        os.mkdir(sources)
        command, differing = write(sources), set()
        build_project(PLAIN, command, sources, product)
        os.rename(product, expected)

        def measure(setup):
            seconds = build_project(setup, command, sources, product)  # always in the same place, which is in the products
            names = files_below(expected)
            differing.update(filecmp.cmpfiles(expected, product, names, shallow=False)[1], set(names) ^ set(files_below(product)))
            return seconds
        results = [compare(ROUNDS, lambda: measure(PLAIN), lambda setup=setup: measure(setup)) for setup in others]
        row(name, "%.2f" % statistics.median(results[0].first), *results, " ".join(sorted(differing)) or "none")


def bench_make():
    projects = {name: write for name, write in (("make -j2 of %d tiny files" % SOURCES, write_tiny), ("make -j2 of this library's shim", write_own)) if wanted(name)}
    if not projects:
        return
    _, *others = setups()
    heading("make -j2", "plain, s", *["%s / plain" % setup.name for setup in others], "products differ")
    for name, write in projects.items():
        measure_builds(name, write, others)


def bench():
    bench_exec()
    bench_fork()
    bench_make()
