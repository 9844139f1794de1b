"""Two moments in one view: marked ones, and a saved file that the browser reads. Sums are those of
`go tool pprof -diff_base`, and a file that is none is refused in words."""
import base64
import gzip
import json
import os

import harness
from view_page import (
    again,
    all_frames,
    check_quiet,
    facts,
    has_row,
    open_view,
    origin,
    rows,
    viewed_heap,
)

STAYS, SHRINKS, GREW, FREED = 50 * 1000, 30 * 2000, 7 * 10000, 3 * 2000


def pprof_difference(old, new, sample_type):
    """{function: flat} of `pprof -diff_base`."""
    text, _ = harness.pprof(
        "-top",
        "-symbolize=none",
        "-nodefraction=0",
        "-unit=B",
        "-sample_index=" + sample_type,
        "-diff_base",
        old,
        new,
    )
    out = {}
    for line in text.split("cum%\n", 1)[1].splitlines():
        flat, _, _, cum, _, name = line.split(None, 5)
        out[name] = [int(flat.rstrip("B")), int(cum.rstrip("B"))]
    return out


def saved(host, name):
    path = os.path.join(host.directory, name)
    with open(path, "wb") as file:
        file.write(host.get("heap")[2])
    return path


def check_difference(browser, want):
    """The table has what the workload did, and what pprof makes of the same two."""
    held = rows(browser)
    assert held["grows"] == [GREW, GREW, 0, GREW]
    assert held["shrinks"] == [-FREED, -FREED, SHRINKS, SHRINKS - FREED]
    assert held["stays"] == [0, 0, STAYS, STAYS]
    assert {name: values[:2] for name, values in held.items() if any(values[:2])} == {
        name: values for name, values in want.items() if any(values)
    }


def test_mark_and_compare(browser):
    host = viewed_heap()
    open_view(browser, host, "heap")
    old = saved(host, "old.pb.gz")
    before = json.loads(host.text("heap?format=json"))["total"][3]
    browser.click("#mark")
    again(host)
    browser.click("#compare")
    browser.until("document.querySelector('[data-fact=change]')")
    after = json.loads(host.text("heap?format=json"))["total"][3]
    assert facts(browser) == {"A": before, "B": after, "change": after - before}
    assert after - before == GREW - FREED
    want = pprof_difference(old, saved(host, "new.pb.gz"), "inuse_space")
    check_difference(browser, want)
    colors = dict(
        browser.evaluate(
            all_frames("#flame") + ".map(g => [g.getAttribute('name'), "
            "g.querySelector('rect').getAttribute('fill')])"
        )
    )
    for name, color in (("grows", "hsl(4 "), ("shrinks", "hsl(214 "), ("stays", "hsl(0 0%")):
        assert colors[name].startswith(color), colors
    browser.click("#compare")
    browser.until("!document.querySelector('[data-fact=change]')")
    assert facts(browser) == {"in all": after}
    check_quiet(browser, origin(host))
    assert host.finish() == 0


def drop(browser, name, body):
    """Drops a file on the page, as a person does with one of the desktop."""
    browser.evaluate(
        "{const held = new DataTransfer();"
        "held.items.add(new File([Uint8Array.from(atob('%s'), c => c.charCodeAt(0))], %s));"
        "for (const kind of ['dragover', 'drop'])"
        "  document.body.dispatchEvent(new DragEvent(kind, {dataTransfer: held, bubbles: true}))}"
        % (base64.b64encode(body).decode(), json.dumps(name))
    )


def test_a_saved_file_is_the_other_side(browser):
    host = viewed_heap()
    old = saved(host, "old.pb.gz")
    before = json.loads(host.text("heap?format=json"))["total"][3]
    again(host)
    open_view(browser, host, "heap")
    after = json.loads(host.text("heap?format=json"))["total"][3]
    want = pprof_difference(old, saved(host, "new.pb.gz"), "inuse_space")
    pprof_made = os.path.join(host.directory, "pprof.pb.gz")  # what pprof itself writes
    harness.pprof("-proto", "-symbolize=none", "-output=" + pprof_made, old)
    chosen = {"A": before, "B": after, "change": after - before}
    browser.choose_file("#file", old)
    browser.until("document.querySelector('[data-fact=change]')")
    assert facts(browser) == chosen
    check_difference(browser, want)
    assert "old.pb.gz" in browser.evaluate("document.querySelector('#facts').textContent")
    browser.click("#compare")
    browser.until("!document.querySelector('[data-fact=change]')")
    with open(pprof_made, "rb") as file:
        body = file.read()
    for name, each in (("pprof.pb.gz", body), ("plain.pb", gzip.decompress(body))):
        drop(browser, name, each)
        browser.until("document.querySelector('#facts').textContent.includes('%s')" % name)
        assert facts(browser) == chosen, name
        check_difference(browser, want)
    # one that is newer than what is shown is B
    drop(browser, "later.pb", gzip.decompress(body) + b"\x48" + varint(4 * 10**18))
    browser.until("document.querySelector('#facts').textContent.includes('later.pb')")
    assert facts(browser) == {"A": after, "B": before, "change": before - after}
    assert browser.evaluate("document.getElementById('message').hidden")
    check_quiet(browser, origin(host))
    assert host.finish() == 0


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def piece(field, body):
    return varint(field << 3 | 2) + varint(len(body)) + body


def test_a_file_that_is_no_profile_is_refused_in_words(browser):
    host = viewed_heap()
    open_view(browser, host, "heap")
    before = facts(browser)
    whole = host.get("heap")[2]
    plain = gzip.decompress(whole)
    types = piece(1, b"\x08\x01\x10\x01") + piece(6, b"") + piece(6, b"inuse_space")
    for body, words in (
        (b"", "it is empty"),
        (whole[:-20], "no whole gzip file"),
        (whole[:20] + bytes(100) + whole[120:], "no whole gzip file"),
        (b"heap profile: 1: 2 [1: 2] @ heap/1048576", "it is text"),
        (host.get("heap?format=json")[2], "it is text"),
        (plain[:-3], "it ends within"),
        (b"\xff" * 64, "is too long"),
        (b"\x0f\x01\x02\x03\x00\x00\x00\x00", "has type 7"),
        (piece(6, b"") + piece(6, b"x"), "no sample types"),
        (types + piece(2, b"\x0a\x01\x07\x12\x01\x05"), "a location is missing"),
        (types + piece(2, b"\x12\x02\x05\x05"), "not all values"),
        (types + piece(4, b"\x08\x01\x22\x02\x08\x09"), "a function is missing"),
        (
            types + piece(5, b"\x08\x01\x10\x63") + piece(4, b"\x08\x01\x22\x02\x08\x01"),
            "a name is missing",
        ),
        (types.replace(b"inuse_space", b"other_types"), "has other_types; what is shown has"),
        (types + varint(2 << 3) + b"\x01", "a number stands where"),
    ):
        drop(browser, "bad.pb.gz", body)
        browser.until(
            "document.getElementById('message').textContent.includes(%s)" % json.dumps(words),
            "what is told of %r" % body[:20],
        )
        message = browser.evaluate("document.getElementById('message').textContent")
        assert message.startswith("bad.pb.gz "), message
        assert facts(browser) == before and "stays" in rows(browser)
        browser.evaluate("document.getElementById('message').textContent = ''")
    # the values of a file may be negative, and of more than 32 bits
    drop(browser, "good.pb", types + piece(2, piece(2, varint(-5 * 2**40 % 2**64))))
    browser.until("document.querySelector('[data-fact=change]')")
    assert facts(browser)["A"] == -5 * 2**40
    check_quiet(browser, origin(host))
    assert host.finish() == 0


def test_inlined_functions_of_a_file(browser):
    """The lines of a location begin with the innermost."""
    host = viewed_heap()
    open_view(browser, host, "heap")
    drop(
        browser,
        "inlined.pb",
        b"".join(piece(6, name) for name in (b"", b"inuse_space", b"bytes", b"outer", b"inner"))
        + piece(1, b"\x08\x01\x10\x02")
        + piece(5, b"\x08\x01\x10\x03")
        + piece(5, b"\x08\x02\x10\x04")
        + piece(4, b"\x08\x01" + piece(4, b"\x08\x02\x10\x07") + piece(4, b"\x08\x01\x10\x09"))
        + piece(2, b"\x08\x01\x10\x64"),
    )
    browser.until("document.querySelector('[data-fact=change]')")
    held = rows(browser)
    assert held["inner"] == [-100, -100, 100, 0] and held["outer"] == [0, -100, 100, 0]
    browser.click("[data-view=tree]")
    browser.until("document.querySelector('#tree').textContent.includes('outer')")
    check_quiet(browser, origin(host))
    assert host.finish() == 0


def test_a_file_alone_can_be_looked_at(browser):
    """Where nothing has been recorded yet."""
    host = viewed_heap()
    path = saved(host, "old.pb.gz")
    browser.open(host.url("view/profile"))
    browser.choose_file("#file", path)
    browser.until(has_row("stays"))
    assert rows(browser)["stays"] == [STAYS, STAYS]
    assert browser.evaluate("document.title") == "old.pb.gz"
    browser.click("#record-tools [data-seconds='5']")  # which has no sample type of it
    browser.until(
        "document.getElementById('message').textContent" ".startsWith('A has alloc_objects')"
    )
    assert browser.evaluate("document.title").endswith(" profile")
    check_quiet(browser, origin(host))
    assert host.finish() == 0
