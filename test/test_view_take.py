"""What the view offers to take away where the whole is too large for the page that it is for."""
import harness
from view_page import check_quiet, open_view, origin, viewed_heap

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
