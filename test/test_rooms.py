"""The includes of agent/ and shim/, and the names that their files use of each other, go one way,
as ARCHITECTURE.md's table says."""
import os
import subprocess

import harness


def test_includes_and_names_go_one_way():
    check = os.path.join(harness.ROOT, "scripts", "check_rooms")
    objects = os.path.join(harness.BUILD, "obj")
    done = subprocess.run(["python3", check, objects], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
