"""Programs with a JIT compiler that tells of its code: registered with the C++ runtime, or
announced to debuggers."""
import os

import harness
from pprof_reader import bare

PHP = """<?php
function inner_work($n) {
  $s = 0;
  for ($i = 0; $i < $n; $i++) $s = ($s * 31 + $i) & 0xffff;
  return $s;
}
while (true) inner_work(20000);
"""
LUA = """
local function work(n) local s = 0; for i = 1, n do s = s + (i % 7) * 3 end; return s end
while true do work(1000000) end
"""
GUEST = """
volatile unsigned long sum;
int main(void) { for (;;) for (unsigned i = 0; i < 100000; i++) sum += i * 7; }
"""


def source(name, text):
    path = os.path.join(harness.scratch(), name)
    with open(path, "w") as file:
        file.write(text)
    return path


def stacks(argv, options):
    """Of a profile that is not its first: then its code is made, its stacks are copied whole."""
    host = harness.Host(argv, **options)
    host.profile("profile?seconds=1")
    cpu = host.profile("profile?seconds=1&hz=250")
    health = host.health()
    assert host.text("goroutine?debug=2")
    host.kill()
    return [
        [bare(frame.function) for frame in sample.frames]
        + ["[guessed]"] * ("guessed_frames" in sample.labels)
        for sample in cpu.samples
    ], health


def both_ways(argv, leaf, least_registered):
    for options in (harness.by_timers(), {}):
        found, health = stacks(argv, options)
        used = health["tables"]["registered_frames"]["used"]
        assert used >= least_registered, (used, found)
        made = [names for names in found if names[0].startswith(leaf)]
        whole = [names for names in made if names[-1] == "_start"]
        harness.note(
            "%s: %d of %d stacks of its code are whole"
            % (os.path.basename(argv[0]), len(whole), len(made))
        )
        # a ring's first samples of a deep stack are copied in part only
        in_part = [names for names in made if names[-1].startswith("[truncated: stack memory")]
        assert whole and len(whole) + len(in_part) == len(made), (made, found)
        assert not in_part or "extra" not in options, in_part
        assert health["losses"]["registered_lost_invalid"] == 0, health["losses"]


def test_qemu():
    qemu = harness.need("qemu-x86_64")
    guest = harness.build(source("guest.c", GUEST), "-static", name="qemu_guest")
    both_ways([qemu, guest], "code_gen_buffer", 1)


def test_php():
    php = harness.need("php")
    settings = {
        "enable_cli": "1",
        "jit_buffer_size": "64M",
        "jit": "tracing",
        "jit_debug": "256",
        "file_update_protection": "0",
    }
    arguments = ["-dopcache.%s=%s" % each for each in settings.items()]
    both_ways([php] + arguments + [source("work.php", PHP)], "TRACE-", 10)


def test_luajit_registers_nothing_that_leads_on():
    """Its tables name a routine to call, and no row: they are no reason to end a stack sooner."""
    luajit = harness.need("luajit")
    found, health = stacks([luajit, source("work.lua", LUA)], harness.by_timers())
    assert health["tables"]["registered_frames"]["used"] == 0
    assert health["losses"]["registered_lost_invalid"] == 0, health["losses"]
    assert found
