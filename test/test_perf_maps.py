"""Names of JIT code from /tmp/perf-PID.map: of any size, written at any time, and only where the
map is this process's own."""
import contextlib
import os

import harness

CODE = 0x200000000


def program():
    return harness.build("perf_map.c", "-O1")


def names(host, size):
    """Of the JIT code that allocated that many bytes."""
    return [
        sample.frames[0].function
        for sample in host.profile("heap").samples
        if sample.labels.get("bytes") == size
    ]


def losses(host):
    return {
        name: count
        for name, count in host.health()["losses"].items()
        if name.startswith("symbols_perf_map")
    }


NO_LOSS = {"symbols_perf_map_stale": 0, "symbols_perf_map_limit": 0}


@contextlib.contextmanager
def started(argv):
    host = harness.Host(argv, rate=1)
    try:
        host.ready()
        yield host
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink("/tmp/perf-%d.map" % host.pid)


def test_the_last_line_counts_in_a_map_of_any_size():
    for others, megabytes in ((10, 0), (1300000, 80)):
        with started([program(), "100000", str(others)]) as host:
            assert os.path.getsize("/tmp/perf-%d.map" % host.pid) >> 20 >= megabytes
            before = host.health()["agent"]["memory_bytes"]["allocator"]
            assert names(host, 100000) == ["new_name"]
            assert losses(host) == NO_LOSS
            assert host.health()["agent"]["memory_bytes"]["allocator"] < before + (
                16 << 20
            )  # given back


def map_before_exec(text, touch=""):
    """The program under the number of a shell that has written its map."""
    script = "printf '%s' >/tmp/perf-$$.map; %s exec %s 100000,200000" % (text, touch, program())
    return ["/bin/sh", "-c", script]


def test_a_map_of_an_earlier_process_is_not_believed():
    with started(
        map_before_exec("200000000 40 of_yesterday\\n", "touch -d '2 days ago' /tmp/perf-$$.map;")
    ) as host:
        path = "/tmp/perf-%d.map" % host.pid
        assert names(host, 100000) == [""]
        assert losses(host)["symbols_perf_map_stale"] >= 1
        assert "it is older than this process" in host.text("")
        assert host.text("symbol?%#x" % (CODE + 4)) == "num_symbols: 1\n"
        with open(path, "w") as file:  # now by the process itself, as it were
            file.write("200000000 40 of_today\n")
        assert names(host, 100000) == ["of_today"]


def test_the_process_starts_before_its_exec():
    with started(map_before_exec("200000000 40 written_before_exec\\n")) as host:
        assert names(host, 100000) == ["written_before_exec"] and losses(host) == NO_LOSS


def test_code_in_a_file_that_is_no_object():
    """Code that is mapped twice is in such a file (/dev/shm, hugetlbfs) where it is in no memfd."""
    for kind in ("kept", "unlinked"):
        with started([program(), "100000", "0", kind]) as host:
            assert names(host, 100000) == ["new_name"], kind
            samples = host.profile("heap").samples
            mapping = next(s for s in samples if s.labels.get("bytes") == 100000).frames[0].mapping
            assert mapping.filename.startswith("/dev/shm/"), mapping
            assert host.health()["losses"]["symbols_files_missing"] == 0


def test_a_map_that_grows():
    with started([program(), "100000,200000", "0"]) as host:
        with open("/tmp/perf-%d.map" % host.pid, "a") as file:
            assert names(host, 100000) == ["new_name"]
            file.write("200000000 40 renamed")  # not at its end yet
            file.flush()
            assert names(host, 100000) == ["new_name"]
            file.write("_at_last\n1ffffff00 10000 area\n0x200000002 0X2 inner\n")
            file.flush()
            # the area came after the function, and covers it; two bytes of it are another's
            assert names(host, 100000) == ["area"]
            lines = host.text("symbol?0x200000001+0x200000002+0x200000004").splitlines()[1:]
            assert lines == ["0x200000001 area", "0x200000002 inner", "0x200000004 area"], lines
        host.go_on()
        host.ready()
        assert names(host, 200000) == ["area"]
