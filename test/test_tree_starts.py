"""Starts that reviews have found to go wrong round the shared port: beside a fork, in a namespace,
under a filter."""
import os
import re

import harness
from process_tree import Port, Process
from tree_strangers import hazards


def test_late_start_is_not_for_a_vfork_child():
    """Which shares its parent's memory, and the mark that says so; the parent's agent starts
    afterwards."""
    port = Port()
    host = harness.Host([hazards(), "vfork"], rate=1, address=port.address)
    line = host.ready()[0]
    child = int(line.split(":")[0])
    assert (
        line == "%d: threads 1 in the child of vfork, 1 after it, 2 after an allocation" % child
    ), line
    port.await_processes([host.pid, child])
    assert port.ok("heap", child)
    host.go_on()
    assert host.finish() == 0


def test_a_signal_handler_that_forks_while_the_first_fork_makes_the_key():
    port = Port()
    host = harness.Host(
        [hazards(), "interrupt_key", harness.agent()], plain=True, address=port.address
    )
    line = host.line()
    if line == "no ptrace":
        raise harness.Skip("ptrace is not allowed here")
    assert line == "the handler runs afterwards", line
    pids = list(map(int, host.ready(harness.DEADLINE)[0].split()))
    port.await_processes(pids, others=False)
    for pid in pids:
        assert port.health(pid)["process"]["pid"] == pid
    host.go_on()
    assert host.finish() == 0


def test_parent_has_the_port_although_it_forks_at_once():
    def holder_is_parent():
        port = Port()
        host = harness.Host([hazards(), "fork_first", "150"], address=port.address)
        parent, child = map(int, host.ready()[0].split())
        assert parent == host.pid
        port.await_processes([parent, child], others=False)
        found = port.holder() == parent
        host.go_on()
        assert host.finish() == 0
        return found

    assert any(
        holder_is_parent() for _ in range(4)
    )  # a busy machine may let the parent go on too late


def test_unshare_by_number():
    expected = harness.run([hazards(), "unshare"], plain=True)
    assert re.fullmatch(rb"by name -?\d, by number 4[01]\n", expected.stdout), expected
    port = Port()
    done = harness.run([hazards(), "unshare"], address=port.address)
    assert (done.stdout, done.returncode) == (expected.stdout, expected.returncode), (
        done,
        expected,
    )


FILTER = r"""
import ctypes, struct, sys
KILL, ALLOW = 0x80000000, 0x7fff0000
def step(code, jump_if, jump_else, value):
    return struct.pack("HBBI", code, jump_if, jump_else, value)
numbers = [41, 42, 87]  # socket, connect, unlink
tests = [step(0x15, len(numbers) - i, 0, number) for i, number in enumerate(numbers)]
program = step(0x20, 0, 0, 0) + b"".join(tests) + step(6, 0, 0, ALLOW) + step(6, 0, 0, KILL)
buffer = ctypes.create_string_buffer(program)
libc = ctypes.CDLL(None)
input()
libc.prctl(38, 1, 0, 0, 0)
filter = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
assert libc.prctl(22, 2, filter, 0, 0) == 0
"""


def test_the_socket_file_is_left_to_programs_under_a_filter_of_their_own():
    """It may kill for any of the calls that its removal takes: of one that holds it, and of one
    that shares it."""
    for alone in (True, False):
        port = Port("unix:" + os.path.join(harness.scratch(), "agent.sock"))
        first = None if alone else Process(port)
        if first:
            port.await_processes([first.pid])
        host = harness.Host([harness.need("python3"), "-c", FILTER], address=port.address)
        port.await_processes([host.pid])
        host.go_on()
        assert host.finish() == 0, host.describe()
