"""What a process that does not go on is doing, and its children: for the message of a test that
waited in vain. Best effort: without gdb, or the right to trace, there are no stacks."""
import collections
import os
import re
import shutil
import subprocess

GDB_SECONDS = 90


def _text(path):
    try:
        with open(path, errors="replace") as file:
            return file.read().strip()
    except OSError as error:
        return "(%s)" % error.strerror


def _fields(stat):
    """Of /proc/PID/stat, those after the name, which may contain anything: state, parent, ..."""
    return stat.rsplit(")", 1)[-1].split()


def family(pid):
    """The process and all that descend from it."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        fields = _fields(_text("/proc/%s/stat" % name))
        if len(fields) > 1 and fields[1].isdigit():
            parents[int(name)] = int(fields[1])
    family = [pid]
    for member in family:  # grows meanwhile
        family += [child for child, parent in parents.items() if parent == member]
    return family


def _tasks(pid):
    directory = "/proc/%d/task" % pid
    try:
        names = sorted(os.listdir(directory), key=int)
    except OSError:
        return []
    lines = []
    for name in names:
        stat, wchan, call = (
            _text("%s/%s/%s" % (directory, name, file)) for file in ("stat", "wchan", "syscall")
        )
        comm, state = stat[stat.find("(") : stat.rfind(")") + 1], "".join(_fields(stat)[:1])
        lines.append("  %s %s %s in %s, system call %s" % (name, comm, state, wchan, call))
    return lines


def _frame(line):
    """gdb's line as "function(arguments that are variables) place": many stacks are alike then."""
    function = re.match(r"#\d+ +(?:0x[0-9a-f]+ in )?(\S+)", line).group(1)
    place = re.search(r" (?:at|from) (\S+)$", line)
    named = re.findall(r"(\w+)=[^,()<]*<([\w+]+)>", line)
    return "%s(%s) %s" % (
        function,
        ", ".join("%s=%s" % pair for pair in named),
        os.path.basename(place.group(1)) if place else "?",
    )


def _stacks(pid):
    gdb = shutil.which("gdb")
    if not gdb:
        return ["  no stacks: gdb is not installed"]
    command = [
        gdb,
        "-nx",
        "-batch",
        "-iex",
        "set debuginfod enabled off",
        "-p",
        str(pid),
        "-ex",
        "set width 0",
        "-ex",
        "thread apply all backtrace 30",
    ]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=GDB_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return ["  no stacks: gdb took %d s" % GDB_SECONDS]
    alike = collections.defaultdict(list)
    for thread in re.split(r"^Thread ", done.stdout, flags=re.MULTILINE)[1:]:
        frames = tuple(_frame(line) for line in thread.splitlines() if line.startswith("#"))
        found = re.search(r"LWP (\d+)|process (\d+)", thread)
        alike[frames].append((found.group(1) or found.group(2)) if found else "?")
    if not alike:
        return ["  no stacks: " + done.stderr.strip()[-500:]]
    lines = []
    for frames, threads in sorted(alike.items(), key=lambda item: -len(item[1])):
        lines.append("  %d: %s" % (len(threads), " ".join(threads)))
        lines += ["    " + frame for frame in frames]
    return lines


def describe(pid):
    """Its threads as /proc shows them, then their stacks, those that are alike once."""
    lines = []
    for member in family(pid):
        lines += ["process %d:" % member] + _tasks(member) + _stacks(member)
    return "\n".join(lines)
