"""What an agent that nobody asks costs a program with one thread: libc has cheaper ways for such,
as long as it knows of no other thread. CPU time of whole runs."""
import os
import shutil
import subprocess

from comparison import ROUNDS, beside, heading_beside, row_beside, together, tool, wanted


def cpu_seconds(setup, command, stdin):
    """User and system time of one run, its agent's threads included."""
    with open(stdin, "rb") as file:
        process = subprocess.Popen(
            command, stdin=file, stdout=subprocess.DEVNULL, env=setup.environment()
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (setup.name, command, process.returncode)
    return usage.ru_utime + usage.ru_stime


def inputs():
    """(a file of bytes for xxd, one of macros for m4)"""
    data, macros = tool("idle.data"), tool("idle.m4")
    with open(data, "wb") as file:
        file.write(bytes(range(256)) * 4096 * 32)
    with open(macros, "w") as file:
        for number in range(240000):
            file.write(
                "define(`name%d', `the $1 of it')name%d(`word') and plain text, %d\n"
                % (number % 500, number % 500, number)
            )
    return data, macros


def bench():
    single, data, macros = tool("single_threaded"), tool("idle.data"), tool("idle.m4")
    programs = {
        "getc": ([single, "getc", "200"], "/dev/null"),
        "malloc+free 64 B": ([single, "malloc", "50", "64"], "/dev/null"),
        "malloc+free 4096 B": ([single, "malloc", "20", "4096"], "/dev/null"),
        "shared_ptr copies": ([tool("shared_ptr"), "300"], "/dev/null"),
        "m4": (["m4"], macros),
        "xxd": (["xxd"], data),
        "xxd -p": (["xxd", "-p"], data),
    }
    names = {
        "idle: " + name: value
        for name, value in programs.items()
        if wanted("idle: " + name) and shutil.which(value[0][0])
    }
    if not names:
        return
    inputs()
    heading_beside("idle, one thread, CPU time of a run", "s")
    for name, (command, stdin) in names.items():
        row_beside(
            name,
            "%.2f",
            together(ROUNDS, beside(), lambda setup: cpu_seconds(setup, command, stdin)),
        )
