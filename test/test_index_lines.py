"""The lines of the last five minutes at the top of the index, and what they are drawn of."""
import os
import re

import harness
from view_page import again, check_quiet, origin, sticks_out, viewed_heap

# {label: [value, note, points of its line]}
LINES = (
    "Object.fromEntries([...document.querySelectorAll('.vital')].map(each => ["
    "each.firstChild.textContent, [each.querySelector('b').textContent, "
    "each.lastChild.textContent, "
    "[...each.querySelectorAll('.line')].map(l => l.getAttribute('d')).join('')"
    ".split(/[ML]/).length - 2]]))"
)
GREW_LESS_FREED = 7 * 10000 - 3 * 2000


def test_lines_of_the_last_minutes(browser):
    host = viewed_heap()
    browser.open(host.url())
    browser.until("document.querySelectorAll('.vital').length === 6")
    browser.until("document.querySelectorAll('.vital')[3].querySelector('.line')")  # a rate: CPU
    lines = browser.evaluate(LINES)
    assert list(lines) == [
        "Heap in use",
        "Allocation rate",
        "Resident memory",
        "CPU",
        "Threads",
        "Lock waits",
    ]
    assert lines["Threads"][0] == "1" and lines["Threads"][1].startswith("the same for ")
    assert lines["Heap in use"][0] == "107 KiB" and lines["Lock waits"][0] == "0/s"
    again(host)
    browser.until("%s['Heap in use'][1].startsWith('+')" % LINES)
    lines = browser.evaluate(LINES)
    grown = re.match(r"\+([0-9.]+) KiB in \d+ s", lines["Heap in use"][1])
    assert float(grown.group(1)) == GREW_LESS_FREED / 1024 == 62.5
    # the page goes on where it was left
    browser.open("about:blank")
    browser.open(host.url())
    browser.until("document.querySelectorAll('.vital').length === 6")
    assert browser.evaluate(LINES)["Heap in use"][2] > lines["Heap in use"][2] >= 2
    for each in (360, 1200):
        browser.size(each, 760, dark=each == 360)
        assert not sticks_out(browser)
    policy = host.get("")[1]["Content-Security-Policy"]
    assert "script-src 'self'" in policy and "default-src 'none'" in policy
    page = host.text("")
    assert not re.search(r"<script[^>]*>[^<]| on\w+=", page)
    check_quiet(browser, origin(host))
    assert host.finish() == 0


def test_what_health_says_of_the_program():
    """CPU time and threads are the program's, without the agent's."""
    program = harness.build("cpu_shares.c", "-O1", "-fno-optimize-sibling-calls")
    host = harness.Host([program, "spin"])
    host.ready()
    harness.poll(lambda: host.health()["process"]["cpu_seconds"] > 0.2, "the program runs")
    health = host.health()
    fields = harness.proc_text("/proc/%d/stat" % host.pid).rsplit(") ", 1)[1].split()
    ticks = int(fields[11]) + int(fields[12])
    of_both = health["process"]["cpu_seconds"] + health["agent"]["cpu_seconds"]
    assert of_both <= (ticks + 2) / os.sysconf("SC_CLK_TCK")
    records = host.text("goroutine?debug=2").count("\ngoroutine ")
    assert health["process"]["threads"] == records >= 1
    host.kill()
