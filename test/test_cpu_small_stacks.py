"""Stacks with room for a signal's frame only: sampled, and nothing beside them is touched."""
import threading

import harness
from cpu_outcomes import Profiling, compared


def profiled_and_dumped(argv):
    """What the host prints with a profile running and thread dumps one after another."""
    host = harness.Host(argv, **harness.by_timers())
    host.ready()
    profiling = Profiling(host).armed()
    dumps, ended = [], threading.Event()

    def dump():
        while not ended.is_set():
            try:
                dumps.append(host.get("goroutine?debug=2")[0])
            except OSError:
                return

    dumper = threading.Thread(target=dump)
    dumper.start()
    try:
        host.go_on()
        lines = host.ready()
    finally:
        ended.set()
        dumper.join()
        profiling.stop()
    assert host.finish() == 0, host.describe()
    assert profiling.samples() > 50 and dumps and set(dumps) == {200}, (profiling.samples(), dumps)
    return compared(lines)


def test_coroutines_with_a_page_or_less():
    for size in ("6144", "4096"):
        program = harness.build("small_coroutine_stack.c", "-O1")
        plain = harness.run([program, size], stdin=b"\n\n", plain=True).stdout.decode().splitlines()
        assert "0 bytes below the stack overwritten" in plain, plain
        assert profiled_and_dumped([program, size]) == ["0 bytes below the stack overwritten"]


def test_split_stacks():
    harness.need("ld.gold")
    program = harness.build("split_stack.c", "-O1", "-fsplit-stack", "-fuse-ld=gold")
    plain = harness.run([program], stdin=b"\n\n", plain=True)
    lines = [line for line in plain.stdout.decode().splitlines() if line != "ready"]
    assert plain.returncode == 0 and len(lines) == 1, plain
    assert profiled_and_dumped([program]) == lines
