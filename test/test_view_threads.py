"""The table of threads in the browser: who waits where, for what, and who waits for each other."""
import harness
from view_page import check_quiet, choose, open_view, origin, sticks_out, type_into

# [(first cell, names, state, what it waits for, where)], from the top
GROUPS = (
    "[...document.querySelectorAll('#threads tbody')].map(group => {"
    "const cells = group.rows[0].cells;"
    "return [cells[0].textContent, cells[1].textContent, cells[2].textContent, "
    "cells[4].textContent, cells[5].firstChild.textContent]})"
)


def blocked_threads():
    """The host, once all its threads wait where they will for ever; {name: [tid]}."""
    program = harness.build("viewed_threads.c", "-O1", "-fno-optimize-sibling-calls")
    host, tids = harness.Host([program]), {}
    for line in host.ready():
        _, name, tid = line.split()
        tids.setdefault(name, []).append(int(tid))

    def all_wait():
        text = host.text("goroutine?debug=2")
        return text.count("[sync.Mutex.Lock]") == 2 and text.count("[sync.Cond.Wait]") == 3

    harness.poll(all_wait, "the threads wait")
    return host, tids


def test_threads(browser):
    host, tids = blocked_threads()
    [left], [right], pool = tids["left"], tids["right"], tids["pool"]
    open_view(browser, host, "goroutine")
    browser.click("[data-view=threads]")
    browser.until("document.querySelectorAll('#threads tbody').length")
    assert "view=threads" in browser.evaluate("location.hash")
    held = browser.evaluate(GROUPS)
    assert sorted(row[:3] for row in held[:2]) == [
        [str(left), "left", "sync.Mutex.Lock"],
        [str(right), "right", "sync.Mutex.Lock"],
    ]
    for row, other in zip(sorted(held[:2]), (right, left) if left < right else (left, right)):
        assert row[3].endswith(" held by %d" % other) and row[4] == "take_both", row
    assert held[2][:3] == ["3 threads", "pool", "sync.Cond.Wait"] and held[2][4] == "wait_for_work"
    assert [row[0] for row in held[3:]] == [str(host.pid)]
    # the two that wait for each other
    told = browser.evaluate("document.querySelector('#threads [role=alert]').textContent")
    assert told.count("%d (left)" % left) + told.count("%d (right)" % right) == 3, told
    # what a row opens: each thread, the stack, the way to a function's callers
    third = "document.querySelectorAll('#threads tbody')[2]"
    browser.evaluate(third + ".querySelector('button').click()")
    opened = browser.evaluate(third + ".textContent")
    assert all(str(tid) in opened for tid in pool) and "created by main" in opened
    browser.size(360, 760)
    assert not sticks_out(browser)
    browser.size(1200, 900)
    # filters: the state stands in the URL, as the search does
    choose(browser, "thread-state", "sync.Cond.Wait")
    browser.until("document.querySelectorAll('#threads tbody').length === 1")
    assert "tstate=sync.Cond.Wait" in browser.evaluate("location.hash")
    browser.evaluate("history.back()")
    browser.until("document.querySelectorAll('#threads tbody').length === 4")
    type_into(browser, "q", "^right$")
    browser.until("document.querySelectorAll('#threads tbody').length === 1")
    assert browser.evaluate(GROUPS)[0][0] == str(right)
    browser.evaluate("document.querySelector('#threads td.name button').click()")
    browser.until("!!document.querySelectorAll('#callers .chart svg')[1]")
    assert browser.evaluate("document.querySelector('#callers select').value") == "take_both"
    check_quiet(browser, origin(host))
    host.kill()


def test_what_no_two_looks_show_is_no_deadlock(browser):
    """Dumps put together of what was not at one time; and names that look like the dump's form."""
    record = "\ngoroutine %d [%s]:\nf(...)\n\t/src/a.cc:7 .c:7 +0x1\n"

    def dump(holders, names="a=b"):
        return (
            "# pid 1 comm x; "
            + ", ".join("%d=%s" % (tid, names) for tid in holders)
            + "\n"
            + "".join("# %d waits for futex 0x1 held by %d\n" % each for each in holders.items())
            + "".join(record % (tid, "sync.Mutex.Lock, 3 minutes") for tid in holders)
        )

    host, _ = blocked_threads()
    open_view(browser, host, "heap")
    for looks, rings in (
        ([{1: 2, 2: 1}, {1: 2, 2: 1}], 1),
        ([{1: 2, 2: 1}, {1: 2, 2: 3}], 0),
        ([{1: 2, 2: 1}, {2: 3, 3: 2}], 0),
        ([{1: 2, 2: 3}, {1: 2, 2: 1}], 0),
        ([{4: 1, 1: 2, 2: 3, 3: 1}] * 2, 1),
        ([{1: 1}] * 2, 1),
    ):
        texts = [dump(each) for each in looks]
        got = browser.evaluate(
            "{const page = document.querySelector('script[type=module]').src, texts = %s;"
            "import(page.replace('view.js', 'dump.js'))"
            ".then(dump => dump.lookForThreads(async () => texts.shift()))}" % texts
        )
        assert len(got["deadlocks"]) == rings, (looks, got["deadlocks"])
        assert {each["name"] for each in got["threads"]} == {"a=b"}
        assert {each["minutes"] for each in got["threads"]} == {3}
        assert got["threads"][0]["calls"] == [{"call": "f", "name": "f", "place": "/src/a.cc:7"}]
    assert set(got["deadlocks"][0]) == {1}
    host.kill()
