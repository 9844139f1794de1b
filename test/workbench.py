"""Where things are, what is installed, and what a test makes: paths, programs, notes, scratch
directories, compiled workloads."""
import glob
import os
import re
import shutil
import stat
import subprocess
import tempfile

import pytest

TEST_DIRECTORY = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(TEST_DIRECTORY)
BUILD = os.environ.get("BUILD_DIR", os.path.join(ROOT, "build"))
AGENT = os.environ.get(
    "PPROFAGENT_SO", os.path.join(BUILD, "libpprofagent.so")
)  # another build of it may be tested
WORKLOADS = os.path.join(TEST_DIRECTORY, "workloads")
LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu"
    if os.uname().machine == "x86_64"
    else "/usr/lib/%s-linux-gnu" % os.uname().machine
)
DEADLINE = float(
    os.environ.get("TEST_DEADLINE", "60")
)  # seconds for anything that should take well under one
# The distribution's own programs first: another python3 may be a script that starts one.
os.environ["PATH"] = "/usr/bin:/usr/sbin:/bin:/sbin:/usr/local/bin:" + os.environ.get("PATH", "")
_directories = []
_copies = {}  # path -> a copy for all users
notes = []  # lines that are printed at the end: measured values that are reported, not asserted


class Skip(pytest.skip.Exception):
    """Raised by a test that cannot run here; the text says why."""


def note(text):
    notes.append(text)


def need(*programs):
    """The full paths of the programs, or Skip. make test installs what is missing, so a skip means
    that it could not."""
    found = [shutil.which(program) for program in programs]
    for program, path in zip(programs, found):
        if path is None:
            raise Skip(program + " is not installed")
    return found[0] if len(found) == 1 else found


def need_library(name):
    """Its path, of another version if the release has only that; or Skip."""
    path = os.path.join(LIBRARIES, name)
    others = sorted(glob.glob(path.split(".so")[0] + ".so.*"), key=len)
    if not os.path.exists(path) and not others:
        raise Skip(name + " is not installed")
    return path if os.path.exists(path) else others[0]


def agent():
    assert os.path.exists(AGENT), "%s is missing: run make" % AGENT
    return AGENT


def source(name):
    """The path of one of the project's own source files, whichever room it is in."""
    found = [
        path
        for top in ("agent", "shim")
        for path in glob.glob(os.path.join(ROOT, top, "**", name), recursive=True)
    ]
    assert len(found) == 1, (name, found)
    return found[0]


def objects(top):
    """The paths of the library's objects that are built of agent/ or shim/."""
    sources = glob.glob(os.path.join(top, "**", "*.c"), root_dir=ROOT, recursive=True)
    return [os.path.join(BUILD, "obj", source[:-2] + ".o") for source in sources]


def build(source, *flags, name=None, shared=False):
    """Compiles test/workloads/SOURCE (or an absolute path) with -g -pthread and the flags; returns
    the program's path."""
    path = source if os.path.isabs(source) else os.path.join(WORKLOADS, source)
    stem = name or re.sub(r"\W+", "_", os.path.basename(source) + "".join(flags))
    directory = os.path.join(BUILD, "test", "workloads")
    os.makedirs(directory, exist_ok=True)
    output = os.path.join(directory, stem + (".so" if shared else ""))
    newest = max(os.path.getmtime(path), os.path.getmtime(os.path.join(WORKLOADS, "workload.h")))
    if os.path.exists(output) and os.path.getmtime(output) > newest:
        return output
    new = "%s.%d" % (output, os.getpid())  # tests that run side by side may want the same one
    if path.endswith(".rs"):
        command = [need("rustc"), "-g", "-o", new, path] + list(flags)
    else:
        command = [
            "g++" if path.endswith(".cc") else "gcc",
            "-g",
            "-pthread",
            "-Wall",
            "-I" + WORKLOADS,
            "-I" + ROOT,
        ]
        command += ["-shared", "-fPIC"] if shared else []
        command += [flag for flag in flags if not flag.startswith("-l")] + ["-o", new, path]
        command += [flag for flag in flags if flag.startswith("-l")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, "%s\n%s" % (" ".join(command), done.stderr)
    os.rename(new, output)
    return output


def scratch():
    """A directory that remove_scratch() removes, after each test."""
    path = tempfile.mkdtemp(prefix="pprofagent-test-")
    _directories.append(path)
    return path


def remove_scratch():
    while _directories:
        shutil.rmtree(_directories.pop(), ignore_errors=True)


def is_for_all(path):
    """Whether every user may read the file."""
    directories = [path]
    while directories[-1] != "/":
        directories.append(os.path.dirname(directories[-1]))
    return os.stat(path).st_mode & stat.S_IROTH and all(
        os.stat(each).st_mode & stat.S_IXOTH for each in directories[1:]
    )


def for_all(path):
    """The file itself, or a copy that every user may read. Of a preload that another user than root
    cannot read the loader says so, at each exec."""
    path = os.path.abspath(path)
    if is_for_all(path):
        return path
    if not os.path.exists(_copies.get(path, "")):
        directory = scratch()
        os.chmod(directory, 0o755)
        _copies[path] = shutil.copy(path, directory)
        os.chmod(_copies[path], 0o755)
    return _copies[path]
