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
        return text.count("[sync.Mutex.Lock (leaked)]") == 2 and text.count("[sync.Cond.Wait]") == 3

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
    assert told.startswith("deadlock: ") and " held by %d; " % right in told, told
    assert "%d (left) waits for mutex" % left in told and "held by %d" % left in told, told
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


def test_names_that_look_like_the_dump(browser):
    """Threads' names may hold what stands between the dump's parts."""
    host, _ = blocked_threads()
    open_view(browser, host, "heap")
    text = (
        "# pid 1 comm x; 1=a=b, 2=a=b\n# 1 waits for futex 0x1 held by 2\n"
        "\ngoroutine 1 [sync.Mutex.Lock (leaked), 3 minutes]:\nf(...)\n\t/src/a.cc:7 .c:7 +0x1\n"
        "\ngoroutine 2 [sync.Mutex.Lock, 3 minutes]:\nf(...)\n\t/src/a.cc:7 .c:7 +0x1\n"
    )
    got = browser.evaluate(
        "{const page = document.querySelector('script[type=module]').src;"
        "import(page.replace('view.js', 'dump.js')).then(dump => dump.readDump(%r))}" % text
    )
    assert {each["name"] for each in got["threads"]} == {"a=b"}
    assert {each["minutes"] for each in got["threads"]} == {3}
    assert {each["state"] for each in got["threads"]} == {"sync.Mutex.Lock"}
    assert got["threads"][0]["calls"] == [{"call": "f", "name": "f", "place": "/src/a.cc:7"}]
    host.kill()
