"""Calls that come before the library has started, or in the middle of that: they do what they do
without the agent."""
import os

import harness


def test_calls_of_a_resolver():
    # Run by the loader while it relocates a library, which is before it relocates ours.
    library = harness.build("calls_while_relocating_library.c", "-O1", shared=True)
    directory, name = os.path.split(library)
    program = harness.build(
        "calls_while_relocating.c", "-O1", "-L" + directory, "-l:" + name, "-Wl,-rpath," + directory
    )
    for options in ({"plain": True}, {}, {"address": "off"}, {"extra": {"LD_BIND_NOW": "1"}}):
        done = harness.run([program], **options)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"0\n", b""), (options, done)
    host = harness.run(["/lib64/ld-linux-x86-64.so.2", program])  # the loader as a program
    assert (host.returncode, host.stdout, host.stderr) == (0, b"0\n", b""), host


def test_syscall_leaves_its_callers_frame_alone():
    done = harness.run([harness.build("syscall_frame.c", "-O1", "-fPIE", "-pie")])
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0 and len(lines) == 14, done
    assert all(line.endswith(" 0") for line in lines), lines
