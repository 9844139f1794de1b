"""One symbol's name cannot stop the profiles: what a name may cost is bounded, and all names of a
request together; names beyond that stay as they are and are counted; nobody waits for them."""
import os
import select
import socket
import subprocess
import urllib.parse

import harness

RUST = "_RNvMINvC1a1cFGzzzzzzzzzz_EuEl1b"  # 62^10 lifetimes
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def base36(number):
    text = ""
    while True:
        text = DIGITS[number % 36] + text
        number //= 36
        if number == 0:
            return text


def substitution(index):
    return "S_" if index == 0 else "S%s_" % base36(index - 1)


def pack(levels, base):
    """A C++ name whose parameter pack holds types that hold themselves twice, to that depth."""
    types = "1AI" + (substitution(1) + "I") * (levels - 1) + "iiE"
    for level in range(levels - 1):
        types += substitution(2 + level) + "E"
    return "_Z%d%sIJEEvDp" % (len(base), base) + types


def program_with(names):
    """It holds 1001 bytes from a function of each name; told to go on, it takes a user namespace of
    its own, which the kernel gives to a process of one thread only, and prints the error's
    number."""
    directory = harness.scratch()
    source, output = os.path.join(directory, "names.c"), os.path.join(directory, "names")
    with open(source, "w") as file:
        file.write(
            '#define _GNU_SOURCE\n#include <errno.h>\n#include <sched.h>\n'
            '#include "workload.h"\n'
        )
        for i, name in enumerate(names):
            file.write('void *hold%d(size_t) __asm__("%s");\n' % (i, name))
            file.write("FRAME void *hold%d(size_t n) { return keep(malloc(n)); }\n" % i)
        file.write("int main(void) {\n")
        for i in range(len(names)):
            file.write("  hold%d(1001);\n" % i)
        file.write(
            '  while (ready()) say("%d\\n", unshare(CLONE_NEWUSER) ? errno : 0);\n'
            '  return 0;\n}\n'
        )
    done = subprocess.run(
        [
            "gcc",
            "-O1",
            "-fno-optimize-sibling-calls",
            "-I" + harness.WORKLOADS,
            "-o",
            output,
            source,
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return output


def functions(host, path="heap"):
    return {
        s.frames[0].function for s in host.profile(path).samples if s.labels.get("bytes") == 1001
    }


def test_a_rust_binder_and_a_c_plus_plus_pack():
    names = [RUST, pack(40, "f"), "_Z5plainm"]
    host = harness.Host([program_with(names)], rate=1)
    host.ready()
    assert functions(host) == {RUST, names[1], "plain(unsigned long)"}
    assert host.health()["losses"]["symbols_not_demangled"] == 2
    assert "symbols_not_demangled" in host.text("")
    assert functions(host) == {RUST, names[1], "plain(unsigned long)"}
    assert host.health()["losses"]["symbols_not_demangled"] == 2  # read once
    assert host.finish() == 0


def test_many_costly_names_have_one_budget():
    """Each alone takes some 10 ms; 2,000 of them take no 20 s."""
    names = [pack(40, "f%d" % i) for i in range(2000)] + ["_Z5plainm"]
    host = harness.Host([program_with(names)], rate=1)
    host.ready()
    before = host.health()["agent"]["cpu_seconds"]
    found = functions(host)
    used = host.health()["agent"]["cpu_seconds"] - before
    harness.note("%.1f s of CPU time" % used)
    assert found == set(names[:-1]) | {"plain(unsigned long)"}
    assert host.health()["losses"]["symbols_not_demangled"] == 2000
    assert used < 10, used  # processor time
    assert host.finish() == 0


def namespace_error(host):
    host.go_on()
    return host.line()


def sent_request(host, path):
    """A connection on which a request has been sent."""
    parts = urllib.parse.urlsplit(host.url())
    connection = socket.create_connection((parts.hostname, parts.port))
    connection.sendall(
        b"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (path.encode(), parts.netloc.encode())
    )
    return connection


def test_a_client_that_goes_leaves_no_work():
    """What is left to do for who stays is more than what was done for who went at once."""
    names = [pack(40, "f%d" % i) for i in range(2000)]
    host = harness.Host([program_with(names)], rate=1)
    host.ready()

    def used():
        return host.health()["agent"]["cpu_seconds"]

    def idle():
        before = used()
        select.select([], [], [], 0.3)
        return used() - before < 0.02

    start = used()
    connection = sent_request(host, "/debug/pprof/heap")  # who goes before that is nobody's
    harness.poll(lambda: used() > start + 0.05, "names are being read")
    connection.close()
    harness.poll(idle, "the agent's threads rest")
    for_none = used() - start
    assert len(functions(host)) == len(names)
    rest = used() - start - for_none
    harness.note("%.2f s of CPU time for one who went, then %.2f s" % (for_none, rest))
    assert for_none < rest
    assert host.finish() == 0


def test_a_host_does_not_wait_for_names():
    """agent_pause gives up after a second, and the kernel then refuses: it does not come to
    that."""
    program = program_with([pack(40, "f%d" % i) for i in range(2000)] + [RUST])
    plain = harness.Host([program], plain=True)
    plain.ready()
    if namespace_error(plain) != "0":
        raise harness.Skip("no user namespace can be had here")
    host = harness.Host([program], rate=1)
    host.ready()
    used = host.health()["agent"]["cpu_seconds"]
    connections = [sent_request(host, "/debug/pprof/heap") for _ in range(4)]
    harness.poll(
        lambda: host.health()["agent"]["cpu_seconds"] > used + 0.02, "names are being read"
    )
    assert namespace_error(host) == "0"
    for connection in connections:
        connection.close()
    assert host.finish() == 0
