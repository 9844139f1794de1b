"""Preloads that wrap malloc: nothing that the agent makes libc do on its threads allocates, so that
no wrapper, nor the program's own malloc, runs on a thread that the program does not know."""
import harness
from test_other_preloads import EVERYTHING_ON, PAGES, check_nobody_elses, every_profile


def wrapper():
    return harness.build("preload_malloc.c", "-O1", "-fno-builtin", shared=True)


def test_no_allocation_on_the_agents_threads():
    check_nobody_elses(every_profile(), preload_after=[wrapper()])


def test_no_allocation_where_another_preload_serves_malloc():
    """The heap profile is off then; all else is there."""
    host = harness.Host(
        [every_profile()], rate=512, extra=EVERYTHING_ON, preload_before=[wrapper()]
    )
    host.ready()
    for page in PAGES:
        expected = 503 if page.startswith(("heap", "allocs")) else 200
        assert host.get(page)[0] == expected, (page, host.describe())
    host.go_on()
    child = int(host.ready()[0].split()[1])
    path = "/pid/%d/debug/pprof/goroutine?debug=2" % child
    harness.poll(lambda: host.get(path)[0] == 200, "the child's page")
    assert host.finish() == 0 and host.stderr() == "", host.describe()


def test_the_test_library_notices_allocations():
    program = harness.build("thread_named_agent_allocates.c", "-O1", "-fno-builtin")
    done = harness.run([program], plain=True, preload_before=[wrapper()])
    assert (done.returncode, done.stderr) == (97, b"malloc: called on an agent thread\n"), done
