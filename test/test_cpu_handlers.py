"""Handlers of the host's own beside a CPU profile: what they interrupt, and nothing else, is."""
import harness
from cpu_outcomes import check_same


def program(*flags):
    return harness.build("many_handlers.c", "-O1", "-Wno-array-bounds", *flags)


def check_count(how, *flags):
    extra = {"GMON_OUT_PREFIX": harness.scratch() + "/gmon"}
    expected, _ = check_same([program(*flags), "count", how], expect_samples=50, extra=extra)
    assert expected[0] == 0 and "0 interrupted" in expected[1], expected


def check_wait(how):
    """A tick comes right behind each handler: made again, the call would wait for ever."""
    expected, _ = check_same([program(), "wait", how], expect_samples=20)
    assert expected[0] == 0 and "60 handled" in expected[1], expected


def test_any_number_of_handlers():
    check_count("many")


def test_handlers_by_system_calls():
    check_count("raw")


def test_handlers_that_libc_installs():
    check_count("system")
    check_count("gmon", "-pg")


def test_waits_that_handlers_end():
    for how in ("one", "many", "signal"):
        check_wait(how)


def test_waits_that_handlers_by_system_calls_end():
    check_wait("raw")


def test_waits_that_handlers_installed_a_moment_before_end():
    check_wait("anew")


def test_a_handler_that_needs_no_stack():
    """On an alternate stack that is read-only at that moment."""
    for _ in range(3):
        done = harness.run([harness.build("handler_on_readonly_stack.c", "-O1")])
        assert (done.returncode, done.stdout) == (0, b"done\n"), done


def test_handlers_that_are_left_by_a_jump():
    """Each would keep a stack of the agent's for ever: the next would wait for one."""
    expected, _ = check_same([harness.build("handler_jumps.c", "-O1")], expect_samples=0)
    assert expected[0] == 0 and "1000 jumps" in expected[1], expected


def test_handlers_that_are_changed_meanwhile():
    """What the program has asked for last is in force, whatever a tick has just seen."""
    expected, _ = check_same([harness.build("handler_toggles.c", "-O1")], expect_samples=0)
    assert expected[0] == 0 and "0 lost" in expected[1], expected
