"""64 threads use every lock and wait at random, with timeouts and cancellation, while the program
forks (lockhaz_soak.c, which checks its own invariants): no hang, nothing lost, and the agent's
tables do not grow. Ten seconds; SOAK=1: fifteen minutes."""
import os

import harness

RATES = ({"PPROFAGENT_BLOCKPROFILERATE": "1", "PPROFAGENT_MUTEXPROFILEFRACTION": "1"}, {})


def soak(seconds, extra):
    host = harness.Host([harness.build("lockhaz_soak.c", "-O1"), str(seconds)], extra=extra)
    host.ready(seconds + 120)
    warm = host.health()
    harness.poll(lambda: host.health()["lock_waits"]["waiting_now"] > 0, "somebody waits")
    host.go_on()
    host.ready(seconds + 120)
    quiet = host.health()
    for path in ("block", "mutex"):
        values = host.profile(path).total()
        assert values[0] > 1000 and values[1] > 0, (path, values)
    host.go_on()
    said = [host.line(), host.line()]
    assert said[1] == "all invariants hold", said
    assert host.finish() == 0, host.describe()
    harness.note(
        "%s: %s; agent bytes %s, then %s"
        % (
            extra,
            said[0][2:],
            *(
                {
                    name: health["agent"]["memory_bytes"][name]
                    for name in ("contention_table", "lock_waiters", "stack_table")
                }
                for health in (warm, quiet)
            ),
        )
    )
    assert quiet["lock_waits"]["waiting_now"] == 0, quiet["lock_waits"]
    for name in ("contention_lost_table_full", "contention_lost_no_memory", "mutex_lost_waiters"):
        assert quiet["losses"][name] == 0, quiet["losses"]
    for name in ("lock_waiters", "thread_registry"):
        assert quiet["agent"]["memory_bytes"][name] == warm["agent"]["memory_bytes"][name], (
            name,
            warm["agent"],
            quiet["agent"],
        )
    for name in (
        "contention_table",
        "stack_table",
    ):  # a stack that is seen only now and then may come late
        assert quiet["agent"]["memory_bytes"][name] <= warm["agent"]["memory_bytes"][name] + (
            256 << 10
        ), (name, warm["agent"], quiet["agent"])


def test_short():
    for extra in RATES:
        soak(7, extra)


def test_long():
    if not os.environ.get("SOAK"):
        raise harness.Skip("SOAK=1")
    for extra in RATES:
        soak(450, extra)


def test_the_same_without_the_agent():
    """The program itself is sound."""
    host = harness.Host([harness.build("lockhaz_soak.c", "-O1"), "4"], plain=True)
    for _ in range(2):
        host.ready()
        host.go_on()
    said = [host.line(), host.line()]
    assert said[1] == "all invariants hold" and host.finish() == 0, said
