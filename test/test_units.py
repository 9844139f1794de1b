"""The C unit tests: test/unit_NAME.c, built by `make units` with sanitizers into
build/test/{unit,tsan}_NAME. Exit code 0 is a pass."""
import os
import subprocess

import harness
import pytest

SECONDS = 600
DIRECTORY = os.path.join(harness.BUILD, "test")


def programs():
    names = os.listdir(DIRECTORY) if os.path.isdir(DIRECTORY) else []
    return sorted(name for name in names if name.startswith(("unit_", "tsan_")) and "." not in name)


@pytest.mark.parametrize("program", programs())
def test_unit(program):
    done = subprocess.run(
        [os.path.join(DIRECTORY, program)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=harness.ROOT,
        timeout=SECONDS,
        errors="replace",
    )
    assert done.returncode == 0, "exit code %d\n%s" % (done.returncode, done.stdout[-6000:])
