"""What needs a system of its own below a directory: containers, and the next release's Python.
The root is the one that `make fresh RELEASE=trixie` keeps, with the packages beside it."""
import functools
import glob
import json
import os
import shutil
import subprocess

import harness
from differential import Way, at_once, library
from differential_programs import not_installed, outcome_of

RELEASE = "trixie"
INSIDE = "/usr/lib/libpprofagent.so"  # nspawn puts something else at /tmp
PYTHON_PACKAGES = (
    "python3.13",
    "python3.13-minimal",
    "libpython3.13-minimal",
    "libpython3.13-stdlib",
    "libexpat1",
    "libffi8",
    "libssl3t64",
    "libncursesw6",
    "libreadline8t64",
)
FORK_WARNINGS = """
import os, sys, warnings
warnings.simplefilter("always")
warnings.showwarning = lambda what, kind, *_: print(kind.__name__, str(what).split("(")[0])
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        os._exit(5)
    print(os.waitpid(pid, 0)[1])
import subprocess, multiprocessing
print(subprocess.run(["true"], preexec_fn=lambda: None).returncode)
context = multiprocessing.get_context("fork")
process = context.Process(target=print, args=("from a fork",))
process.start()
process.join()
print(process.exitcode)
pid, fd = os.forkpty()
if pid == 0:
    os._exit(6)
print(os.waitpid(pid, 0)[1])
"""


def root():
    """The directory, made once; the library that is tested is there as well."""
    if os.getuid() != 0:
        raise harness.Skip("needs root")
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    kept = os.path.join(cache, "pprofagent", "fresh")
    tar = os.path.join(kept, RELEASE + ".tar")
    if not os.path.exists(tar):
        raise harness.Skip("no root: make fresh RELEASE=%s makes one" % RELEASE)
    directory = os.path.join(harness.BUILD, "test", "root-" + RELEASE)
    if not os.path.exists(directory):
        os.makedirs(directory + ".new", exist_ok=True)
        subprocess.run(["tar", "-C", directory + ".new", "-xf", tar], check=True)
        for package in PYTHON_PACKAGES:
            for file in glob.glob("%s/archives-%s/%s_*.deb" % (kept, RELEASE, package)):
                subprocess.run(["dpkg", "-x", file, directory + ".new"], check=True)
        os.rename(directory + ".new", directory)
    for path in (INSIDE, library()):
        os.makedirs(os.path.dirname(directory + path), exist_ok=True)
        shutil.copy2(harness.agent(), directory + path)
    return directory


def preload_flags(way_name, flag):
    return [flag + "LD_PRELOAD=" + INSIDE] if Way(way_name).under_agent() else []


def nspawn(directory, command, way_name):
    return outcome_of(
        ["systemd-nspawn", "-q", "--register=no", "--keep-unit", "--pipe", "-D", directory]
        + preload_flags(way_name, "--setenv=")
        + ["/bin/sh", "-c", command],
        way_name,
        seconds=40,
    )


def runc(directory, command, way_name):
    bundle = harness.scratch()
    subprocess.run(["runc", "spec"], cwd=bundle, check=True)
    path = os.path.join(bundle, "config.json")
    with open(path) as file:
        config = json.load(file)
    config["process"].update(terminal=False, args=["/bin/sh", "-c", command])
    for kind in config["process"]["capabilities"].values():
        kind += ["CAP_SETUID", "CAP_SETGID"]
    config["process"]["env"] += preload_flags(way_name, "")
    config["root"].update(path=directory, readonly=True)
    with open(path, "w") as file:
        json.dump(config, file)
    name = "differ-" + os.path.basename(bundle)
    return outcome_of(
        ["runc", "--root", os.path.join(bundle, "state"), "run", name],
        way_name,
        seconds=40,
        cwd=bundle,
    )


def bwrap(directory, command, way_name):
    return outcome_of(
        [
            "bwrap",
            "--ro-bind",
            directory,
            "/",
            "--unshare-pid",
            "--unshare-net",
            "--unshare-ipc",
            "--cap-add",
            "ALL",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "--die-with-parent",
            "/bin/sh",
            "-c",
            command,
        ],
        way_name,
        seconds=40,
    )


COMMANDS = {
    "first process": "echo $$; id -u; exit 3",
    "several": "for i in 1 2 3; do (sleep 0.2; exit $i) & done; wait; echo done",
    "another user": "setpriv --reuid=33 --regid=33 --clear-groups id",
}


CONTAINERS = (
    ("systemd-nspawn", "systemd-nspawn", nspawn),
    ("runc", "runc", runc),
    ("bubblewrap", "bwrap", bwrap),
)


def why_not(run, directory):
    """Why no container can be run by it here, or None."""
    found, _ = run(directory, "echo works", "plain")
    if "works" in found:
        return None
    return "no container can be made here (%s)" % " ".join(found.split())[-200:]


def containers():
    directory, tests, left_out = root(), {}, {}
    for name, program, run in CONTAINERS:
        if not shutil.which(program):
            left_out.update(not_installed({name: program}))
        elif why_not(run, directory):
            left_out[name] = why_not(run, directory)
        else:
            tests.update(
                ("%s, %s" % (name, what), functools.partial(run, directory, command))
                for what, command in COMMANDS.items()
            )
    if not tests:
        raise harness.Skip("; ".join("%s: %s" % each for each in left_out.items()))
    return at_once("containers", tests, 1, left_out)


def python_fork():
    """os.fork() warns where it sees a second thread."""
    directory = root()
    if not os.path.exists(directory + "/usr/bin/python3.13"):
        raise harness.Skip("its packages are not kept: make fresh FULL=1 RELEASE=" + RELEASE)

    def test(way_name):
        enter = "cd %s; mount -t proc proc proc; mount --rbind /dev dev; exec chroot . \"$@\""
        return outcome_of(
            [
                "unshare",
                "-m",
                "/bin/sh",
                "-c",
                enter % directory,
                "sh",
                "/usr/bin/python3.13",
                "-c",
                FORK_WARNINGS,
            ],
            way_name,
        )

    return at_once("Python 3.13's warnings at fork", {"fork, forkpty, subprocess": test}, 1)
