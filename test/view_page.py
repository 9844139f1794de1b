"""A view that is open in a browser: what it shows, as values, and what a person does to it."""
import json
import os

import harness

# Functions are called so: text, whatever it looks like.
NAMES = (
    "<script>window.hurt=1</script>",
    "<img src=x onerror=window.hurt=1>",
    "quotes \"double\" 'single' `back`",
    "\u202eright to left \u05e9\u05dc\u05d5\u05dd",
    "long_" + "x" * 10000,
    "</script><b>bold</b>&amp;${1}",
)
SHOWS_FRAMES = "!!document.querySelector('#flame g.frame')"


def viewed_heap(names=(), extra=None):
    """viewed_heap.c, with made code of these names."""
    path = os.path.join(harness.scratch(), "names")
    with open(path, "w") as file:
        file.write("".join(name + "\n" for name in names))
    program = harness.build("viewed_heap.c", "-O1", "-fno-optimize-sibling-calls")
    host = harness.Host([program] + ([path] if names else []), rate=1, extra=extra)
    host.ready()
    return host


def again(host):
    host.go_on()
    assert host.line() == "again"


def origin(host):
    return "http://%s:%d/" % host.address


def check_quiet(browser, *origins):
    """Nothing on the console, and nothing asked of anybody else."""
    assert not browser.console, browser.console
    known = tuple(origins) + ("data:", "blob:", "about:")
    strangers = [url for url in browser.requests if not url.startswith(known)]
    assert not strangers, strangers


def open_view(browser, host, view, wait=SHOWS_FRAMES):
    browser.open(host.url("view/" + view))
    browser.until(wait)


def rows(browser):
    """{function: its row's exact values}"""
    return dict(
        browser.evaluate(
            "[...document.querySelectorAll('#table tbody tr')].map(row => ["
            "row.querySelector('td.name button').textContent, "
            "[...row.querySelectorAll('td[data-value]')].map(cell => Number(cell.dataset.value))])"
        )
    )


def facts(browser):
    return dict(
        browser.evaluate(
            "[...document.querySelectorAll('#facts b')]"
            ".map(b => [b.dataset.fact, Number(b.dataset.value)])"
        )
    )


def all_frames(place):
    return "[...document.querySelectorAll('%s g.frame')]" % place


def frames(browser, place="#flame"):
    return browser.evaluate(all_frames(place) + ".map(g => g.getAttribute('name'))")


def click_frame(browser, name, place="#flame"):
    browser.evaluate(
        "%s.find(g => g.getAttribute('name') === %s)"
        ".dispatchEvent(new MouseEvent('click', {bubbles: true}))"
        % (all_frames(place), json.dumps(name))
    )


def has_row(name):
    """True once the table has this function."""
    return (
        "[...document.querySelectorAll('#table td.name button')]"
        ".some(b => b.textContent === %s)" % json.dumps(name)
    )


def click_row(browser, name):
    browser.evaluate(
        "[...document.querySelectorAll('#table td.name button')]"
        ".find(b => b.textContent === %s).click()" % json.dumps(name)
    )


def set_field(browser, field, value, event):
    browser.evaluate(
        "{const f = document.getElementById(%s); f.value = %s; "
        "f.dispatchEvent(new Event('%s'))}" % (json.dumps(field), json.dumps(value), event)
    )


def type_into(browser, field, text):
    set_field(browser, field, text, "input")


def choose(browser, field, value):
    set_field(browser, field, value, "change")


def sticks_out(browser):
    """What is wider than the window, as tags and texts."""
    return browser.evaluate(
        "{const room = document.documentElement.clientWidth;"
        "document.documentElement.scrollWidth <= room ? [] : "
        "[...document.body.querySelectorAll('*')]"
        ".filter(e => e.getBoundingClientRect().right > room + 0.5)"
        ".map(e => e.tagName + '#' + e.id + '.' + e.className + ' ' + e.textContent.slice(0, 40))}"
    )
