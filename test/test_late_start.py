"""An agent that is started late is started where libc allows to create a thread: never by a signal
handler that allocates, nor inside libc."""
import harness

FLAGS = ("-O1", "-fno-optimize-sibling-calls")


def test_where_a_thread_may_be_created():
    host = harness.Host([harness.build("late_start.c", *FLAGS)])
    host.ready()
    assert host.address  # an agent that is there: what its children may do is decided by it
    host.go_on()
    found = host.ready()
    assert found == ["in a handler: 1", "in a callback: 1", "deep: 1", "else: 2"], found
    host.go_on()
    assert host.process.wait(harness.DEADLINE) == 0
