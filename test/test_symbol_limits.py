"""Names take no more memory and time than a budget, whatever an object file says of itself:
sections are read through windows, and what does not fit is left out, counted and said on the
page."""
import os
import re
import resource
import shutil
import subprocess

import harness
from test_dwarf_forms import grow_section
from test_memory_limits import MemoryGroup

FLAGS = ("-O1", "-fno-optimize-sibling-calls")
SMALLEST = 16 << 20
STRINGS = 400 << 20


def with_huge_strings(*flags):
    """The program's .debug_str ends in 400 MB of zeroes (a sparse file takes no disk)."""
    program = os.path.join(harness.scratch(), "big")
    shutil.copy(harness.build("symbol_limits.c", *FLAGS, *flags), program)
    grow_section(program, ".debug_str", STRINGS)
    return program


def leaves(host):
    """{function: line} of the allocations of 1001 bytes."""
    samples = [s for s in host.profile("heap").samples if s.labels.get("bytes") == 1001]
    return {s.frames[0].function: s.frames[0].line for s in samples}


def budget_of(host):
    symbols = host.health()["agent"]["symbol_memory"]
    assert 0 < symbols["peak"] <= symbols["budget"], symbols
    assert symbols["used"] <= symbols["budget"], symbols
    return symbols


def test_lines_from_sections_that_are_larger_than_the_budget():
    host = harness.Host([with_huge_strings()], rate=1)
    host.ready()
    assert leaves(host)["hold0"] > 0
    assert budget_of(host)["budget"] == 64 << 20
    assert host.health()["losses"]["symbols_memory_limit"] == 0
    assert host.finish() == 0


def test_in_a_small_memory_group_lines_are_there_too():
    group = MemoryGroup(100 << 20)
    try:
        host = harness.Host([with_huge_strings()], rate=1, preexec_fn=group.join)
        for number in range(3):
            host.ready()
            found = leaves(host)
            assert found["hold%d" % number] > 0, found
            host.go_on()
        budget_of(host)
        assert host.finish() == 0
    finally:
        harness.stop_everything()
        group.remove()


def read_bytes(pid):
    with open("/proc/%d/io" % pid) as file:
        return int(file.readline().split()[1])  # rchar


def test_a_second_request_does_not_read_all_again():
    library = harness.need_library("libc.so.6")
    host = harness.Host([harness.build("symbol_limits.c", *FLAGS)], rate=1)
    host.ready()
    before = read_bytes(host.pid)
    leaves(host)
    first = read_bytes(host.pid) - before
    host.go_on()
    host.ready()
    before = read_bytes(host.pid)
    assert leaves(host)["hold1"] > 0
    second = read_bytes(host.pid) - before
    harness.note("%d bytes read, then %d" % (first, second))
    assert first > os.path.getsize(library) / 20  # libc's symbols, too
    assert second < first / 4, (first, second)
    assert host.finish() == 0


def test_what_does_not_fit_has_function_names_and_is_counted():
    """400,000 lines of one unit are 12 MB; of 16 MB a half is for a stack."""
    extra = {"PPROFAGENT_SYMBOL_MEMORY": "16M"}
    program = harness.build("symbol_limits.c", *FLAGS, "-DROWS=400000")
    host = harness.Host([program], rate=1, extra=extra)
    for number in range(3):
        host.ready()
        found = leaves(host)
        assert found["hold%d" % number] == 0, found
        host.go_on()
    symbols = budget_of(host)
    assert symbols["budget"] == SMALLEST and symbols["left_out"] >= 1, symbols
    assert host.health()["losses"]["symbols_memory_limit"] == symbols["left_out"]
    assert "symbols_memory_limit" in host.text("/debug/pprof/")
    assert host.finish() == 0
    host = harness.Host([program], rate=1)
    host.ready()
    assert leaves(host)["hold0"] > 0
    assert host.health()["losses"]["symbols_memory_limit"] == 0
    assert host.finish() == 0


def test_what_the_memory_group_cannot_spare_is_left_to_the_host():
    """The same program, whose lines fit into the default budget, but not into half of what is left
    below the group's limit."""
    group = MemoryGroup(24 << 20)
    try:
        host = harness.Host(
            [harness.build("symbol_limits.c", *FLAGS, "-DROWS=400000")],
            rate=1,
            preexec_fn=group.join,
        )
        host.ready()
        assert leaves(host) == {"hold0": 0}
        assert budget_of(host)["budget"] == 64 << 20
        assert host.health()["losses"]["symbols_memory_limit"] >= 1
        assert host.finish() == 0
    finally:
        harness.stop_everything()
        group.remove()


def test_an_address_space_that_is_too_small_for_windows():
    host = harness.Host(
        [with_huge_strings()], rate=1, preexec_fn=harness.limit(resource.RLIMIT_AS, 300 << 20)
    )
    host.ready()
    assert leaves(host) == {"hold0": 0}
    budget_of(host)
    assert host.health()["losses"]["symbols_memory_limit"] == 1
    assert host.finish() == 0


def split_off_debug_file():
    """A program without debug information, and the file that has it, which is large."""
    stripped = os.path.join(harness.scratch(), "program")
    debug = stripped + ".debug"
    source = harness.build("symbol_limits.c", *FLAGS, "-DROWS=30000")
    subprocess.run(["objcopy", "--only-keep-debug", source, debug], check=True)
    subprocess.run(
        ["objcopy", "--strip-debug", "--add-gnu-debuglink=" + debug, source, stripped], check=True
    )
    grow_section(debug, ".debug_str", STRINGS)
    return stripped, debug


def test_a_debug_file_that_is_cut_while_it_is_in_use_hurts_nobody():
    program, debug = split_off_debug_file()
    host = harness.Host([program], rate=1)
    host.ready()
    assert leaves(host)["hold0"] > 0
    os.truncate(debug, 5000)
    host.go_on()
    host.ready()
    found = leaves(host)
    assert found["hold1"] == 0, found  # by .symtab
    assert host.finish() == 0


def test_a_debug_file_that_is_replaced_between_two_requests():
    program, debug = split_off_debug_file()
    host = harness.Host([program], rate=1)
    host.ready()
    assert leaves(host)["hold0"] > 0
    subprocess.run(["cp", "--sparse=always", debug, debug + ".new"], check=True)
    os.replace(debug + ".new", debug)
    host.go_on()
    host.ready()
    assert leaves(host)["hold1"] > 0  # the same bytes in another file
    assert host.finish() == 0


def test_a_wrong_budget_is_said():
    host = harness.Host(
        [harness.build("symbol_limits.c", *FLAGS)], extra={"PPROFAGENT_SYMBOL_MEMORY": "1M"}
    )
    host.ready()
    settings = host.health()["config"]
    assert settings["symbol_memory"] == 64 << 20
    assert any("PPROFAGENT_SYMBOL_MEMORY" in fault for fault in settings["faults"]), settings
    assert host.finish() == 0


def shown_on_the_index(host):
    return re.search(r"\(names took ([\d.]+ [KM]iB) at most\)", host.text(""))


def test_what_names_took_is_on_the_index():
    host = harness.Host([harness.build("symbol_limits.c", *FLAGS)], rate=1)
    host.ready()
    assert shown_on_the_index(host) is None, "nobody has asked for a name"
    leaves(host)
    peak, shown = budget_of(host)["peak"], shown_on_the_index(host).group(1)
    number, unit = shown.split()
    scale = {"KiB": 1 << 10, "MiB": 1 << 20}[unit]
    assert abs(float(number) * scale - peak) <= scale, (shown, peak)
    assert host.finish() == 0
