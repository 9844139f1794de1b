"""Programs that start under a filter which refuses some system calls (workloads/under_filter.c)."""
import functools
import re
import subprocess

import harness


@functools.lru_cache(None)
def numbers():
    """{name: number} as this machine's headers have them."""
    defined = subprocess.run(
        [harness.need("gcc"), "-E", "-dM", "-include", "sys/syscall.h", "-"],
        input="",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return {
        name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)\n", defined)
    }


def under_filter(action, names, argv):
    """The command that runs argv where these calls are refused; action: kill_process or errno."""
    return [
        harness.build("under_filter.c"),
        action,
        ",".join(str(numbers()[name]) for name in names),
    ] + argv
