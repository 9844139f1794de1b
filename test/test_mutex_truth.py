"""mutex: who makes others wait is charged with just what they waited for him, however many wait,
however the lock goes round."""
import functools
import math
import os

import harness
import lock_journal
from lock_journal import EVERY_EVENT, Journal
from test_block_truth import every_kind


@functools.lru_cache(maxsize=None)
def schedules():
    """(journal, what block has, what mutex has) of one run of lock_releases.c with every event
    recorded."""
    host = lock_journal.start("lock_releases.c", **EVERY_EVENT)
    journal = Journal(host.ready())
    block, mutex = (lock_journal.found(host.profile(name)) for name in ("block", "mutex"))
    assert harness.losses(host.health()) == {}
    assert host.finish() == 0
    return journal, block, mutex


def check(*functions, counts):
    """The journal's charges of these functions are the profile's, and its delays are returned;
    counts: by construction, in each of the two rounds; None: not even a charge."""
    journal, _, mutex = schedules()
    expected = {
        key: values
        for key, values in lock_journal.charged_sums(journal).items()
        if key[0] in functions
    }
    assert {key[0]: values[0] for key, values in expected.items()} == {
        function: 2 * count for function, count in zip(functions, counts) if count is not None
    }, expected
    seen = {key: values for key, values in mutex.items() if key[0] in functions}
    wrong = lock_journal.differences(expected, seen)
    assert not wrong, "\n".join(wrong)
    return [
        values[1] for function in functions for key, values in seen.items() if key[0] == function
    ]


def test_every_kind_of_release():
    """One waiter, one release of each kind of lock: mutexes of every type, rwlocks, spin locks,
    semaphores, C11, futexes. Conditions, barriers, joins, and waits that nobody's call ended are
    not there."""
    journal, answers, _ = every_kind()
    expected = lock_journal.charged_sums(journal)
    assert len(expected) > 40 and {count for count, _, _ in expected.values()} == {2}
    wrong = lock_journal.differences(
        expected, lock_journal.found(harness.Profile(answers["mutex"][0]))
    )
    assert not wrong, "\n".join(wrong)


def test_several_wait_and_the_lock_goes_round():
    """A holds, three wait; A gives it to B, for whom two wait on, B to C, for whom one does: A is
    charged for three, B for two, C for one, D for none."""
    of_a, of_b, of_c = check(
        "give_to_several", "give_to_two", "give_to_one", "give_to_none", counts=(1, 1, 1, None)
    )
    assert of_a > of_b > of_c > 0


def test_semaphore_posts_by_one_who_never_waited():
    check("give_first_token", "give_second_token", "give_third_token", counts=(1, 1, 1))


def test_one_takes_another_waits_a_third_gives_back():
    check(
        "give_for_another",
        "give_spin_of_another",
        "take_passed",
        "take_spin",
        counts=(1, 1, None, None),
    )


def test_futex_wakes():
    """The first wakes one of three, the second the other two."""
    check("give_wake_one", "give_wake_all", counts=(1, 2))


def test_requeue():
    """It is a release, also for the waiter that it only moves to another word: that one's later
    release is not seen (futex_calls.c)."""
    check(
        "give_requeue",
        "give_wake_requeued",
        "give_cmp_requeue",
        "give_wake_cmp_requeued",
        counts=(2, None, 2, None),
    )


def test_waiting_for_a_condition_releases_its_mutex():
    functions = [
        "give_by_" + name
        for name in ("cond_wait", "cond_timedwait", "cond_clockwait", "cnd_wait", "cnd_timedwait")
    ]
    old = [
        name
        for name in ("give_by_old_cond_wait", "give_by_old_cond_timedwait")
        if os.uname().machine == "x86_64"
    ]
    check(*functions, *old, counts=[1] * len(functions + old))


def test_inner_unlocks_release_nothing():
    check("give_inner", "give_inner_c11", "give_outer", "give_outer_c11", counts=(None, None, 1, 1))


def test_unlocks_that_fail_release_nothing():
    check(
        "give_not_its_own",
        "give_not_its_own_robust",
        "give_not_its_own_recursive",
        "give_errorcheck",
        "give_robust",
        "give_again",
        counts=(None, None, None, 1, 1, 1),
    )


def test_pi_futex_unlock_that_fails_releases_nothing():
    check("give_not_its_own_pi", "give_pi", counts=(None, 1))


def test_a_wait_in_a_signal_handler_within_a_wait():
    check("give_nested_inner", "give_nested_outer", counts=(1, 1))


def test_a_writer_waits_for_several_readers():
    """The first reader that goes is charged with what the writer has waited so far, the last with
    the rest, and only he lets it in."""
    check("give_first_reader", "give_last_reader", counts=(0, 1))


def test_several_readers_wait_for_a_writer():
    check("give_to_readers", counts=(3,))


def test_waits_that_give_up():
    """What they have waited since the last release is nobody's; who releases afterwards is charged
    only for those who still wait."""
    check("give_in_vain", "give_too_late", "give_patience", counts=(0, None, 1))


def test_nothing_else_is_there():
    journal, _, mutex = schedules()
    wrong = lock_journal.differences(lock_journal.charged_sums(journal), mutex)
    assert not wrong, "\n".join(wrong)


def test_waiters_of_these_schedules():
    journal, block, _ = schedules()
    wrong = lock_journal.differences(lock_journal.blocked_sums(journal), block)
    assert not wrong, "\n".join(wrong)


def test_releasers_are_charged_with_what_waiters_waited():
    """Hundreds of short sections of six locks, four threads: charges follow the program's own
    account of each call; and releasers' events and waiters' events are the same number, but for
    waits whose release came before they were entered (counted).
    """
    host = lock_journal.start("lock_crowd.c", **EVERY_EVENT)
    journal = Journal(host.ready())
    block, mutex = lock_journal.found(host.profile("block")), lock_journal.found(
        host.profile("mutex")
    )
    losses = harness.losses(host.health())
    assert host.finish() == 0
    assert set(losses) <= {"mutex_lost_releases"}, losses
    waits, ended = (sum(count for count, _ in seen.values()) for seen in (block, mutex))
    assert waits == ended + losses.get("mutex_lost_releases", 0), (waits, ended, losses)
    at_most = journal.most_events()
    at_most.update((key, len(times)) for key, times in journal.blocked().items())
    for sums, seen in (
        (lock_journal.blocked_sums(journal), block),
        (lock_journal.charged_sums(journal), mutex),
    ):
        assert len(sums) == 6 and set(seen) == set(sums), (sums, seen)
        for key, (_, least, most) in sums.items():
            found, delay = seen[key]
            harness.note(
                "%s: %d waits, %.1f ms; the program's: %.1f to %.1f ms"
                % (key[0], found, delay / 1e6, least / 1e6, most / 1e6)
            )
            assert 10 < found <= at_most[key] and most > 10e6 and least <= delay <= most, (
                key,
                at_most[key],
                least,
                most,
                seen[key],
            )


def test_default_fraction():
    """One wait in 10 is looked at and counts for 10: the variance of a sum is 9 times the sum of
    squares."""
    fraction = 10
    host = lock_journal.start("lock_sampling.c")
    journal = Journal(host.ready())
    seen = lock_journal.found(host.profile("mutex"))
    assert harness.losses(host.health()) == {} and host.finish() == 0
    charged = journal.charged()
    assert len(charged) == 3 and set(seen) == set(charged), seen
    for key, (events, times) in charged.items():
        for value, terms in zip(seen[key], (events, times)):
            truth, error = sum(terms), math.sqrt(
                (fraction - 1) * sum(term * term for term in terms)
            )
            lock_journal.check_estimate(key[0], value, truth, error)
