"""However a child is born, it runs as it does without the agent, and is served itself."""
import os
import time

import harness
from fork_family import check_way


def served(count, *paths):
    """A look at `ready`: so many other processes, each with these endpoints, or all of them."""
    return lambda family: lambda: family.check_served(
        family.await_others(count), *([paths] if paths else [])
    )


def test_child_is_as_without_the_agent():
    """errno, signal mask, descriptor numbers, stdio's buffers, exit handlers: at once and when it
    is served."""
    for rate in (None, 1):
        check_way(
            "child",
            [served(1)],
            rate,
            lines=[
                "errno 34, mask 0 1 0, next descriptors 3 4",
                "atexit in child",
                "errno 34, child exit 7",
            ],
        )


def test_main_thread_of_the_child_ends():
    check_way(
        "main_thread_ends", [served(1)], lines=["last thread", "atexit in child", "child exit 0"]
    )


def test_fork_and_threads_in_atfork_handlers():
    for rate in (None, 1):
        check_way(
            "atfork_handlers",
            [served(1)],
            rate,
            lines=["in prepare 11, in child 13", "child exit 20, in prepare 11, in parent 12"],
        )


def test_children_that_leave_the_atfork_handlers_that_bore_them():
    check_way(
        "born_in_handlers",
        [served(1), served(1)],
        lines=["born in a handler: exit 41", "born in a handler: exit 42"],
    )


def test_fork_in_a_signal_handler():
    for rate in (None, 1):
        check_way("signal_handler", [], rate, lines=["all of 100 children well: 1"])


def test_calls_that_are_no_fork():
    """vfork, _Fork, raw clone, clone with a stack of its own, posix_spawn, system, popen: unharmed;
    those that do not exec are not served."""

    def one_thread(family):
        def look():
            children = harness.poll(
                lambda: [
                    int(word)
                    for task in harness.tasks(family.host.pid)
                    for word in harness.proc_text(
                        "/proc/%d/task/%d/children" % (family.host.pid, task)
                    ).split()
                ],
                "the child",
            )
            time.sleep(0.3)  # it must not come: agents start after 100 ms
            assert (
                len(os.listdir("/proc/%d/task" % children[0])) == 1 and family.await_others(0) == []
            )

        return look

    check_way(
        "other_calls",
        [one_thread, one_thread],
        lines=["counter 40", "posix_spawn 6", "system 5", "popen", "pclose 4"],
    )


def test_child_that_executes_at_once_and_later():
    check_way("exec_later", [served(1)], lines=["executed", "exit 8"])


def test_forkpty():
    check_way("forkpty", [served(1)], lines=["terminal 1 leader 1 next 3 rows 33"])


def test_fifty_generations():
    def chain(family):
        def look():
            pids = set(family.await_others(50)) | {family.host.pid}
            parents = {pid: entry["parent"] for pid, entry in family.port.processes().items()}
            assert {pid for pid, parent in parents.items() if parent not in pids} == {
                family.host.pid
            }, parents
            assert len({parent for parent in parents.values() if parent in pids}) == 50, parents
            family.check_served(sorted(pids)[::25])

        return look

    check_way("nested", [chain], lines=["50 generations"])


def test_more_children_than_are_started_at_once():
    """The first sixty or so soon, the others when they allocate."""

    def some(family):
        return lambda: harness.poll(
            lambda: len(family.port.processes()) > 60,
            "more than sixty: %d" % len(family.port.processes()),
        )

    def all_of_them(family):
        return lambda: family.check_served(family.await_others(100)[::30])

    check_way("together 100", [some, all_of_them, None], lines=["100 children well"])
