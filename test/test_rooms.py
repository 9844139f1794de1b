"""The includes of agent/ and shim/ go one way, as ARCHITECTURE.md's table says."""
import os
import subprocess

import harness


def test_includes_go_one_way():
    check = os.path.join(harness.ROOT, "scripts", "check_rooms")
    done = subprocess.run(["python3", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
