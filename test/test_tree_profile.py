"""/tree/debug/pprof/...: the profiles of all processes on a port as one, and who is left out."""
import concurrent.futures
import os
import signal

import harness
import process_tree
from pprof_reader import Profile
from process_tree import pair, stop
from test_access import OTHER, curl
from view_page import SHOWS_FRAMES, check_quiet, choose, has_row, rows

TREE = "/tree/debug/pprof/"


def comments(port, path):
    url = "http://127.0.0.1:%d%s%s" % (port.number, TREE, path)
    return harness.pprof("-comments", url)[0].splitlines()


def blocks(profile, function):
    """{pid: [objects, bytes] in use from a function}"""
    found = {}
    for sample in profile.samples:
        if function in {frame.function for frame in sample.frames}:
            assert sample.labels["process"].startswith("process_tree"), sample.labels
            found[sample.labels["pid"]] = sample.values[2:]
    return found


def test_the_heaps_of_all():
    port, first, second = pair()
    first.do("alloc:30001")
    second.do("alloc:40961")
    child = second.do("fork alloc:70001")
    port.await_processes([first.pid, second.pid, child], others=False)
    body = port.ok(TREE + "heap")
    profile = Profile(body)
    # the child has what was allocated before it was forked, too
    own = {first.pid: [1, 30001], second.pid: [1, 40961], child: [1, 40961]}
    assert blocks(profile, "own_block") == own, blocks(profile, "own_block")
    assert blocks(profile, "child_block") == {child: [1, 70001]}
    assert "3 of 3 processes" in comments(port, "heap")
    path = os.path.join(harness.scratch(), "tree.pb.gz")
    with open(path, "wb") as file:
        file.write(body)
    top = harness.pprof_clean("-top", "-unit=B", "-focus=own_block", path)
    assert "%dB" % sum(size for _, size in own.values()) in top, top
    tags = harness.pprof_clean("-tags", "-focus=child_block", path)
    assert str(child) in tags and str(first.pid) not in tags, tags


def test_other_profiles_of_all():
    port, first, second = pair()
    for path in ("goroutine", "wall?seconds=1", "threadcreate", "allocs", "peak", "leaks", "block"):
        profile = Profile(port.ok(TREE + path))
        pids = {sample.labels["pid"] for sample in profile.samples}
        assert pids <= {first.pid, second.pid}, (path, pids)
        if path[0] in "gw":
            assert pids == {first.pid, second.pid}, (path, pids)
    status, headers, body = port.get(TREE + "heap?seconds=1")
    assert status == 200 and headers["Content-Disposition"].endswith('"tree-heap-delta"')
    assert Profile(body).duration_nanos > 900 * 1000 * 1000
    assert port.get(TREE + "heap", method="HEAD")[0] == 200


def test_bad_questions():
    port, _, _ = pair()
    for path, status, text in (
        ("heap?debug=1", 400, b"a tree's profile has no debug and format params"),
        ("heap?format=json", 400, b"a tree's profile has no debug and format params"),
        ("cmdline", 404, b"Unknown profile"),
        ("", 404, b"Unknown profile"),
        ("heap?age=x", 400, b'no process of the tree gives it: invalid value for "age" - must be'),
        ("profile?seconds=3601", 503, b"a CPU profile takes at most 3600 seconds"),
    ):
        got, _, body = port.get(TREE + path)
        assert got == status and text in body, (path, got, body)


def test_two_at_once():
    port, _, _ = pair()
    text = b"too many profiles of the tree are being taken: at most 2 at once\n"
    with concurrent.futures.ThreadPoolExecutor() as pool:
        three = [pool.submit(port.get, TREE + "heap?seconds=3") for _ in range(3)]
        answers = [answer.result()[0::2] for answer in three]
    assert sorted(status for status, _ in answers) == [200, 200, 503], answers
    assert (503, text) in answers, answers
    assert port.get(TREE + "heap")[0] == 200


def test_a_member_that_is_stopped():
    port, first, second = pair()
    first.do("alloc:30001")
    stop(second.pid)
    try:
        profile = Profile(port.ok(TREE + "heap"))
        assert {sample.labels["pid"] for sample in profile.samples} == {first.pid}
        said = comments(port, "heap")
        assert "1 of 2 processes" in said and any(
            "%d is left out: it does not answer" % second.pid in line for line in said
        ), said
    finally:
        os.kill(second.pid, signal.SIGCONT)


def test_a_client_that_leaves():
    """What is being recorded for it ends: four windows at once are all that a process has."""
    port, first, second = pair()

    def await_window(pid):
        harness.poll(lambda: port.get("heap?seconds=1", pid)[0] == 200, "a window is free")

    for _ in range(5):
        connection = port.connection()
        connection.request("GET", TREE + "heap?seconds=600")
        harness.poll(
            lambda: len(harness.tasks(second.pid)) > 3 and len(harness.tasks(first.pid)) > 3,
            "both are asked",
        )
        connection.close()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(await_window, (first.pid, second.pid)))


def test_each_process_judges_who_asks():
    """Who may ask the holder only gets what is the holder's."""
    process_tree.run_as_root()
    port, first, second = pair(of_first={"PPROFAGENT_ALLOW_UIDS": str(OTHER)})
    first.do("alloc:30001")
    second.do("alloc:40961")
    url = "http://127.0.0.1:%d%sheap" % (port.number, TREE)
    path = os.path.join(harness.scratch(), "heap.pb.gz")
    status, _, body = curl(OTHER, url)
    assert status == 200, (status, body)
    with open(path, "wb") as file:
        file.write(body)
    assert {sample.labels["pid"] for sample in Profile(body).samples} == {first.pid}
    said = harness.pprof("-comments", path)[0]
    assert "%d is left out: it does not answer this user" % second.pid in said, said


def test_in_the_browser(browser):
    port, first, second = pair()
    first.do("alloc:30001")
    second.do("alloc:40961")
    link = "document.querySelector('a[href=\"tree/debug/pprof/view/heap\"]')"
    browser.open("http://127.0.0.1:%d/" % port.number)
    browser.until("!!" + link)
    browser.open(browser.evaluate(link + ".href"))
    browser.until(SHOWS_FRAMES)
    choose(browser, "type", "inuse_space")
    name = "process_tree_c_ (%d)"
    browser.until(has_row(name % first.pid))
    shown = rows(browser)
    assert shown["own_block"] == [30001 + 40961, 30001 + 40961], shown["own_block"]
    assert shown[name % first.pid][0] == 0 and shown[name % first.pid][1] >= 30001
    assert shown[name % second.pid][1] >= 40961
    assert browser.evaluate("document.title") == "All processes heap"
    browser.open(browser.evaluate("document.getElementById('home').href"))
    browser.until("!!document.querySelector('table.processes')")
    check_quiet(browser, "http://127.0.0.1:%d/" % port.number)
