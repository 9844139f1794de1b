"""How long the view of 100,000 distinct stacks takes in the browser: from the data's arrival to the
first frames on the screen, and from a click to the picture of what was clicked. In milliseconds,
not ratios: there is nothing to compare with."""
import statistics

import harness
from browser import Browser
from comparison import heading, row, wanted
from view_page import SHOWS_FRAMES

STACKS, LOADS, ZOOMS = 100000, 5, 7
# Notes when frames are there for the first time, at the next picture that is drawn after that.
WATCH = """
new MutationObserver((_, watch) => {
  if (!document.querySelector('#flame g.frame')) return;
  watch.disconnect();
  requestAnimationFrame(() => requestAnimationFrame((at) => { window.firstFrames = at; }));
}).observe(document, {childList: true, subtree: true});
"""
ARRIVED = (
    "performance.getEntriesByType('resource')"
    ".filter(each => each.name.includes('format=json')).pop().responseEnd"
)
ZOOM = """
(async () => {
  const pictures = () =>
      new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const frames = [...document.querySelectorAll('#flame g.frame')]
      .filter((each) => each.getBoundingClientRect().width > 20);
  const start = performance.now();
  frames[%d %% frames.length].dispatchEvent(new MouseEvent('click', {bubbles: true}));
  await pictures();
  const took = performance.now() - start;
  history.back();
  await new Promise((done) => setTimeout(done, 300));
  return took;
})()
"""


def middle(values):
    ordered = sorted(values)
    quarter = len(ordered) // 4
    return "%.0f (%.0f-%.0f)" % (
        statistics.median(ordered),
        ordered[quarter],
        ordered[-1 - quarter],
    )


def bench():
    if not wanted("page"):
        return
    program = harness.build("tables.c", "-O1", "-fno-optimize-sibling-calls")
    host = harness.Host([program, "stacks", str(STACKS)], rate=1)
    host.ready(120)
    painted, zoomed, fetched = [], [], []
    with Browser() as browser:
        browser.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        for _ in range(LOADS):
            browser.open(host.url("view/heap"))
            browser.until(SHOWS_FRAMES + " && window.firstFrames")
            arrived = browser.evaluate(ARRIVED)
            fetched.append(arrived)
            painted.append(browser.evaluate("window.firstFrames") - arrived)
        for i in range(ZOOMS):
            zoomed.append(browser.evaluate(ZOOM % (7 * i + 5)))
    host.kill()
    heading("view of %d distinct stacks, ms" % STACKS, "data there", "then painted", "a zoom")
    row("page", middle(fetched), middle(painted), middle(zoomed))
