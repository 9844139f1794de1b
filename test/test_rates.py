"""Rates that are changed while the program runs (/debug/pprof/rates): each sample keeps the rate at
which it was drawn, so totals are right before and after; and nobody but the owner changes one."""
import json
import math
import os
import urllib.parse

import harness
import pytest
from test_access import OTHER, curl
from view_page import check_quiet, origin, sticks_out

SIZE, EXACT, SAMPLED, ROUND = 100, 1000, 400000, 4000
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def start(rate, **options):
    program = harness.build("rates.c", "-O1", "-fno-optimize-sibling-calls")
    host = harness.Host([program], rate=rate, **options)
    truth = "size %d exact %d sampled %d round %d" % (SIZE, EXACT, SAMPLED, ROUND)
    assert host.ready() == [truth]
    return host


def order(host, letters):
    """Two at a time: what, and which thread: t or -."""
    for at in range(0, len(letters), 2):
        host.process.stdin.write((letters[at : at + 2] + "\n").encode())
        host.process.stdin.flush()
        assert host.line() == "done"


def post(host, headers=None, path="rates", **rates):
    """(status, headers, body)"""
    return host.get(
        path,
        method="POST",
        body=urllib.parse.urlencode(rates),
        headers=dict(FORM, **(headers or {})),
    )


def change(host, path="rates", **rates):
    """The rates that are in force then."""
    status, headers, body = post(host, path=path, **rates)
    assert (status, headers["Content-Type"]) == (200, "application/json"), (status, body)
    now = json.loads(body)
    assert all(now[name] == value for name, value in rates.items()), now
    assert json.loads(host.text(path)) == now
    return now


def values(host, function, name="heap"):
    """[allocations, their bytes, those in use, their bytes]"""
    return host.profile(name).by_leaf().get(function, [0, 0, 0, 0])


def check_about(found, expected, rate):
    """Within 5 standard errors of what is sampled at this rate."""
    share = 5 * math.sqrt(rate / (expected * SIZE))
    for value, scale in zip(found, (1, SIZE)):
        assert abs(value - expected * scale) <= share * expected * scale, (found, expected)


@pytest.mark.parametrize("thread", "-t")
def test_each_sample_keeps_its_rate(thread):
    host = start(rate=1)
    orders = lambda letters: order(host, "".join(letter + thread for letter in letters))
    all_of_it = [EXACT, EXACT * SIZE] * 2
    orders("1")
    assert values(host, "at_first") == all_of_it
    # from every allocation to some
    change(host, memprofilerate=4096)
    assert host.health()["config"]["memprofilerate"] == 4096
    orders("bs")
    found = values(host, "sampled")
    check_about(found[:2], SAMPLED, 4096)
    assert found[:2] == found[2:] and values(host, "at_first") == all_of_it
    # and back: what is allocated now is exact, what is freed is weighed as it was
    change(host, memprofilerate=1)
    orders("be")
    assert values(host, "exact") == all_of_it and values(host, "sampled") == found
    orders("h")
    check_about(values(host, "sampled")[2:], SAMPLED // 2, 4096)
    # off: nothing comes in, frees are still seen
    change(host, memprofilerate=0)
    orders("bugf")  # g: 2 TiB in all
    assert values(host, "unseen") == values(host, "huge", "allocs") == [0, 0, 0, 0]
    assert values(host, "sampled") == found[:2] + [0, 0]
    assert b"PPROFAGENT_MEMPROFILERATE is 0" in host.get("")[2]
    # on again
    change(host, memprofilerate=1)
    orders("be")
    assert values(host, "exact") == [2 * EXACT, 2 * EXACT * SIZE] * 2
    assert values(host, "at_first") == all_of_it and values(host, "unseen") == [0, 0, 0, 0]
    # pprof adds up samples of several rates as they are
    shown, _ = harness.pprof("-top", "-sample_index=inuse_objects", host.url("heap"))
    rows = {
        words[-1]: int(words[0]) for words in map(str.split, shown.split(" cum%\n")[1].splitlines())
    }
    assert (rows["at_first"], rows["exact"]) == (EXACT, 2 * EXACT)
    assert "@ heap/2\n" in host.text("heap?debug=1")  # as sampled at rate 1: scaled already
    assert harness.losses(host.health()) == {}
    assert host.finish() == 0


def test_it_can_begin_without_a_rate():
    host = start(rate=0)
    order(host, "u-utg-")  # more than 4 GiB, too
    assert host.get("heap")[0] == 503
    change(host, memprofilerate=1)
    order(host, "b-btete-")
    assert values(host, "exact") == [2 * EXACT, 2 * EXACT * SIZE] * 2
    assert values(host, "unseen") == values(host, "huge") == [0, 0, 0, 0]
    assert host.finish() == 0


def test_points_that_are_far_away():
    """Beyond 4 GiB the next sample point is drawn anew on the way."""
    rate, count, size = 4 << 30, 8000, 256 << 20
    host = start(rate=rate)
    order(host, "g-")
    seen = 1 - math.exp(-size / rate)
    share = 5 * math.sqrt((1 - seen) / seen / count)
    found = values(host, "huge", "allocs")
    harness.note("large blocks, one in 16 seen: %.3f of the truth" % (found[0] / count))
    assert abs(found[0] / count - 1) < share, found
    assert host.finish() == 0


@pytest.mark.parametrize("other", (525288, 65536))
def test_changes_have_no_bias(other):
    """What is allocated while a thread goes over from one rate to the next counts once, on average:
    each round is less than two of the steps at which a thread looks for a new rate."""
    rate, rounds = 524288, 1500
    host = start(rate=rate)
    for i in range(rounds):
        status, _, body = post(host, memprofilerate=other if i % 2 else rate)
        assert status == 200, body
        order(host, "r-")
    found = values(host, "in_round", "allocs")
    share = 5 * math.sqrt(rate / (rounds * ROUND * SIZE))
    harness.note(
        "%d changes of rate: %.3f of the truth" % (rounds, found[1] / rounds / ROUND / SIZE)
    )
    assert abs(found[1] / (rounds * ROUND * SIZE) - 1) < share, found
    assert host.finish() == 0


def test_by_the_process_number():
    host = start(rate=4096)
    change(host, memprofilerate=1, block=5, mutex=7)
    assert change(host, path="/pid/%d/debug/pprof/rates" % host.pid, block=6) == {
        "memprofilerate": 1,
        "block": 6,
        "mutex": 7,
    }
    assert host.finish() == 0


def test_a_forked_child_has_the_rates_of_its_parent():
    host = start(rate=4096)
    now = change(host, memprofilerate=1, block=5)
    order(host, "b-")
    host.process.stdin.write(b"k-\n")
    host.process.stdin.flush()
    child = "/pid/%d/debug/pprof/" % int(host.line().split()[1])
    harness.poll(lambda: host.get(child + "rates")[0] == 200, "the child serves")
    assert json.loads(host.text(child + "rates")) == now
    expected = [EXACT, EXACT * SIZE] * 2
    harness.poll(lambda: values(host, "exact", child + "heap") == expected, "what it allocates")
    # each changes its own
    change(host, path=child + "rates", memprofilerate=4096)
    assert json.loads(host.text("rates")) == now
    assert host.line() == "done" and host.finish() == 0


def test_mappings():
    host, size = start(rate=1), 1 << 20
    live = lambda: values(host, "mapped", "mmap")[2:4]
    order(host, "m-")
    assert live() == [20, 20 * size]
    change(host, memprofilerate=0)
    order(host, "o-m-")  # what takes the place of others is seen, and is none itself
    assert live() == [10, 10 * size]
    change(host, memprofilerate=1)
    order(host, "m-")
    assert live() == [30, 30 * size]
    assert host.finish() == 0


def test_locks():
    program = harness.build("contention_counts.c", "-O1", "-fno-optimize-sibling-calls")
    off = {"PPROFAGENT_BLOCKPROFILERATE": "0", "PPROFAGENT_MUTEXPROFILEFRACTION": "0"}
    host = harness.Host([program], extra=off)
    host.ready()
    counts = lambda: [
        host.profile(name).by_function()[function][0]
        for name, function in (("block", "wait_often"), ("mutex", "release_often"))
    ]

    def wait_twice():
        host.go_on()
        assert host.line() == "again"

    assert host.get("block")[0] == 503 and host.get("mutex")[0] == 503
    change(host, block=1, mutex=1)
    wait_twice()
    assert counts() == [2, 2]
    change(host, block=0)
    wait_twice()
    assert counts() == [2, 4]
    change(host, block=1, mutex=0)
    wait_twice()
    assert counts() == [4, 4]
    assert host.finish() == 0


def test_what_is_refused():
    host = start(rate=4096, extra={"PPROFAGENT_ORIGINS": "http://reads.example"})
    before = json.loads(host.text("rates"))
    assert before == {"memprofilerate": 4096, "block": 100000, "mutex": 10}
    bad = {
        "memprofilerate=-1": "memprofilerate",
        "block=1e3": "block",
        "mutex=": "mutex",
        "block=1&mutex=x": "mutex",
        "memprofilerate=2000G": "memprofilerate",
        "memprofilerate=" + "1" * 300: "memprofilerate",
        "": None,
        "rate=1": None,
    }
    for body, name in bad.items():
        status, headers, text = host.get("rates", method="POST", body=body, headers=FORM)
        assert (status, headers["X-Go-Pprof"]) == (400, "1"), (body, status)
        wanted = 'invalid value for "%s"' % name if name else "none is given"
        assert text.decode().startswith(wanted), (body, text)
    own = origin(host).rstrip("/")
    for headers, status in (
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 400),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://reads.example"}, 403),
        ({"Referer": "http://reads.example/page"}, 403),
        ({"Referer": own + "/debug/pprof/"}, 403),
        ({"Host": "evil.example"}, 403),
    ):
        assert post(host, headers, memprofilerate=1)[0] == status, headers
    assert host.get("rates", headers={"Origin": "http://reads.example"})[0] == 200
    for method in ("PUT", "DELETE"):
        assert host.get("rates", method=method)[0] == 405
    assert (
        host.get("/tree/debug/pprof/rates", method="POST", body="block=1", headers=FORM)[0] == 404
    )
    assert json.loads(host.text("rates?memprofilerate=1&block=1")) == before  # no GET changes
    assert post(host, {"Origin": own}, memprofilerate="8k")[0] == 200
    assert json.loads(host.text("rates"))["memprofilerate"] == 8192
    for rate in range(100, 130):  # with the two before: 32
        change(host, memprofilerate=rate)
    status, _, text = post(host, memprofilerate=1, block=1)
    assert status == 503 and b"at most 32" in text
    assert change(host, memprofilerate=4096) == before
    assert host.finish() == 0


def test_another_user_reads_and_changes_nothing():
    if os.getuid() != 0:
        raise harness.Skip("only root can be several users")
    host = start(rate=4096, extra={"PPROFAGENT_ALLOW_UIDS": str(OTHER)})
    assert curl(OTHER, host.url("rates"))[0] == 200
    status, _, text = curl(OTHER, host.url("rates"), "-d", "block=1")
    assert status == 403 and b"by the process's owner" in text
    assert json.loads(host.text("rates"))["block"] == 100000
    assert host.finish() == 0


def test_the_form_of_the_index(browser):
    host = start(rate=4096)
    browser.open(host.url())
    browser.until("!document.getElementById('rates').hidden")
    browser.click("#rates summary")
    for width in (1200, 360):
        browser.size(width, 900)
        assert not sticks_out(browser), width
    fill = "{const f = document.querySelector('#rates input[name=%s]'); f.value = '%s'}"
    browser.evaluate(fill % ("mutex", "none"))
    browser.click("#rates button")
    browser.until("document.querySelector('#rates output').textContent.includes('invalid value')")
    del browser.console[:]  # it says that the answer was 400
    browser.evaluate(fill % ("mutex", "3"))
    browser.evaluate(fill % ("memprofilerate", "1"))
    browser.evaluate("window.before = true")
    browser.click("#rates button")
    browser.until(
        "!window.before && document.body && "
        "document.body.textContent.includes('heap: every allocation')"
    )
    assert json.loads(host.text("rates")) == {"memprofilerate": 1, "block": 100000, "mutex": 3}
    check_quiet(browser, origin(host))
    assert host.finish() == 0
