"""What the agent costs where processes come and go: exec of programs that do nothing, forks of children that soon end, builds.

`exec`: a program alone, with an empty preload, with the agent, with the agent that does not follow it any further. `fork`: 10,000 forks. `make -j2`:
a small project of its own making, whose products are compared byte by byte.
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


def setups():
    address = {"PPROFAGENT_ADDR": "127.0.0.1:%d" % harness.free_port()}
    return (Setup("empty", tool("empty.so")), Setup("floor1", tool("floor1.so")), Setup("agent", harness.agent(), **address),
            Setup("agent, fork", harness.agent(), PPROFAGENT_CHILDREN="fork", **address))


def run(setup, name, variable, column, *arguments):
    done = subprocess.run([tool(name)] + list(arguments), env=setup.environment(variable), check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    return float(done.stdout.split()[column])


def bench_exec():
    names = [name for name in ("exec /bin/true", "exec forty tiny gcc runs") if wanted(name)]
    if not names:
        return
    others = setups()
    heading("exec", "plain, us", *["%s / plain" % setup.name for setup in others], "agent / empty")
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
            row(name, "%.0f" % statistics.median(results[2].first), *results, pairs(others[0], others[2]))


def bench_fork():
    names = {name: megabytes for name, megabytes in (("fork, wall time", 0), ("fork of 100 MB, wall time", 100)) if wanted(name)}
    if not names:
        return
    empty, _, agent, _ = setups()
    none = Setup("agent, none", agent.preload, PPROFAGENT_CHILDREN="none", **agent.variables)
    heading("%d forks" % FORKS, "plain, us", "empty / plain", "agent / plain", "agent, none / plain")
    for name, megabytes in names.items():
        count = FORKS // (10 if megabytes else 1)
        results = [compare(max(3, ROUNDS // 3), *[lambda setup=setup: run(setup, "forker", "LD_PRELOAD", 0, str(count), str(megabytes))
                                                   for setup in (PLAIN, other)]) for other in (empty, agent, none)]
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


def build_project(setup, sources, keep):
    """Wall seconds. keep: products and output go there."""
    shutil.rmtree(keep, ignore_errors=True)
    shutil.copytree(sources, keep)
    started = time.monotonic()
    done = subprocess.run(["make", "-j2", "-Otarget", "-C", keep, "--no-print-directory"], env=setup.environment(), capture_output=True,
                          stdin=subprocess.DEVNULL)
    seconds = time.monotonic() - started
    assert done.returncode == 0, done
    with open(os.path.join(keep, "output"), "wb") as file:
        file.write(b"\n".join(sorted(done.stdout.splitlines())) + done.stderr)  # -j2: in any order
    return seconds


def bench_make():
    if not wanted("make -j2"):
        return
    _, _, agent, agent_fork = setups()
    heading("make -j2, %d files" % SOURCES, "plain, s", "agent / plain", "agent, fork / plain", "products differ")
    with tempfile.TemporaryDirectory() as directory:
        sources, product = os.path.join(directory, "sources"), os.path.join(directory, "product")
        os.mkdir(sources)
        write_project(sources)
        expected, differing = os.path.join(directory, "expected"), set()
        build_project(PLAIN, sources, product)
        os.rename(product, expected)

        def measure(setup):
            seconds = build_project(setup, sources, product)  # always in the same place, which is in the products
            names = sorted(os.listdir(expected))
            differing.update(filecmp.cmpfiles(expected, product, names, shallow=False)[1], set(names) ^ set(os.listdir(product)))
            return seconds
        results = [compare(ROUNDS, lambda: measure(PLAIN), lambda setup=setup: measure(setup)) for setup in (agent, agent_fork)]
        row("make -j2", "%.2f" % statistics.median(results[0].first), *results, " ".join(sorted(differing)) or "none")


def bench():
    bench_exec()
    bench_fork()
    bench_make()
