"""What the view gives to take away: files, lines for other sites, a smaller one where the whole is
too large for these."""
import urllib.parse

import harness
from view_page import (
    NAMES,
    SHOWS_FRAMES,
    check_quiet,
    click_frame,
    open_view,
    origin,
    rows,
    viewed_heap,
)

STAYS = 50 * 1000

TAKEN = (
    "window.taken = []; "
    "URL.createObjectURL = blob => { window.taken.push(blob); return 'blob:none' }; "
    "HTMLAnchorElement.prototype.click = function() { window.named = this.download }"
)
LARGE = (
    "{const real = window.fetch; window.fetch = (url, more) => /[/]heap[?]$/.test(url) ? "
    "Promise.resolve(new Response(new Uint8Array(3 << 20))) : real(url, more)}"
)


def test_a_smaller_one_is_offered(browser):
    host = viewed_heap()
    open_view(browser, host, "heap")
    browser.click("#take summary")
    browser.until("document.querySelector('#elsewhere code')")
    line = browser.evaluate("document.querySelector('#elsewhere code').textContent")
    assert "heap?max_bytes=2000000' && pprofme upload" in line, line
    # what is not too large is all there is
    browser.click("[data-take=pb]")
    harness.poll(lambda: browser.evaluate("1") and host.url("heap?") in browser.requests, "it")
    assert not browser.evaluate("!!document.querySelector('#take-smaller')")
    browser.evaluate(LARGE)  # as the agent would answer for a program with very many stacks
    browser.click("[data-take=pb]")
    browser.until("document.querySelector('#take-smaller')")
    assert "3.1 MB: pprof.me takes 2 MB" in browser.evaluate(
        "document.querySelector('#elsewhere').textContent"
    )
    browser.click("#take-smaller")
    wanted = host.url("heap?max_bytes=2000000")
    harness.poll(lambda: browser.evaluate("1") and wanted in browser.requests, "the smaller one")
    check_quiet(browser, origin(host))
    assert host.finish() == 0


def test_where_else_it_can_be_looked_at(browser):
    place = "https://speedscope.example.org"
    for origins, links in (("", []), ("https://a.example.org, " + place, [place])):
        host = viewed_heap(NAMES, extra={"PPROFAGENT_ORIGINS": origins})
        open_view(browser, host, "heap")
        browser.evaluate("document.getElementById('take').open = true")
        browser.until("document.querySelector('#elsewhere code')")
        line = browser.evaluate("document.querySelector('#elsewhere code').textContent")
        url = host.url("heap?max_bytes=2000000")
        assert line == "curl -so p.pb.gz '%s' && pprofme upload p.pb.gz" % url
        got = browser.evaluate("[...document.querySelectorAll('#elsewhere a')].map(a => a.href)")
        quoted = urllib.parse.quote(host.url("heap"), safe="")
        assert got == ["%s/#profileURL=%s" % (link, quoted) for link in links]
        check_quiet(browser, origin(host))
        browser.renew()
        assert host.finish() == 0


def test_take_away(browser):
    host = viewed_heap(NAMES)
    prefix = "%s-%d-heap" % (open("/proc/%d/comm" % host.pid).read().strip(), host.pid)
    open_view(browser, host, "heap")
    browser.evaluate(TAKEN)

    def take(what):
        browser.evaluate("window.taken = []")
        browser.click("[data-take=%s]" % what)
        browser.until("window.taken.length")
        body = "window.taken[0].arrayBuffer().then(b => [...new Uint8Array(b)])"
        return browser.evaluate("window.named"), bytes(browser.evaluate(body))

    name, body = take("pb")
    assert name == prefix + ".pb.gz" and harness.Profile(body).by_leaf()["stays"][3] == STAYS
    name, body = take("text")
    assert name == prefix + ".txt" and body.startswith(b"heap profile: ")
    name, body = take("collapsed")
    lines = body.decode().splitlines()
    assert name == prefix + ".collapsed.txt"
    assert any(line.endswith(";main;stays %d" % STAYS) for line in lines)
    assert sorted(lines) == sorted(host.text("heap?format=collapsed").splitlines())
    name, body = take("html")
    assert name == prefix + ".html" and len(browser.requests) < 60
    check_quiet(browser, origin(host))
    held = host.directory + "/taken.html"
    with open(held, "wb") as file:
        file.write(body)
    assert host.finish() == 0
    browser.renew()
    browser.open("file://" + held)
    browser.until(SHOWS_FRAMES)
    got = rows(browser)
    assert got["stays"] == [STAYS, STAYS] and got[NAMES[0]] == [1000, 1000]
    click_frame(browser, "stays")
    browser.until("location.hash.includes('zoom=')")
    check_quiet(browser, "file:///")
    assert browser.evaluate("window.hurt === undefined")
