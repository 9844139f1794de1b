"""What the agent adds at a call fits on a small stack of the program's own: nothing below it is
touched, and nothing is left out."""
import harness

EVERYTHING = {"PPROFAGENT_BLOCKPROFILERATE": "1", "PPROFAGENT_MUTEXPROFILEFRACTION": "1"}
UNTOUCHED = "0 bytes below the stack overwritten"


def call_on(kind, size, profiles):
    program = harness.build(
        "small_stack_calls.c", "-O1", "-fno-optimize-sibling-calls", "-pthread", "-Wl,-z,now"
    )  # the loader takes 2 KB for a name at its first call
    plain = harness.run([program, kind, size], stdin=b"\n", plain=True)
    assert plain.stdout.decode().splitlines() == [UNTOUCHED, "ready"], plain
    host = harness.Host([program, kind, size], rate=1, extra=EVERYTHING)
    lines = host.ready()
    for profile, function in profiles:
        stacks = host.profile(profile).stacks_with(function)
        assert stacks, "%s: %s is in no stack" % (profile, function)
    lost = harness.losses(host.health())
    assert host.finish() == 0, host.describe()
    assert lines == [UNTOUCHED], lines
    assert not {"heap_lost_no_stack", "stacks_truncated_small", "threads_lost_stack"} & set(lost)


def test_coroutines_with_a_page_or_less():
    """What a tick needs is tested in test_cpu_small_stacks."""
    for size in ("6144", "4096", "2048"):
        call_on(
            "coroutine",
            size,
            [
                ("heap", "allocate"),
                ("block", "calls"),
                ("mutex", "calls"),
                ("threadcreate", "calls"),
            ],
        )


def test_smallest_threads_in_signals():
    """A signal inside a signal takes half of such a stack; each handler releases somebody."""
    call_on("thread", "16384", [("heap", "allocate"), ("mutex", "post")])
