"""The thread dump as Go's goroutine profile: whole for both parsers of its text, true about names,
stacks, waits and creators."""
import os
import re
import subprocess

import goroutine_grammars
import harness
from goroutine_grammars import GrammarError, parse, parse_gostackparse, parse_panicparse, preamble
from pprof_reader import bare
from test_threadcreate import cpp_program

FLAGS = ("-O2", "-fno-optimize-sibling-calls")
# Above a thread's function: libc's start_thread and clone3, which have names only where libc6-dbg
# is installed.
START = re.compile(r"start_thread|(__GI_)?_*clone3?|libc\.so\.6\+0x[0-9a-f]+")


# ---- the grammars --------------------------------------------------------------------------------

RECORD = "goroutine 1 [%s]:\n%s(...)\n\t%s\n\n"
# (state, function, file line, gostackparse takes it, panicparse takes it), as the real ones do;
# what they leave out in silence is False
KNOWN = [
    ("IO wait", "f", "/src/a.c:3 +0x1", True, True),
    ("IO wait, 3 minutes, locked to thread", "f", "/src/a.c:3 +0x1", True, True),
    ("IO wait, 3 minutes, at sea", "f", "/src/a.c:3", False, False),
    ("sleep", "f", "/src/a.cpp:3", True, False),
    ("sleep", "f", "/src/a.h:3", True, False),
    ("sleep", "f", "libc.so.6:0", True, False),
    ("sleep", "f", "??:0 +0x29", True, True),
    ("sleep", "f(int (*)())", "/src/a.c:3", False, True),
    ("sleep", "(anonymous namespace)::f::operator()", "/src/a.c:3", True, True),
    ("sleep", "operator/", "/src/a.c:3", True, False),
    ("sleep", "operator%", "/src/a.c:3", True, False),
    ("sleep", "operator%2f", "/src/a.c:3", True, False),
    ("sleep", "f", "/src/a.cpp:3 .c:3 +0x1", True, True),
    ("sleep", "f(0x1, g", "/src/a.c:3", False, True),
    ("sleep", "f", "/src/a.c", False, False),
    ("sleep", "f", "/src/a.c:3 in here", True, False),
    ("sleep", "", "/src/a.c:3", False, False),
]
LINES = [
    ("goroutine 1 [sleep]: {a:b}\nf(...)\n\t/a.c:1\n\n", False, False),
    ("goroutine 1 [sleep]:\nf\n\t/a.c:1\n\n", False, False),
    ("# pid 1\n\ngoroutine 1 [sleep]:\nf(...)\n\t/a.c:1\n\n", True, True),
    ("goroutine 1 [sleep]:\n# comment\nf(...)\n\t/a.c:1\n\n", False, False),
    ("goroutine 1 [sleep]:\nf(...)\n\t/a.c:1\n...additional frames elided...\n\n", True, True),
    ("goroutine 1 [sleep]:\nf(...)\n\t/a.c:1\n...3 frames elided...\n\n", False, False),
    ("goroutine 1 [sleep]:\n\n", False, False),
    (
        "goroutine 1 [sleep]:\nf(0x1, _, {0x2}, ...)\n\t/a.c:1\n\n",
        True,
        False,
    ),  # our panicparse knows no structures
    (
        "goroutine 1 [sleep]:\nf(0x1, _, ...)\n\t/a.c:1\ncreated by g in goroutine 2\n\t/a.c:2\n\n",
        True,
        True,
    ),
    ("goroutine 1 [sleep]:\nf(0x1, 5 (socket))\n\t/a.c:1\n\n", False, False),
    ("goroutine 1 [sleep]:\nf(...)\n\t/a.c:1\ncreated by g\n\n", False, False),
    (
        "goroutine 1 [sleep]:\nf(...)\n\t/a.c:1\ncreated by g\n\t/a.c:2\nh(...)\n\t/a.c:3\n\n",
        False,
        False,
    ),
]


def takes(parser, text):
    try:
        return len(parser(text)) == 1
    except GrammarError:
        return False


def test_grammars_are_strict():
    wrong = []
    for state, function, place, gostackparse, panicparse in KNOWN:
        text = RECORD % (state, function, place)
        if (takes(parse_gostackparse, text), takes(parse_panicparse, text)) != (
            gostackparse,
            panicparse,
        ):
            wrong.append(text)
    for text, gostackparse, panicparse in LINES:
        if (takes(parse_gostackparse, text), takes(parse_panicparse, text)) != (
            gostackparse,
            panicparse,
        ):
            wrong.append(text)
    assert not wrong, "\n".join(wrong)
    long_line = (
        "# "
        + "x" * goroutine_grammars.SCANNER_LINE_BYTES
        + "\n"
        + RECORD % ("sleep", "f", "/a.c:1")
    )
    assert not takes(parse_gostackparse, long_line)


def unit_dump(which):
    program = os.path.join(harness.BUILD, "test", "unit_goroutine_text")
    if not os.path.exists(program):
        raise harness.Skip("the unit tests are not built: make units")
    return subprocess.run(
        [program, which], stdout=subprocess.PIPE, check=True, timeout=harness.DEADLINE
    ).stdout


def by_panicparse(text):
    """How many goroutines the real panicparse counts."""
    done = subprocess.run(
        [harness.need("panicparse")], input=text, capture_output=True, timeout=harness.DEADLINE
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return sum(
        int(found)
        for found in re.findall(rb"^(?:\x1b\[[0-9;]*m)?(\d+): ", done.stdout, re.MULTILINE)
    )


def test_hostile_names():
    goroutines = parse(unit_dump("hostile"))
    assert [g.id for g in goroutines] == list(range(100, 100 + len(goroutines))) and len(
        goroutines
    ) > 50
    for g in goroutines:
        assert len(g.frames) == 2 and g.elided and g.created_by.line == g.frames[0].line, g


def test_random_names():
    for seed in range(1, 200 if os.environ.get("SOAK") else 12):
        goroutines = parse(unit_dump(str(seed)))
        assert [(g.id, len(g.frames)) for g in goroutines] == [
            (100 + i, 1) for i in range(2000)
        ], seed
        for i, g in enumerate(goroutines):
            assert g.created_by.line == g.frames[0].line and g.frames[0].line in (i, 0), g


def test_five_thousand():
    text = unit_dump("many")
    assert len(parse(text)) == 5000
    pid, comm, names, waits = preamble(text)
    assert len(names) == len(waits) == 5000 and set(names.values()) == {"worker-of-pool"}


def test_real_panicparse():
    for which, count in (("hostile", len(parse(unit_dump("hostile")))), ("many", 5000)):
        assert by_panicparse(unit_dump(which)) == count
    host = harness.Host([harness.build("threads_waiting.c", *FLAGS)])
    host.ready()
    status, _, text = host.get("goroutine?debug=2")
    assert status == 200 and by_panicparse(text) == 17


# ---- threads that wait ---------------------------------------------------------------------------


def waiting_host(*flags):
    """The host, {tid: (name, creator's tid, function, line, suffix, argument)}, the first thread's
    tid."""
    host = harness.Host([harness.build("threads_waiting.c", *flags)])
    threads, first = {}, None
    for line in host.ready():
        words = line.split()
        if words[0] == "main":
            first = int(words[1])
        else:
            name, tid, creator, function, number, suffix, argument = words[1:]
            threads[int(tid)] = name, int(creator), function, int(number), suffix, argument
    assert len(threads) == 16 and first == host.pid
    for tid in list(threads) + [first]:
        harness.poll(lambda tid=tid: thread_state(host.pid, tid) == "S", "every thread waits")
    return host, threads, first


def thread_state(pid, tid):
    with open("/proc/%d/task/%d/stat" % (pid, tid)) as file:
        return file.read().rsplit(") ", 1)[1][0]


CANCELLATION = (
    "__syscall_cancel_arch",
    "__internal_syscall_cancel",
    "__syscall_cancel",
)  # glibc 2.41
STATES = {
    "epoll": "IO wait",
    "poll": "IO wait",
    "read": "IO wait",
    "recv": "IO wait",
    "sleep": "sleep",
    "semaphore": "semacquire",
    "mutex": "sync.Mutex.Lock",
    "condition": "sync.Cond.Wait",
}


def check_waiting_thread(goroutine, truth):
    _, _, function, line, suffix, argument = truth
    names = [frame.function for frame in goroutine.frames]
    assert "leaf_" + suffix in names, names
    at = names.index("leaf_" + suffix)
    assert names[at : at + 4] == [
        "leaf_" + suffix,
        "middle_" + suffix,
        "entry_" + suffix,
        "begin",
    ], names
    inside = [name for name in names[:at] if not name.endswith(CANCELLATION)]
    assert 1 <= len(inside) <= 4, names  # the C library's part: the wrapper, for locks some more
    assert len(names) <= at + 6 and all(START.fullmatch(name) for name in names[at + 4 :]), names
    assert not goroutine.elided and not any(name.startswith("[") for name in names), names
    for frame in goroutine.frames[at : at + 4]:
        assert frame.file.endswith("threads_waiting.c") and frame.line > 0, frame
    if argument != "-":
        wrapper = goroutine.frames[names.index(inside[0])]
        assert wrapper.arguments.split(", ")[0] == argument, wrapper
        assert suffix in inside[0], names
    assert goroutine.state == STATES[suffix], (goroutine.state, suffix)
    assert goroutine.minutes == 0
    assert (goroutine.created_by.function, goroutine.created_by.line) == (
        function,
        line,
    ), goroutine.created_by
    assert goroutine.created_by.file.endswith("threads_waiting.c")


def check_dump(*flags):
    host, threads, first = waiting_host(*flags)
    text = host.text("goroutine?debug=2")
    pid, comm, names, waits = preamble(text)
    assert (pid, comm) == (host.pid, os.path.basename(host.process.args[0])[:15])
    assert names == {first: comm, **{tid: truth[0] for tid, truth in threads.items()}}, names
    goroutines = {goroutine.id: goroutine for goroutine in parse(text)}
    assert set(goroutines) == set(names)
    wrong = []
    for tid, truth in threads.items():
        try:
            check_waiting_thread(goroutines[tid], truth)
            assert (
                "created by %s in goroutine %d\n" % (truth[2], truth[1])
                in re.search(r"goroutine %d \[.*?\n\n" % tid, text + "\n", re.S)[0]
            )
        except AssertionError as problem:
            wrong.append("%s: %s" % (truth[0], problem))
    assert not wrong, "\n".join(wrong)
    main = goroutines[first]
    assert main.created_by is None
    main_frames = [frame for frame in main.frames if not frame.function.endswith(CANCELLATION)]
    main_names = [frame.function for frame in main_frames]
    assert main_names[1:4] == ["wait_for_line", "ready", "main"] or "main" in main_names, main_names
    assert main_names[-1] == "_start" and "read" in main_names[0], main
    assert main_frames[0].arguments.startswith("0x0, "), main
    for tid, truth in threads.items():  # which descriptor, where there is one
        if truth[4] in ("read", "recv"):
            assert "fd %d" % int(truth[5], 16) in waits.get(tid, ""), (truth, waits.get(tid))
    assert [g.id for g in parse(host.text("thread?debug=2"))] == [g.id for g in parse(text)]
    assert harness.losses(host.health()) == {}
    host.kill()


def test_text_O2():
    check_dump(*FLAGS)


def test_text_O0():
    check_dump("-O0")


def test_text_frame_pointers():
    check_dump("-O2", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls")


def test_profile():
    """debug=0: a sample for each stack, name and state; with tid=1 one for each thread."""
    host, threads, first = waiting_host(*FLAGS)
    profile = host.profile("goroutine")
    kind = ("goroutine", "count")
    assert (profile.sample_types, profile.period_type, profile.period) == ([kind], kind, 1)
    assert profile.total() == [17] and profile.comments == [], profile.comments
    found, states = {}, {}
    for sample in profile.samples:
        assert set(sample.labels) == {"thread_name", "state"}, sample.labels
        assert sample.values == [1]  # all names differ
        found[sample.labels["thread_name"]] = [frame.function for frame in sample.frames]
        states[sample.labels["thread_name"]] = sample.labels["state"]
    assert len(found) == 17
    for name, _, _, _, suffix, _ in threads.values():
        assert states[name] == STATES[suffix], (name, states[name])
        at = found[name].index("leaf_" + suffix)
        assert found[name][at : at + 4] == [
            "leaf_" + suffix,
            "middle_" + suffix,
            "entry_" + suffix,
            "begin",
        ], found[name]
    with_tid = host.profile("goroutine?tid=1")
    named = {sample.labels["tid"]: sample.labels["thread_name"] for sample in with_tid.samples}
    assert named.pop(first) and named == {tid: truth[0] for tid, truth in threads.items()}, named
    text = host.text("goroutine?debug=1")
    assert text.startswith("goroutine profile: total 17\n")
    assert (
        len(
            re.findall(
                r'^1 @(?: 0x[0-9a-f]+)+\n# labels: \{"state":"[^"]+", "thread_name":"[^"]+"\}$',
                text,
                re.MULTILINE,
            )
        )
        == 17
    )
    top = harness.pprof_clean("-top", "-cum", host.url("goroutine"))
    assert re.search(r"^\s*0\s+0%.*\s16 94\.12%\s+begin$", top, re.MULTILINE), top
    only = harness.pprof_clean("-top", "-tagfocus=thread_name=t-mutex", host.url("goroutine"))
    assert "leaf_mutex" in only and "leaf_epoll" not in only
    host.kill()


def test_same_stacks_are_one_sample():
    host = harness.Host([harness.build("threads_created.c", *FLAGS)])
    host.ready()

    def look():
        profile = host.profile("goroutine")
        return profile if profile.total() == [13] else None  # when the detached ones are gone

    profile = harness.poll(look, "12 living threads and the first")
    living = [
        sample
        for sample in profile.samples
        if any(frame.function == "lives" for frame in sample.frames)
    ]
    assert sum(sample.values[0] for sample in living) == 12
    # 11 by pthread_create and one through lives_int
    assert sorted(sample.values[0] for sample in living) == [1, 11], [
        [f.function for f in s.frames] for s in living
    ]
    assert host.finish() == 0


# ---- who created them ----------------------------------------------------------------------------


def creators(host):
    """{thread name: (function, line)} of those that say who created them."""
    text = host.text("goroutine?debug=2")
    names = preamble(text)[2]
    return {
        names[g.id]: (g.created_by.function, g.created_by.line) for g in parse(text) if g.created_by
    }


def check_cpp_creators(*flags):
    host = harness.Host([cpp_program(*flags)])
    truth = {}
    for line in host.ready():
        _, name, _, function, number = line.split()
        truth[name] = function, int(number)
    found = creators(host)
    assert set(found) == set(truth) and len(truth) == 4, found
    for name, (function, number) in truth.items():
        assert found[name][1] == number, (name, found[name], truth[name])
        same = (
            found[name][0].startswith(function)
            if function.endswith("<")
            else found[name][0] == function
        )
        assert same, (found[name], truth[name])
    host.kill()


def test_cpp_creators_O0():
    check_cpp_creators("-O0")


def test_cpp_creators_O2():
    check_cpp_creators("-O2", "-fno-optimize-sibling-calls")


def test_rust_creators():
    host = harness.Host([harness.build("threads_rust.rs")])
    truth = {}
    for line in host.ready():
        _, name, function, number = line.split()
        truth[
            name.replace("-", os.path.basename(host.process.args[0])[:15])
        ] = "threads_rust::" + function, int(number)
    assert creators(host) == truth
    assert host.finish() == 0


def test_bare_names_agree():
    """The reader's own idea of a function's name without its parameters, on what a real program
    gives."""
    host = harness.Host([cpp_program("-O0")])
    host.ready()
    frames = [frame for sample in host.profile("goroutine").samples for frame in sample.frames]
    in_profile = {bare(frame.function) for frame in frames if frame.function}
    in_text = {
        frame.function
        for goroutine in parse(host.text("goroutine?debug=2"))
        for frame in goroutine.frames
    }
    plain = {name for name in in_profile if re.fullmatch(r"[\w:~]+", name)}
    assert len(plain) >= 5 and plain <= in_text, plain - in_text
    host.kill()
