"""Sizes of blocks under a function, as the view shows them: what the workload has allocated."""
import os

import harness
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

STAYS, SHRINKS = ["1000 B", 50, 50 * 1000], ["1.95 KiB", 30, 30 * 2000]
SIZES = (
    "[...document.querySelectorAll('#sizes tbody tr')].map(row => ["
    "row.firstElementChild.textContent, ...JSON.parse(row.dataset.value)])"
)


def sizes(browser, wanted):
    harness.poll(lambda: browser.evaluate(SIZES) == wanted, "the sizes %s" % wanted)


def test_sizes_under_a_function(browser):
    host = viewed_heap()
    open_view(browser, host, "heap")
    click_row(browser, "stays")
    sizes(browser, [STAYS])
    browser.evaluate("history.back()")
    browser.until(has_row("main"))
    click_row(browser, "main")
    sizes(browser, [SHRINKS, STAYS, ["all", 80, 110000]])
    assert "live in it" in browser.evaluate("document.querySelector('#sizes h2').textContent")
    # what has come since, and what was freed
    again(host)
    browser.click("#refresh")
    grown, shrunk = ["9.77 KiB", 7, 70000], ["1.95 KiB", 27, 54000]
    sizes(browser, [grown, shrunk, STAYS, ["all", 84, 174000]])
    choose(browser, "type", "alloc_objects")
    sizes(browser, [grown, SHRINKS, STAYS, ["all", 87, 180000]])
    assert "was allocated" in browser.evaluate("document.querySelector('#sizes h2').textContent")
    # a change has none
    browser.click("#mark")
    browser.click("#compare")
    browser.until("document.querySelectorAll('#facts b').length === 3")
    browser.until("!document.querySelector('#sizes')")
    check_quiet(browser, origin(host))
    assert host.finish() == 0


def test_sizes_of_a_saved_profile(browser):
    host = viewed_heap()
    path = os.path.join(harness.scratch(), "saved.pb.gz")
    with open(path, "wb") as file:
        file.write(host.get("heap")[2])
    again(host)
    open_view(browser, host, "profile", "!document.getElementById('choose-file').hidden")
    browser.choose_file("#file", path)
    browser.until(has_row("main"))
    click_row(browser, "main")
    sizes(browser, [SHRINKS, STAYS, ["all", 80, 110000]])
    check_quiet(browser, origin(host))
    assert host.finish() == 0


def test_profiles_without_sizes(browser):
    host = viewed_heap()
    open_view(browser, host, "goroutine#view=callers", "document.querySelector('#callers .chart')")
    assert browser.evaluate("!document.querySelector('#sizes')")
    check_quiet(browser, origin(host))
    assert host.finish() == 0
