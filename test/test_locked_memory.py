"""Programs that lock their memory (mlockall) under a limit: what is the agent's counts as little as
if it were not there, idle and while it is asked for everything."""
import os
import resource
import threading

import harness

LIMIT = 8 << 20
TAKEN_MEGABYTES = 4  # of the limit; a small program's own memory is another 2.5
NOBODY = 65534
CAP_IPC_LOCK = 14
PAGES = ("heap", "heap?debug=1", "goroutine?debug=2", "profile?seconds=1", "health", "")


def only_limited():
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (LIMIT, LIMIT))


def limited():
    only_limited()
    if os.getuid() == 0:  # root may lock without a limit
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def run_host(way, asked=False, preexec_fn=limited, **options):
    """(what mlockall returned and was locked, what was refused) and what the answers were."""
    program = harness.for_all(harness.build("locked_memory.c", "-O1"))
    directory = harness.scratch()
    os.chmod(directory, 0o1777)  # the log is another user's
    log = os.path.join(directory, "log")
    host = harness.Host(
        [program, str(TAKEN_MEGABYTES), way],
        preexec_fn=preexec_fn,
        extra={"PPROFAGENT_LOG": log},
        **options
    )
    host.log_path = log
    first, statuses, ended = host.ready()[0], set(), threading.Event()

    def ask(page):
        while not ended.is_set():
            statuses.add(host.get(page)[0])

    askers = [threading.Thread(target=ask, args=(page,)) for page in PAGES if asked]
    if asked:
        assert host.get("health")[0] == 200
    host.go_on()
    for asker in askers:
        asker.start()
    try:
        last = host.ready()[0]
    finally:
        ended.set()
        for asker in askers:
            asker.join()
    assert host.finish() == 0, host.describe()
    return first, last, statuses


def locked(first):
    result, kilobytes = first.split(", locked ")
    return result, int(kilobytes)


def check(way):
    empty = harness.build("empty_preload.c", shared=True)
    plain = run_host(way, plain=True)
    assert plain[0].startswith("mlockall 0,") and plain[1] == "refused: memory 0, threads 0", plain
    with_empty = run_host(way, plain=True, preload_before=[empty])
    for asked in (False, True):
        first, last, statuses = run_host(way, asked)
        assert locked(first)[0] == "mlockall 0" and last == plain[1], (first, last, plain)
        assert locked(first)[1] <= locked(with_empty[0])[1], (first, with_empty)
        assert statuses == ({200} if asked else set()), statuses


def test_by_libcs_function():
    check("function")


def test_by_system_call():
    check("syscall")


def test_where_no_limit_counts_what_the_program_uses_stays_locked():
    """A real-time program with the right to lock anything waits for no page of its wrappers."""
    with open("/proc/self/status") as file:
        effective = int(file.read().split("CapEff:\t")[1].split()[0], 16)
    if not effective >> CAP_IPC_LOCK & 1:
        raise harness.Skip("needs the right to lock anything")
    first, plain = (
        run_host("function", plain=plain, preexec_fn=only_limited)[0] for plain in (False, True)
    )
    assert locked(first)[1] - locked(plain)[1] > 1024, (first, plain)
