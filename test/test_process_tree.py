"""Several processes on one port: the list, and every endpoint of each.

What a process's profiles must say is how its workload was built: block sizes and function names.
"""
import concurrent.futures
import os
import shutil
import signal
import subprocess

import harness
import process_tree
from process_tree import Port, Process, check_exact, pair


# ---- the list, and every endpoint of each --------------------------------------------------------


def test_list():
    port, first, second = pair()
    second.do("alloc:%d" % (3 << 20))
    found = port.await_processes([first.pid, second.pid], others=False)
    assert sorted(found) == [entry["pid"] for entry in port.list()["processes"]]
    for process in (first, second):
        entry = found[process.pid]
        assert (entry["parent"], entry["uid"], entry["name"]) == (
            os.getpid(),
            os.geteuid(),
            "process_tree_c_"[:15],
        ), entry
        assert (
            entry["command"] == process_tree.build()
            and entry["threads"] == 1
            and entry["uptime_seconds"] > 0
        ), entry
        assert (
            entry["holder"] == (process is first)
            and entry["url"] == "/pid/%d/debug/pprof/" % process.pid
        ), entry
    # Every allocation is recorded: the two differ by the block, and by what their starts differ in.
    assert (
        abs(
            found[second.pid]["heap_inuse_bytes"] - found[first.pid]["heap_inuse_bytes"] - (3 << 20)
        )
        < 4096
    ), found
    second.do("spin")
    harness.poll(
        lambda: port.processes()[second.pid]["threads"] == 2, "the second thread in the list"
    )
    assert port.list()["refused"] == 0 and port.list()["listen_address"] == port.address
    for options, kind in (
        (dict(headers={"Accept": "application/json"}), "application/json"),
        ({}, "text/html; charset=utf-8"),
    ):
        status, headers, body = port.get("/", **options)
        assert (status, headers["Content-Type"], headers["Cache-Control"]) == (
            200,
            kind,
            "no-store",
        ), headers.items()
        assert (b"<td class=name><a href=\"pid/%d/debug/pprof/\">" % second.pid in body) == (
            kind != "application/json"
        ), body
        assert port.get("/", method="HEAD", **options)[0::2] == (200, b"")
    page = port.ok("", first.pid).decode()
    assert "holds the port that 2 processes share: <a href=\"../../../../\">" in page
    assert "<a href=\"../../\">all processes</a>" in port.ok("/debug/pprof/").decode()
    assert (
        port.url("heap", second.pid) in port.ok("", second.pid).decode()
    )  # what to type in a terminal
    status, headers, body = port.get("/pid/4000000/debug/pprof/heap")
    assert (status, headers["X-Go-Pprof"], body) == (
        404,
        "1",
        b"no process 4000000 under the agent on this port\n",
    ), (status, body)
    for process in (first, second):
        own = "/pid/%d" % process.pid
        assert (
            port.get(own)[0] == 302
            and port.get(own + "/")[1]["Location"]
            == port.get(own)[1]["Location"]
            == own + "/debug/pprof/"
        )
        assert port.get(own + "/debug/pprof?x=1")[1]["Location"] == own + "/debug/pprof/?x=1"
        status, headers, body = port.get("nothing", process.pid)
        assert (status, headers["X-Go-Pprof"], body) == (404, "1", b"Unknown profile\n")


def test_every_endpoint_is_the_processs_own():
    port, first, second = pair()
    sizes = {first: 30001, second: 50007}
    for process, size in sizes.items():
        process.do("alloc:%d" % size)
    for process, size in sizes.items():
        check_exact(port, process.pid, "own_block", size)
        assert port.health(process.pid)["process"]["pid"] == process.pid
        assert port.health(process.pid)["process_tree"]["role"] == (
            "holder" if process is first else "member"
        )
        assert port.ok("cmdline", process.pid).decode() == process_tree.build()
        assert port.ok("goroutine?debug=2", process.pid).startswith(b"# pid %d comm " % process.pid)
        assert "own_block" in harness.pprof_clean(
            "-top", "-nodecount=500", port.url("heap", process.pid)
        )
        for name in ("allocs", "block", "mutex", "threadcreate", "thread", "goroutine"):
            assert port.profile(name, process.pid).sample_types
        address = "0x%x" % next(
            frame.address
            for sample in port.profile("heap", process.pid).samples
            for frame in sample.frames
            if frame.function == "own_block"
        )
        for body in (
            port.ok("symbol?" + address, process.pid),
            port.ok("symbol", process.pid, method="POST", body=address),
        ):
            assert body == b"num_symbols: 1\n%s own_block\n" % address.encode(), body
        assert port.get("heap", process.pid, method="POST", body="x")[0] in (400, 405)
        assert port.get("heap", process.pid, headers={"Host": "rebound.example"})[0] == 403
    check_exact(port, first.pid, "own_block", sizes[first])
    assert b"own_block" in port.ok("/debug/pprof/heap?debug=1")  # without a prefix: the holder's


def test_cpu_profile_delta_and_departed_client_of_a_member():
    port, first, second = pair()
    second.do("spin")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        delta = pool.submit(port.profile, "heap?seconds=2", second.pid)
        # The block must come while the delta waits: 2 s are long, and the CPU profile below shows
        # that requests got through.
        busy, idle = pool.submit(port.profile, "profile?seconds=1", second.pid), pool.submit(
            port.profile, "profile?seconds=1", first.pid
        )
        busy, idle = busy.result(), idle.result()
        second.do("alloc:60013")
        change = delta.result()
    assert busy.by_function()["own_work"][0] > 0, busy.by_function()
    assert "own_work" not in idle.by_function(), idle.by_function()
    assert change.by_leaf()["own_block"] == [1, 60013, 1, 60013], change.by_leaf()
    running = lambda: port.health(second.pid)["cpu_sampling"]["profiles_running"]
    connection = port.connection()
    connection.request("GET", "/pid/%d/debug/pprof/profile?seconds=600" % second.pid)
    harness.poll(lambda: running() == 1, "the profile runs in the other process")
    connection.close()
    harness.poll(lambda: running() == 0, "its end, the client being gone")


def test_fork_is_served_with_its_parents_allocations():
    port = Port()
    parent = Process(port)
    port.await_processes([parent.pid])
    parent.do("alloc:30001")
    child = parent.do("fork alloc:50007 spin")
    found = port.await_processes([parent.pid, child], others=False)
    assert (
        found[child]["parent"] == parent.pid
        and found[child]["threads"] == 2
        and not found[child]["holder"]
    ), found
    check_exact(port, parent.pid, "own_block", 30001)
    check_exact(port, child, "own_block", 30001)  # inherited, and still live
    check_exact(port, child, "child_block", 50007)
    assert "child_block" not in port.profile("heap", parent.pid).by_leaf()
    for pid, since in (
        (parent.pid, "Allocated since start"),
        (child, "Allocated since its parent's start"),
    ):
        assert since in port.ok("", pid).decode(), pid
    port.await_samples([child], "child_work")
    assert "child_work" not in port.profile("profile?seconds=1", parent.pid).by_function()
    os.kill(child, signal.SIGKILL)
    port.await_processes([parent.pid], others=False)
    assert port.get("heap", child)[0] == 404


# ---- many ----------------------------------------------------------------------------------------


def test_two_hundred():
    port = Port()
    first = Process(port)
    port.await_processes([first.pid])
    hosts = process_tree.sleepers(port, 200)
    pids = [host.pid for host in hosts]
    port.await_processes([first.pid] + pids, others=False)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for pid, health in zip(pids, pool.map(port.health, pids)):
            assert health["process"]["pid"] == pid and health["process"]["name"] == "sleep"
    first.kill()
    found = port.await_processes(pids, others=False)
    assert sum(entry["holder"] for entry in found.values()) == 1
    for host in hosts[:100]:
        host.kill()
    port.await_processes(pids[100:], others=False)


def test_ps_lists_each_with_its_own_url():
    port, first, second = pair()
    other = Process(Port())  # a tree by itself
    rude = os.path.join(harness.scratch(), "a\x1b[31m\nb")
    shutil.copy("/bin/sleep", rude)
    rude = harness.Host([rude, "100"], address=port.address)
    tool = os.path.join(harness.ROOT, "scripts", "pprofagent")

    def listed():
        lines = subprocess.run(
            [tool, "ps"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        return {int(line.split()[0]): line.split()[1:] for line in lines[1:]}

    expected = {
        first.pid: "http://%s/debug/pprof/" % port.address,
        second.pid: port.url("", second.pid),
    }
    found = harness.poll(
        lambda: (now := listed()) and now.get(other.pid, ["", "not"])[1] != "not" and now,
        "ps lists the third",
    )
    for pid, url in expected.items():
        assert found[pid] == ["process_tree_c_", url], found
    assert "/pid/" not in found[other.pid][1], found
    assert found[rude.pid][0] == "a?[31m?b", found
