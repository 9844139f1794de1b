"""Where no thread can be created, the agent's one thread answers by itself, one request after the
other."""
import os
import socket
import threading

import harness
import process_tree


def start(**options):
    if os.getuid() != 0:
        raise harness.Skip("it needs to be root, to give that up")
    host = harness.Host(
        [harness.build("last_threads.c", "-O1", "-fno-optimize-sibling-calls")], **options
    )
    host.ready()
    return host


def host_without_threads(**options):
    host = start(**options)
    assert host.address
    host.go_on()
    host.ready()
    return host


def own_threads(host):
    return [
        tid
        for tid in harness.tasks(host.pid)
        if harness.proc_text("/proc/%d/task/%d/comm" % (host.pid, tid)) == "pprofagent\n"
    ]


def ask_for_long(host, client):
    client.sendall(
        b"GET /debug/pprof/profile?seconds=30 HTTP/1.1\r\nHost: %s:%d\r\n\r\n"
        % (host.address[0].encode(), host.address[1])
    )
    # its sampler's handler is installed: SigCgt of the process
    harness.poll(
        lambda: int(
            harness.proc_text("/proc/%d/status" % host.pid).split("SigCgt:")[1].split()[0], 16
        ),
        "the profile",
    )


def test_every_page():
    host = host_without_threads(rate=1)
    health = host.health()
    assert (
        "one at a time" in health["agent"]["answers_alone"] and health["agent"]["threads"] == 1
    ), health["agent"]
    assert "answered one at a time" in host.text("")
    assert host.profile("heap").by_leaf()["keeps_a_block"][2:] == [1, 30001]
    sums = host.profile("profile?seconds=1&hz=100").by_function()
    assert sums["burns_alone"][0] > 0 and sums["burns_alone"] == sums["burn"], sums
    dump = host.text("goroutine?debug=2")
    assert dump.count("goroutine ") >= 2 and "burns_alone(" in dump and "\nmain(" in dump, dump
    for path in (
        "allocs",
        "block",
        "mutex",
        "threadcreate",
        "goroutine",
        "heap?seconds=1",
        "cmdline",
        "symbol",
        "/?format=json",
    ):
        assert host.get(path)[0] == 200, path
    assert host.get("heap", method="PUT")[0] == 405 and host.get("nothing")[0] == 404
    assert len(own_threads(host)) == 1
    assert host.finish() == 0


def test_clients_take_turns():
    host = host_without_threads()
    found = []
    clients = [
        threading.Thread(target=lambda: found.append(host.get("profile?seconds=1")[0]))
        for _ in range(3)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert found == [200, 200, 200], found
    with socket.create_connection(
        host.address
    ) as silent:  # says nothing: others wait no longer than its deadline
        silent.sendall(b"GET /")
        assert host.get("cmdline", timeout=10)[0] == 200
    with socket.create_connection(host.address) as gone:
        ask_for_long(host, gone)
    assert host.get("cmdline", timeout=25)[0] == 200


def test_the_agent_gives_way_meanwhile():
    host = host_without_threads()
    with socket.create_connection(host.address) as client:
        ask_for_long(host, client)
        host.go_on()
        line = host.line()
        assert line == "threads 2", line  # its own


def test_the_host_may_end_meanwhile():
    host = host_without_threads()
    with socket.create_connection(host.address) as client:
        ask_for_long(host, client)
        assert host.finish(20) == 0


def test_processes_that_share_a_port():
    port = process_tree.Port()
    hosts = [start(address=port.address)]
    harness.poll(lambda: "listening" in hosts[0].log(), "the first holds the port")
    hosts.append(start(address=port.address))
    harness.poll(lambda: "sharing" in hosts[1].log(), "the second has joined")
    for host in hosts:
        host.go_on()
        host.ready()
    for _ in range(2):
        found = port.processes()
        assert {pid: entry["answered"] for pid, entry in found.items()} == {
            host.pid: True for host in hosts
        }, found
        for host in hosts:
            sums = port.profile("profile?seconds=1&hz=100", host.pid).by_function()
            assert sums["burns_alone"][0] > 0, sums
    # while one of them answers a client, it hears the other all the same
    client = threading.Thread(target=port.profile, args=("profile?seconds=3", hosts[1].pid))
    client.start()
    while client.is_alive():
        assert all(entry["answered"] for entry in port.processes().values())
    for host in reversed(hosts):
        assert len(own_threads(host)) == 1
        status = host.finish()
        assert status == 0, host.describe()
