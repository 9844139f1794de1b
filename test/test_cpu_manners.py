"""What a host sees of its own signals, masks and filters is the same while CPU profiles run."""
import concurrent.futures

import harness
from cpu_outcomes import check_same


def manners():
    return harness.build("cpu_manners.c", "-O1")


def test_masks_that_atfork_handlers_set():
    expected, _ = check_same([manners(), "atfork_masks"], expect_samples=20)
    assert "child blocks SIGTERM: 1; parent blocks SIGUSR1: 1" in expected[1], expected


def test_ignored_signals_of_others_interrupt_nothing():
    expected, _ = check_same([manners(), "urgent"], expect_samples=20)
    assert "interrupted: 0" in expected[1], expected


def test_filters_that_the_host_installs():
    for mode in ("filter_by_prctl", "filter_by_seccomp"):
        expected, _ = check_same([manners(), mode], expect_samples=0)  # the profile is cut off
        assert expected[0] == 0 and "under a filter" in expected[1], expected


def test_a_thread_that_ends_under_a_filter_of_its_own():
    expected, _ = check_same([manners(), "filter_of_a_thread"], expect_samples=0)
    assert expected[0] == 0 and "ended under a filter" in expected[1], expected


def test_threads_born_with_all_signals_blocked_are_sampled():
    """While a profile runs; before, they keep the mask that they were born with."""
    host = harness.Host([manners(), "blocked_pool"], **harness.by_timers())
    host.ready()
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        running = executor.submit(
            host.profile, "profile?seconds=8"
        )  # they need one, or two with as many busy processes beside them
        harness.poll(
            lambda: host.health()["cpu_sampling"]["profiles_running"] == 1, "the profile to run"
        )
        host.go_on()
        profile = running.result()
    pool = sum(
        sample.values[1]
        for sample in profile.samples
        if any(frame.function == "pool" for frame in sample.frames)
    )
    harness.note("%.2f s of 2 s" % (pool / 1e9))
    assert 1.5e9 < pool < 2.2e9 and not profile.comments, (pool, profile.comments)
    host.ready()
    assert host.finish() == 0


def test_threads_born_with_all_signals_blocked_keep_their_masks():
    expected, _ = check_same([manners(), "masks_of_pool"], expect_samples=20)
    text = " ".join(expected[1])
    assert "blocks SIGURG: 1, 1, 1, 1, 1SigBlk:" in text and " 1, 0 " in text, expected


def test_nobody_profiles_and_no_mask_is_changed():
    argv = [manners(), "status_of_pool"]
    plain = harness.run(argv, stdin=b"\n\n", plain=True)
    host = harness.Host(argv, **harness.by_timers())
    host.ready()
    host.address
    host.go_on()
    assert plain.stdout.decode().splitlines()[1:2] == host.ready() and host.finish() == 0


def test_who_waits_for_the_signal_gets_it():
    """Sampling keeps away from the signal once somebody waits for it: what that costs is stated."""
    expected, profiling = check_same([manners(), "urgent_wait"], expect_samples=0)
    assert "got 20" in expected[1], expected
    lost = [line for profile in profiling.profiles for line in profile.comments]
    assert any(line.startswith("CPU time not sampled: ") for line in lost), lost
