"""A thread that ends past the thread library leaves its record to nobody, although the kernel gives its number to another thread at once."""
import concurrent.futures
import re

import harness

FLAGS = ("-O1", "-fno-optimize-sibling-calls")


def reuse(end, birth, before=lambda host: None):
    """(host, tid, what before() returned): the second thread has the first one's number and has burnt a second."""
    host = harness.Host([harness.build("raw_exit.c", *FLAGS), end, birth])
    host.ready()
    found = before(host)
    host.go_on()
    line = host.line()
    if line == "not permitted":
        raise harness.Skip("the kernel does not let us choose a thread's number (CAP_CHECKPOINT_RESTORE)")
    tid = int(line.split()[1])
    assert host.line() == "burnt 1000000000"
    host.ready()
    return host, tid, found


def created_by(host, tid):
    block, = re.findall(r"^goroutine %d .*?(?=^goroutine |\Z)" % tid, host.text("goroutine?debug=2"), re.M | re.S)
    return re.findall(r"^created by (\w+)", block, re.M)


def test_created_by_the_one_that_created_it():
    for end in ("instruction", "call"):
        host, tid, _ = reuse(end, "pthread")
        assert created_by(host, tid) == ["creates_second"], (end, host.text("goroutine?debug=2"))
        states = {(frame.function, sample.labels["state"]) for sample in host.profile("threadcreate").samples for frame in sample.frames
                  if frame.function in ("creates_first", "creates_second")}
        assert ("creates_first", "live") not in states and ("creates_second", "live") in states, states


def test_nobody_knows_who_created_a_bare_clone():
    host, tid, _ = reuse("call", "clone")
    assert created_by(host, tid) == [], host.text("goroutine?debug=2")


def test_it_is_sampled_once():
    """The first thread has no timer, because it blocks all signals; were its record the second one's too, that would be given a timer by each."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        def start(host):
            pending = pool.submit(host.profile, "profile?seconds=5&hz=500")
            harness.poll(lambda: host.health()["cpu_sampling"]["profiles_running"] == 1, "the profile to run")
            return pending
        for end in ("instruction", "call"):
            host, _, pending = reuse(end, "pthread", start)
            seen = pending.result().by_function().get("burns", [0, 0])[1] / 1e9
            harness.note("%s: %.2f s of 1 s" % (end, seen))
            assert 0.7 < seen < 1.4, (end, seen)
