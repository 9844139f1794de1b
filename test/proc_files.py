"""What /proc says of a process, whose threads may end at any moment."""
import contextlib
import os


def thread_states(pid):
    """The states that the threads of a process are in, as letters."""
    stats = [proc_text("/proc/%d/task/%d/stat" % (pid, tid)) for tid in tasks(pid)]
    return {stat.rsplit(") ", 1)[1][0] for stat in stats if stat}


def tasks(pid):
    """The thread ids of a process."""
    return [int(name) for name in os.listdir("/proc/%d/task" % pid)]


def proc_text(path):
    """A file of /proc; "" where its process or thread has ended, as an agent's thread may at any
    moment."""
    try:
        with open(path) as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def proc_links(directory):
    """Where the links in a directory of /proc lead, those that have gone left out."""
    found = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for name in os.listdir(directory):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found.append(os.readlink(os.path.join(directory, name)))
    return found
