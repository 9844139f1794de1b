"""Programs that block or forbid what CPU samples need run as they do without the agent; no call of
theirs is interrupted."""
import resource

import harness
from cpu_outcomes import Profiling, calls, check_same, masks, plain_outcome
from pprof_reader import Profile
from system_calls import under_filter


# ---- masks and sandboxes -------------------------------------------------------------------------


def check_masks(mode, **options):
    expected, profiling = check_same([masks(), mode], **options)
    assert expected[0] == 0, expected
    return profiling


def test_blocked_signals_show_nothing():
    check_masks("masked")


def test_waiting_for_all_signals():
    check_masks("wait_for_signals")


def test_seccomp_strict():
    check_masks("seccomp_strict", expect_samples=0)  # the profile is cut off


def test_sandboxes_that_kill():
    for mode in ("deadly_timers", "deadly_prctl"):
        check_masks(mode, expect_samples=0)


def check_refusal(argv, words, **options):
    """No profile can be had: the agent says why, or gives an empty one that says it; the host goes
    on."""
    expected = plain_outcome(argv, **options)
    host = harness.Host(argv, **harness.by_timers(options))
    lines = host.ready() + ["ready"]
    status, _, body = host.get("profile?seconds=1&hz=1000")
    said = Profile(body).comments if status == 200 else [body.decode(errors="replace")]
    assert any(word in text for text in said for word in words), (status, said)
    profiling = Profiling(host)  # threads are born meanwhile
    host.go_on()
    lines += host.ready() + ["ready"]
    profiling.stop()
    assert (host.finish(), lines, host.stderr().encode()) == expected, (lines, expected)


def test_a_filter_that_refuses_timers():
    check_refusal(under_filter("errno", ["timer_create"], [masks(), "plain_burn"]), ("timer",))


def test_no_pending_signals_allowed():
    check_refusal(
        [masks(), "plain_burn"],
        ("timer", "RLIMIT_SIGPENDING"),
        preexec_fn=harness.limit(resource.RLIMIT_SIGPENDING, 0),
    )


# ---- EINTR ---------------------------------------------------------------------------------------


def test_a_million_calls_see_no_eintr():
    """While a thread's CPU timer fires 250 times a second (the kernel's tick), in the middle of
    calls that SA_RESTART does not cover."""
    expected, profiling = check_same([calls(), "count", "1000000"], expect_samples=500, seconds=180)
    leafs = profiling.by_leaf()
    inside = sum(
        count
        for name, count in leafs.items()
        if any(
            word in name
            for word in (
                "poll",
                "sleep",
                "select",
                "sem",
                "futex",
                "recv",
                "read",
                "msg",
                "sigtimedwait",
                "syscall",
            )
        )
    )
    harness.note(
        "%d samples, %d of them inside the calls: %s"
        % (profiling.samples(), inside, leafs.most_common(12))
    )
    assert inside > 100, leafs


def test_the_hosts_own_signals_interrupt():
    check_same([calls(), "own", "1000"], expect_samples=1, seconds=120)


def test_the_hosts_own_signals_that_come_with_a_tick():
    check_same([calls(), "tick", "500"], expect_samples=50, seconds=120)
