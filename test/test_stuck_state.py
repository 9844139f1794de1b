"""A test that waits for its host in vain says what the host and its children are doing."""
import harness
import stuck_state


def test_a_host_that_does_not_go_on():
    harness.need("gdb")
    host = harness.Host(["/bin/sh", "-c", "sleep 300 & echo ready; read line; kill $!"], plain=True)
    host.ready()
    harness.poll(lambda: len(stuck_state.family(host.pid)) == 2, "the shell's child")
    said = ""
    try:
        host.line(0.01)
    except AssertionError as error:
        said = str(error)
    assert host.finish() == 0, host.describe()
    shell, _, child = said.partition("(sleep)")
    assert "no line from the host" in shell and "(sh)" in shell and "read" in shell, said
    assert "nanosleep" in child, said
