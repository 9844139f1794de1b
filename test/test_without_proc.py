"""What /proc does not tell, or not any more, is said to be not known; what is known without it is
right."""
import os
import re

import harness
import process_tree

FAULT = "/proc cannot be read here, as after a chroot without one"
SYS_getppid = {"x86_64": 110, "aarch64": 173}


def program():
    return harness.build(
        "without_proc.c", "-O1", "-fno-optimize-sibling-calls", "-rdynamic"
    )  # names in memory, not in the file alone


def start(*words, ready=1, directory=None):
    """The host, and its command line as it was given."""
    if os.getuid() != 0:
        raise harness.Skip("it needs to be root")
    port = process_tree.Port()
    argv = [program(), directory or harness.scratch(), *words, "", "two words", ""]
    host = harness.Host(argv, rate=1, address=port.address)
    host._address = ("127.0.0.1", port.number)  # its log may be out of reach
    for i in range(ready):
        host.ready()
        if i + 1 < ready:
            port.await_processes([host.pid])
            host.go_on()
    return host, port, argv


def goroutines(host):
    """{tid: (state, text)} of the dump, and its preamble."""
    preamble, *records = host.text("goroutine?debug=2").split("\n\n")
    found = {
        int(record.split()[1]): (re.search(r"\[([^\]]*)\]", record)[1], record)
        for record in records
    }
    return found, preamble


def check_chroot(host, port, argv, age_is_known):
    (entry,) = port.await_processes([host.pid]).values()
    assert (entry["parent"], entry["threads"], entry["uid"]) == (os.getpid(), None, 0), entry
    assert (
        entry["name"] == os.path.basename(argv[0])[:15]
        and entry["command"].split() == " ".join(argv).split()
    ), entry
    assert (entry["uptime_seconds"] is not None) == age_is_known, entry
    process = host.health()["process"]
    assert (
        process["rss_bytes"] is process["max_rss_bytes"] is None and process["proc_fault"] == FAULT
    ), process
    assert (process["uptime_seconds"] is not None) == age_is_known and process["name"] == entry[
        "name"
    ], process
    page = host.text("")
    assert (
        FAULT in page and re.search(r"Resident memory</span><b>\?</b>", page) and argv[0] in page
    ), page
    assert host.text("cmdline") == "\0".join(argv)
    assert "# Sys and MaxRSS are not known" in host.text("heap?debug=1")
    heap = host.profile("heap")
    assert heap.by_leaf()["keeps_a_block"][2:] == [1, 30001], heap.by_leaf()
    assert heap.mappings[0].filename == argv[0], heap.mappings[0]
    assert host.profile("profile?seconds=1").by_function()["burns"][0] > 0


def check_threads(host, state_of_first):
    found, preamble = goroutines(host)
    assert "# " + FAULT in preamble, preamble
    assert len(found) == 3 and found[host.pid][0] == state_of_first, found
    others = sorted(record for tid, (_, record) in found.items() if tid != host.pid)
    states = {
        name: [state for state, record in found.values() if "\n%s(...)\n" % name in record]
        for name in ("start_burns", "start_waits")
    }
    assert states == {"start_burns": ["running"], "start_waits": ["waiting"]}, others
    assert host.profile("goroutine").total() == [3]


def test_chroot_at_once():
    host, port, argv = start("root")
    check_chroot(host, port, argv, age_is_known=False)
    check_threads(host, "waiting")


def test_chroot_where_a_stranger_has_made_a_proc():
    """Of fifos, each of which would make a reader wait for ever."""
    directory = harness.scratch()
    names = (
        "auxv",
        "cmdline",
        "comm",
        "exe",
        "limits",
        "maps",
        "mem",
        "net/tcp",
        "net/tcp6",
        "schedstat",
        "smaps",
        "smaps_rollup",
        "stat",
        "statm",
        "status",
        "syscall",
        "uid_map",
        "wchan",
    )
    for place in ("self", "thread-self", "self/task/1"):
        os.makedirs(os.path.join(directory, "proc", place, "net"))
        for name in names:
            os.mkfifo(os.path.join(directory, "proc", place, name))
    for name in ("meminfo", "sys/kernel/overflowuid", "sys/kernel/perf_event_paranoid"):
        os.makedirs(os.path.dirname(os.path.join(directory, "proc", name)), exist_ok=True)
        os.mkfifo(os.path.join(directory, "proc", name))
    host, port, _ = start("root", directory=directory)
    port.await_processes([host.pid])
    for path in (
        "",
        "health",
        "heap",
        "heap?debug=1",
        "goroutine?debug=2",
        "profile?seconds=1",
        "cmdline",
        "threadcreate?debug=1",
        "goroutineleak",
    ):
        status, _, body = host.get(path)
        assert status == 200 and (body or path == "cmdline"), (path, status, body)
    host.kill()


def test_chroot_later():
    host, port, argv = start("root", "later", ready=2)
    check_chroot(host, port, argv, age_is_known=True)
    check_threads(host, "waiting")


def test_first_thread_has_ended_in_a_chroot():
    host, port, _ = start("root", "ends")
    port.await_processes([host.pid])
    harness.poll(
        lambda: harness.proc_text("/proc/%d/stat" % host.pid).split(") ")[1][0] == "Z",
        "the first thread's end",
    )
    check_threads(host, "dead")


def test_process_that_gave_up_root():
    host, port, argv = start("user", "later", ready=2)
    (entry,) = port.await_processes([host.pid]).values()
    assert (entry["parent"], entry["threads"], entry["uid"]) == (os.getpid(), 3, 65534), entry
    assert host.text("cmdline") == "\0".join(argv)
    process = host.health()["process"]
    assert (
        process["proc_fault"] is None and process["rss_bytes"] > 0 and process["uptime_seconds"] > 0
    ), process
    found, preamble = goroutines(host)
    states = {
        name: [
            (state, record) for state, record in found.values() if "\n%s(...)\n" % name in record
        ]
        for name in ("start_burns", "start_waits")
    }
    ((burning, stack),) = states["start_burns"]
    assert burning == "running" and "\nburns(...)\n" in stack, stack
    ((waiting, stack),) = states["start_waits"]
    assert waiting == "waiting" and "created by main" in stack, stack
    tid = next(tid for tid, (_, record) in found.items() if record == stack)
    # by the kernel's own word, as this process, which may, reads it
    function = harness.proc_text("/proc/%d/task/%d/wchan" % (host.pid, tid))
    said = "# %d waits for the kernel's %s, asked by a signal\n" % (tid, function)
    assert said in preamble + "\n", preamble


def test_proc_of_another_pid_namespace():
    if os.getuid() != 0:
        raise harness.Skip("it needs to be root")
    port = process_tree.Port()
    preload = ["env"] + [
        "%s=%s" % pair
        for pair in harness.agent_environment(address=port.address).items()
        if pair[0] == "LD_PRELOAD" or pair[0].startswith("PPROFAGENT_")
    ]
    host = harness.Host(
        [harness.need("unshare"), "--pid", "--fork", "--kill-child"]
        + preload
        + [program(), "/", "none"],
        plain=True,
    )
    host.ready()
    (entry,) = port.await_processes([1]).values()
    assert (entry["parent"], entry["threads"]) == (None, 3), entry
    for _ in range(2):
        text = port.ok("goroutine?debug=2", 1).decode()
        records = {
            re.match(r"goroutine (\d+) \[([^\]]*)\]", record).groups(): record
            for record in text.split("\n\n")[1:]
        }
        # the numbers that gettid() gives in that namespace, where the threads were made one after
        # the other
        assert {state for tid, state in records if tid == "1"} == {"IO wait"} and len(
            records
        ) == 3, text
        assert sorted(state for tid, state in records if 1 < int(tid) < 100) == [
            "running",
            "syscall",
        ], text
        (waiting,) = (record for record in records.values() if "\nwaits(...)\n" in record)
        assert (
            re.search(r"\n\w*pause\(\)\n", waiting)
            and "\nstart_waits(...)\n" in waiting
            and "created by main in goroutine 1\n" in waiting
        ), text
        assert "\nburns(...)\n" in text and "\n# 1 waits for fd 0 (" in text, text


def test_a_parent_that_may_not_be_asked_for():
    number = SYS_getppid[os.uname().machine]
    host = harness.Host([harness.build("refused_call.c"), str(number), program(), "/", "none"])
    host.ready()
    assert host.get("/?format=json")[0] == 200
    assert '"parent":null' in host.text("/?format=json")
