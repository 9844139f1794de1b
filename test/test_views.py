"""The views of profiles in a real browser: what they hold is what the workload did and what
`go tool pprof` shows, everything is asked of the agent alone, and names are text."""
import gzip
import http.client
import http.server
import json
import re
import socket
import subprocess
import threading

import harness
from view_page import (
    NAMES,
    SHOWS_FRAMES,
    again,
    all_frames,
    check_quiet,
    choose,
    click_frame,
    click_row,
    facts,
    frames,
    has_row,
    open_view,
    origin,
    rows,
    sticks_out,
    type_into,
    viewed_heap,
)

STAYS, SHRINKS, GREW, FREED = 50 * 1000, 30 * 2000, 7 * 10000, 3 * 2000


def test_what_a_view_holds(browser):
    host = viewed_heap()
    open_view(browser, host, "heap")
    assert rows(browser)["stays"] == [STAYS, STAYS]
    assert rows(browser)["shrinks"] == [SHRINKS, SHRINKS]
    assert rows(browser)["main"] == [0, STAYS + SHRINKS]
    total = json.loads(host.text("heap?format=json"))["total"]
    assert facts(browser) == {"in all": total[3]}
    choose(browser, "type", "inuse_objects")
    browser.until("location.hash.includes('type=inuse_objects')")
    assert rows(browser)["stays"] == [50, 50] and facts(browser) == {"in all": total[2]}
    # search, and its share
    type_into(browser, "q", "^shrinks$")
    browser.until("document.getElementById('matched').textContent")
    share = float(browser.evaluate("document.getElementById('matched').textContent").split()[0])
    assert abs(share - 100 * 30 / total[2]) < 0.06 and list(rows(browser)) == ["shrinks"]
    type_into(browser, "q", "")
    browser.until("document.getElementById('matched').textContent === ''")
    # zoom, back, forward, and a copy of the URL
    before = frames(browser)
    assert "stays" in before and "shrinks" in before
    click_frame(browser, "shrinks")
    browser.until("location.hash.includes('zoom=')")
    assert "stays" not in [name for name in frames(browser)]
    zoomed = browser.evaluate("location.href")
    browser.evaluate("history.back()")
    browser.until(
        "!location.hash.includes('zoom=') && %s"
        ".some(g => g.getAttribute('name') === 'stays')" % all_frames("#flame")
    )
    browser.evaluate("history.forward()")
    browser.until("location.hash.includes('zoom=')")
    # callers and callees
    click_row(browser, "main")
    browser.until("!!document.querySelectorAll('#callers .chart svg')[1]")
    below = browser.evaluate("[...document.querySelectorAll('#callers .chart')][1].textContent")
    above = browser.evaluate("[...document.querySelectorAll('#callers .chart')][0].textContent")
    assert "stays" in below and "shrinks" in below
    assert "_start" in above and "stays" not in above
    browser.evaluate("history.back()")
    browser.until("!document.getElementById('flame').hidden")
    # filters
    every = {"main": [0, 80], "stays": [50, 50], "shrinks": [30, 30]}
    some = {"main": [0, 30], "stays": None, "shrinks": [30, 30]}
    for field, text, want in (
        ("focus", "shrinks", some),
        ("ignore", "stays", some),
        ("hide", "^(stays|shrinks)$", {"main": [80, 80], "stays": None, "shrinks": None}),
        ("show", "^(main|stays)$", {"main": [30, 80], "stays": [50, 50], "shrinks": None}),
    ):
        type_into(browser, field, text)
        harness.poll(
            lambda: {name: rows(browser).get(name) for name in want} == want,
            "what %s=%s leaves" % (field, text),
        )
        left = facts(browser).get("left by the filter")
        assert left is None or left == want["main"][1]
        type_into(browser, field, "")
        harness.poll(
            lambda: {name: rows(browser).get(name) for name in every} == every,
            "all without " + field,
        )
    browser.click("#reset")
    # own code: what is of libraries is folded into what called it
    browser.click("#own")
    browser.until(
        "location.hash.includes('own=1') && "
        "![...document.querySelectorAll('td.name button')]"
        ".some(b => b.textContent.startsWith('__libc_start'))"
    )
    assert rows(browser)["main"][1] == 80
    check_quiet(browser, origin(host))
    browser.renew()
    browser.open(zoomed)
    browser.until(SHOWS_FRAMES)
    assert "stays" not in frames(browser) and "shrinks" in frames(browser)
    check_quiet(browser, origin(host))
    assert host.finish() == 0


def tree_rows(browser):
    """[(level, function, whether it is open or None, exact values)] from the top."""
    return [
        tuple(row)
        for row in browser.evaluate(
            "[...document.querySelectorAll('#tree tbody tr')].map(row => [Number(row.ariaLevel), "
            "row.querySelector('td.name button').textContent, row.ariaExpanded, "
            "[...row.querySelectorAll('td[data-value]')].map(cell => Number(cell.dataset.value))])"
        )
    ]


def test_call_tree(browser):
    host = viewed_heap()
    open_view(
        browser,
        host,
        "heap#view=tree&type=inuse_space&focus=main",
        "document.querySelectorAll('#tree tbody tr').length > 5",
    )
    every = STAYS + SHRINKS
    held = tree_rows(browser)
    assert held[0] == (1, "all", "true", [0, every]) and held[1][1] == "_start"
    at = [row[1] for row in held].index("main")  # open as far as one child has most of it
    level = held[at][0]
    assert held[at] == (level, "main", "true", [0, every])
    leaves = [(level + 1, "shrinks", None, [SHRINKS] * 2), (level + 1, "stays", None, [STAYS] * 2)]
    assert held[at + 1 :] == leaves
    assert browser.evaluate("document.getElementById('table').hidden")
    # keys: the tab key finds one row; down, shut, open, and out to what called it
    focused = "document.activeElement.querySelector('td.name button').textContent"
    assert browser.evaluate("document.querySelectorAll('#tree tr[tabindex=\"0\"]').length") == 1
    browser.evaluate("document.querySelector('#tree tr[tabindex=\"0\"]').focus()")
    for name in [row[1] for row in held[1:]]:
        browser.press("ArrowDown")
        assert browser.evaluate(focused) == name
    browser.press("ArrowLeft")
    assert browser.evaluate(focused) == "main" and tree_rows(browser) == held
    browser.press("ArrowLeft")
    assert [row[1] for row in tree_rows(browser)] == [row[1] for row in held[: at + 1]]
    assert tree_rows(browser)[at] == (level, "main", "false", [0, every])
    browser.press("ArrowRight")
    assert browser.evaluate(focused) == "main" and tree_rows(browser) == held
    # shut by a click, and opened again by a search for what is in it
    browser.evaluate("document.querySelector('#tree tbody .twisty').click()")
    assert len(tree_rows(browser)) == 1
    type_into(browser, "q", "^stays$")
    browser.until("!!document.querySelector('#tree tr.match')")
    assert tree_rows(browser) == held
    # what is zoomed into in the graph, and the way to its callers
    browser.press("ArrowLeft")
    browser.evaluate("document.querySelector('#tree tbody tr:last-child td.name button').click()")
    browser.until("location.hash.includes('view=callers') && location.hash.includes('pick=stays')")
    check_quiet(browser, origin(host))
    assert host.finish() == 0


def test_own_code_is_remembered_and_stands_in_the_url(browser):
    host = viewed_heap()
    open_view(browser, host, "heap")
    browser.click("#own")
    browser.until("location.hash.includes('own=1')")
    folded = [name for name in rows(browser) if name in ("_start", "__libc_start_call_main")]
    assert not folded and rows(browser)["main"] == [0, STAYS + SHRINKS]
    assert "of libraries are folded" in browser.evaluate(
        "document.getElementById('notes').textContent"
    )
    open_view(browser, host, "allocs")  # a bare URL: as it was last
    browser.until("location.hash === '#own=1' && document.getElementById('own').checked")
    open_view(browser, host, "heap#view=table", has_row("_start"))  # a colleague's: as it says
    assert not browser.evaluate("document.getElementById('own').checked")
    own = browser.evaluate(
        "import(document.querySelector('script[type=module]').src.replace('view.js', 'tree.js'))"
        ".then(tree => %s.filter(([name, module, file]) => "
        "tree.isOwn(name, module, file || null, '/srv/app')).map(each => each[0]))"
        % json.dumps(
            [
                ["main", "/srv/app", ""],
                ["[app]", "/srv/app", ""],
                ["[libc.so.6]", "/lib/libc.so.6", ""],
                ["[truncated: no unwind information]", "", ""],
                ["helps", "/srv/libhelp.so", ""],
                ["deflate", "/usr/lib/x86_64-linux-gnu/libz.so.1", ""],
                ["std::vector<Own, std::allocator<Own> >::push_back(Own const&)", "/srv/app", ""],
                ["Own* std::copy<Own const*, Own*>(Own const*, Own const*, Own*)", "/srv/app", ""],
                ["std::vector<int> Own::list(std::string)", "/srv/app", "/src/own.cc"],
                ["(anonymous namespace)::run(int)", "/srv/app", "/src/own.cc"],
                ["min<int>", "/srv/app", "/usr/include/c++/12/bits/stl_algobase.h"],
                ["operator new(unsigned long)", "/srv/app", ""],
            ]
        )
    )
    assert own == [
        "main",
        "[app]",
        "helps",
        "std::vector<int> Own::list(std::string)",
        "(anonymous namespace)::run(int)",
    ], own
    check_quiet(browser, origin(host))
    assert host.finish() == 0


def test_keys_phone_and_dark(browser):
    host = viewed_heap()
    browser.size(360, 760)
    open_view(browser, host, "heap")
    for view in ("table", "tree", "callers", "flame"):
        browser.click("[data-view=%s]" % view)
        browser.until("document.querySelector('[data-view=%s]').ariaPressed === 'true'" % view)
        assert not sticks_out(browser), view
    browser.evaluate("document.querySelector('#flame .chart').focus()")
    for _ in range(3):
        browser.press("ArrowDown")
    name = browser.evaluate("document.querySelector('#detail b').textContent")
    assert browser.evaluate("document.querySelectorAll('g.frame.cursor').length") == 1
    held = browser.evaluate("document.querySelector('g.frame.cursor').getAttribute('name')")
    assert held == name
    browser.press("Enter")
    browser.until("location.hash.includes('zoom=')")
    browser.press("Escape")
    browser.until("!location.hash.includes('zoom=')")
    light = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    browser.size(360, 760, dark=True)
    dark = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert light == "rgb(255, 255, 255)"
    assert sum(map(int, re.findall(r"\d+", dark))) < 150, dark
    # for a screen reader: every control has a name, the table is one
    nameless = browser.evaluate(
        "[...document.querySelectorAll('button, select, input')].filter(e => "
        "!(e.textContent.trim() || e.ariaLabel || (e.labels && e.labels.length)))"
        ".map(e => e.outerHTML)"
    )
    assert not nameless, nameless
    caption = browser.evaluate("document.querySelector('#table caption').textContent")
    assert caption.startswith("Functions")
    check_quiet(browser, origin(host))
    assert host.finish() == 0


def test_names_are_text(browser):
    host = viewed_heap(NAMES)
    open_view(browser, host, "heap")
    held = rows(browser)
    for number, name in enumerate(NAMES, 1):
        assert held.get(name) == [number * 1000] * 2, (name[:60], [key[:60] for key in held])
    click_frame(browser, NAMES[0])
    browser.until("location.hash.includes('zoom=')")
    for name in NAMES:
        click_row(browser, name)
        browser.until("!!document.querySelectorAll('#callers .chart svg')[1]")
        assert browser.evaluate("document.querySelector('#callers select').value") == name
        browser.click("[data-view=table]")
        browser.until(
            "!document.getElementById('table').hidden && "
            "!!document.querySelector('#table tbody tr')"
        )
    made = "document.querySelectorAll('main img, main script, #table b').length"
    assert browser.evaluate(made) == 0
    assert browser.evaluate("window.hurt === undefined")
    browser.size(360, 760)
    assert not sticks_out(browser)
    check_quiet(browser, origin(host))
    assert host.finish() == 0


def test_live_refresh_keeps_what_is_shown(browser):
    host = viewed_heap()
    open_view(browser, host, "heap")
    click_frame(browser, "main")
    browser.until("location.hash.includes('zoom=')")
    type_into(browser, "q", "s$")
    choose(browser, "live", "1")
    again(host)
    browser.until(has_row("grows"))
    assert rows(browser)["grows"] == [GREW, GREW]
    assert "zoom=" in browser.evaluate("location.hash") and "grows" in frames(browser)
    assert browser.evaluate("document.getElementById('matched').textContent")
    check_quiet(browser, origin(host))
    assert host.finish() == 0


def test_record_and_cancel(browser):
    program = harness.build("cpu_shares.c", "-O1", "-fno-optimize-sibling-calls")
    host = harness.Host([program, "spin"])

    def sampling(what):
        return host.health()["cpu_sampling"][what]

    host.ready()
    browser.open(host.url("view/profile"))
    browser.click("#record-tools [data-seconds='30']")
    browser.until("!document.getElementById('recording').hidden")
    harness.poll(lambda: sampling("profiles_running") == 1, "the sampler runs")
    browser.click("#cancel")
    browser.until("document.getElementById('recording').hidden")
    harness.poll(lambda: sampling("profiles_running") == 0, "the sampler stops")
    harness.poll(lambda: sampling("timers") == sampling("rings") == 0, "nothing of it is left")
    browser.click("#record-tools [data-seconds='5']")
    browser.until("document.getElementById('progress').value > 0")
    browser.until(has_row("spin"))
    assert browser.evaluate("document.getElementById('recording').hidden")
    held = rows(browser)
    assert held["spin"][0] == facts(browser)["in all"] > 0 and "run_spin" in frames(browser)
    browser.click("#mark")
    browser.click("#record-tools [data-seconds='5']")
    browser.until("!document.getElementById('recording').hidden")
    browser.click("#cancel")
    check_quiet(browser, origin(host))
    host.kill()


def test_each_question_of_the_index_has_its_click(browser):
    program = harness.build("cpu_shares.c", "-O1", "-fno-optimize-sibling-calls")
    host = harness.Host([program, "spin"], extra={"PPROFAGENT_FLIGHT": "10s"})
    host.ready()
    browser.open(host.url())
    script = "[...document.querySelectorAll('.questions a')].map(a => a.getAttribute('href'))"
    links = browser.evaluate(script)
    assert len(links) == 15 and links[-1] == "trace?last=5s", links
    for link in links:
        assert host.get(link.split("#")[0], timeout=60)[0] == 200, link
    browser.until("document.querySelectorAll('.vital').length")
    shown = "[...document.querySelectorAll('.facts>div:not([hidden])>span:first-child')]"
    assert browser.evaluate(shown + ".map(e => e.textContent)") == [
        "Allocated since start",
        "Running for",
    ], "what the lines say is not said twice"
    assert "view/profile#record=10" in links
    browser.open(host.url("view/profile#record=2"))
    browser.until("!document.getElementById('recording').hidden")
    browser.until(has_row("spin"))
    assert "record" not in browser.evaluate("location.hash"), "it records once"
    check_quiet(browser, origin(host))
    host.kill()


def test_every_view_opens_and_is_linked(browser):
    port = harness.free_port()
    redis = [harness.need("redis-server"), "--port", str(port), "--save", "", "--appendonly", "no"]
    host = harness.Host(redis, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, rate=4096)

    def listens():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    harness.poll(listens, "redis")
    links = re.findall(r"href='(view/\w+)'", host.text(""))
    links = sorted(set(links))
    assert links == [
        "view/" + name
        for name in (
            "allocs",
            "block",
            "goroutine",
            "goroutineleak",
            "heap",
            "leaks",
            "mmap",
            "mutex",
            "peak",
            "profile",
            "threadcreate",
            "wall",
        )
    ]
    for link in links:
        if link not in ("view/profile", "view/wall"):
            browser.open(host.url(link))
            browser.until("!!document.querySelector('#facts b')")
            total = json.loads(host.text(link[5:] + "?format=json"))
            offered = browser.evaluate("document.querySelectorAll('#type option').length")
            assert offered == len(total["sample_types"])
            assert "redis-server" in browser.evaluate("document.title")
    browser.open(host.url("view/wall"))
    browser.click("#record-tools [data-seconds='5']")
    browser.until(SHOWS_FRAMES)
    assert "aeMain" in frames(browser)  # where redis waits
    browser.open(origin(host) + "pid/%d/debug/pprof/view/heap" % host.pid)
    browser.until(SHOWS_FRAMES)
    assert "main" in frames(browser)
    asked = "/pid/%d/debug/pprof/heap?format=json" % host.pid
    assert any(asked in url for url in browser.requests)
    check_quiet(browser, origin(host))
    assert host.get("view/nothing")[0] == host.get("view/")[0] == host.get("view/symbol")[0] == 404
    host.kill()


def test_below_a_path_prefix(browser):
    """As a reverse proxy shows it that serves the agent below /a/b/."""

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            assert self.path.startswith("/a/b/"), self.path
            connection = http.client.HTTPConnection(*host.address, timeout=harness.DEADLINE)
            headers = {key: value for key, value in self.headers.items() if key.lower() != "host"}
            connection.request("GET", self.path[4:], headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            for key, value in answer.getheaders():
                if key.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = "http://127.0.0.1:%d/a/b/" % server.server_port
    host = viewed_heap(extra={"PPROFAGENT_ORIGINS": here[:-5]})
    try:
        browser.open(here + "debug/pprof/view/heap")
        browser.until(SHOWS_FRAMES)
        assert rows(browser)["stays"] == [STAYS, STAYS]
        check_quiet(browser, here)
    finally:
        server.shutdown()
    assert host.finish() == 0


def test_assets_are_kept_and_nothing_is_inline():
    host = viewed_heap()
    status, headers, body = host.get("view/heap")
    page = gzip.decompress(body).decode()
    assert status == 200
    assert (headers["Cache-Control"], headers["Content-Encoding"]) == ("no-cache", "gzip")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<style|<script[^>]*>[^<]| onclick", page)
    paths = re.findall(r"\.\./(assets/[^\"]+)", page)
    assert len(paths) == 3, paths
    for path in paths:
        status, headers, body = host.get(path)
        assert status == 200
        assert headers["Cache-Control"] == "public, max-age=31536000, immutable", path
        assert gzip.decompress(body) and headers["X-Content-Type-Options"] == "nosniff"
        status, headers, body = host.get(path, headers={"If-None-Match": headers["ETag"]})
        assert (status, body) == (304, b"") and headers["ETag"]
        status, headers, body = host.get(path, method="HEAD")
        assert (status, body) == (200, b"")
        assert host.get(path.replace("assets/", "assets/0"))[0] == 404
    assert host.get("assets/x/view.js")[0] == 404 and host.get("assets/")[0] == 404
    assert host.finish() == 0
