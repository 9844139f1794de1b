"""The program's floating point is its own: what the sampler computes raises no flag that the
program could see, and ends no program that has chosen to be ended by an inexact result."""
import harness

EVERYTHING_ON = {
    "PPROFAGENT_BLOCKPROFILERATE": "1000000000",
    "PPROFAGENT_MUTEXPROFILEFRACTION": "1",
}


def as_without_the_agent(mode, expected):
    program = [harness.build("float_state.c", "-O1", "-lm"), mode]
    empty = harness.build("empty_preload.c", shared=True)
    runs = [
        harness.run(program, plain=True),
        harness.run(program, plain=True, preload_before=[empty]),
        harness.run(program, rate=512, extra=EVERYTHING_ON),
    ]
    for done in runs:
        assert (done.returncode, done.stdout.decode(), done.stderr) == (0, expected, b""), done


def test_no_flags():
    as_without_the_agent("flags", "child's status 0\nflags 0, to the nearest\n")


def test_no_traps():
    as_without_the_agent("traps", "child's status 0\nflags 0, to the nearest\n")


def test_the_rounding_mode_stays():
    as_without_the_agent("rounding", "child's status 0\nflags 0, upward\n")
