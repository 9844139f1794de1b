"""What the tests of thread dumps share: what each thread of a process waits in."""

LIBC_START = [
    "main",
    None,
    None,
    "_start",
]  # __libc_start_call_main and __libc_start_main have names where libc6-dbg is installed
THREAD_START = [None, None]  # start_thread, clone3


def task_file(pid, tid, name):
    with open("/proc/%d/task/%d/%s" % (pid, tid, name)) as file:
        return file.read()


def is_blocked_in(pid, tid, number):
    return task_file(pid, tid, "syscall").split()[0] == str(number)


def threads_of(profile):
    """{tid: (function names, leaf first, inlined ones left out; labels)} of a dump with tid=1."""
    threads = {}
    for sample in profile.samples:
        assert sample.values == (1,) or list(sample.values) == [1], sample.values
        frames = [frame.function for frame in sample.frames if not frame.inlined]
        threads[sample.labels["tid"]] = (frames, sample.labels)
    return threads
