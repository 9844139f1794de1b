"""A thread that ends past the thread library leaves its record to nobody, although the kernel gives
its number to another thread at once."""
import concurrent.futures
import re

import harness

FLAGS = ("-O1", "-fno-optimize-sibling-calls")


def reuse(end, birth, before=lambda host: None):
    """(host, tid, what before() returned): the second thread has the first one's number and has
    burnt a second."""
    host = harness.Host([harness.build("raw_exit.c", *FLAGS), end, birth])
    host.ready()
    found = before(host)
    host.go_on()
    line = host.line()
    if line == "not permitted":
        raise harness.Skip("the kernel does not let us choose a thread's number")
    tid = int(line.split()[1])
    assert host.line() == "burnt 1000000000"
    host.ready()
    return host, tid, found


def created_by(host, tid):
    text = host.text("goroutine?debug=2")
    (block,) = re.findall(r"^goroutine %d .*?(?=^goroutine |\Z)" % tid, text, re.M | re.S)
    return re.findall(r"^created by (\w+)", block, re.M)


def test_created_by_the_one_that_created_it():
    for end in ("instruction", "call"):
        host, tid, _ = reuse(end, "pthread")
        assert created_by(host, tid) == ["creates_second"], (end, created_by(host, tid))
        live = {
            frame.function
            for sample in host.profile("threadcreate").samples
            for frame in sample.frames
            if sample.labels["state"] == "live"
        }
        assert "creates_second" in live and "creates_first" not in live, live


def test_nobody_knows_who_created_a_bare_clone():
    host, tid, _ = reuse("call", "clone")
    assert created_by(host, tid) == [], host.text("goroutine?debug=2")


def sampled(end, seconds):
    """CPU seconds of the second thread in a profile of so many, None where that was over."""
    with concurrent.futures.ThreadPoolExecutor() as pool:

        def start(host):
            pending = pool.submit(host.profile, "profile?seconds=%d&hz=500" % seconds)
            harness.poll(
                lambda: host.health()["cpu_sampling"]["profiles_running"] == 1, "the profile to run"
            )
            return pending

        _, _, pending = reuse(end, "pthread", start)
        in_time = not pending.done()
        burnt = pending.result().by_function().get("burns", [0, 0])[1] / 1e9
        return burnt if in_time else None


def test_it_is_sampled_once():
    """The first thread has no timer, because it blocks all signals; were its record the second
    one's too, that would be given a timer by each."""
    for end in ("instruction", "call"):
        seen, seconds = None, 3
        while seen is None:
            seconds *= 2  # a slow machine
            assert seconds < 100, "the second is never burnt in time"
            seen = sampled(end, seconds)
        harness.note("%s: %.2f s of 1 s" % (end, seen))
        assert 0.7 < seen < 1.4, (end, seen)
