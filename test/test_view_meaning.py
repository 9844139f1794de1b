"""What a view's figures mean, in words, and how much of what was allocated is live."""
from view_page import (
    again,
    check_quiet,
    choose,
    click_row,
    has_row,
    open_view,
    origin,
    viewed_heap,
)

MEANING = "document.getElementById('meaning').textContent"
DETAIL = "document.getElementById('detail').textContent"


def point_at(browser, name):
    """At a row of the table of functions."""
    browser.until(has_row(name))
    browser.evaluate(
        "[...document.querySelectorAll('#table tbody tr')].find(row => "
        "row.querySelector('td.name button').textContent === %r)"
        ".dispatchEvent(new MouseEvent('mouseenter'))" % name
    )
    return browser.evaluate(DETAIL)


def test_live_of_allocated(browser):
    """30 blocks of 2,000 bytes, of which 3 have been freed."""
    host = viewed_heap()
    again(host)
    open_view(browser, host, "heap")
    live = "52.7 KiB live of 58.6 KiB allocated, 90.0 %"
    assert live in point_at(browser, "shrinks"), browser.evaluate(DETAIL)
    assert "48.8 KiB live of 48.8 KiB allocated, 100.0 %" in point_at(browser, "stays")
    assert browser.evaluate(MEANING) == "bytes that were allocated here and not freed"
    choose(browser, "type", "alloc_objects")
    browser.until(MEANING + " === 'blocks that were allocated here, freed or not'")
    assert "27 live of 30 allocated, 90.0 %" in point_at(browser, "shrinks")
    # a frame of the graph
    click_row(browser, "shrinks")
    browser.evaluate("history.back()")
    browser.until(has_row("shrinks"))
    frame = "[...document.querySelectorAll('#flame g.frame')].find(each => "
    frame += "each.textContent.includes('shrinks'))"
    browser.until(frame)
    browser.evaluate(frame + ".dispatchEvent(new MouseEvent('mouseover', {bubbles: true}))")
    assert "27 live of 30 allocated" in browser.evaluate(DETAIL)
    check_quiet(browser, origin(host))
    assert host.finish() == 0


def test_what_contentions_and_delay_are(browser):
    host = viewed_heap()
    for view, kind, words in (
        ("block", "delay", "how long threads waited here, all of them added up"),
        ("mutex", "contentions", "how often others waited for a lock that was released here"),
    ):
        open_view(browser, host, view, "!!document.querySelector('#meaning')")
        choose(browser, "type", kind)
        browser.until(MEANING + " === %r" % words)
    host.kill()
