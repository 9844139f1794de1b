"""What others wrote (names of threads and functions, command lines, headers) spoils no page and no
profile: valid UTF-8 everywhere, no control characters on pages, no forged entries."""
import json
import os
import re

import goroutine_grammars
import harness
from http_guest import raw

# As test/workloads/foreign_bytes.c has them, cut to the kernel's 15 bytes.
SHOWN = [
    "new?line",
    "tab?x",
    "?? bad",
    "?[31mred",
    "a]b: 1 [run",
    "x, 99=forged",
    "c1?x",
    "cut1234567890é",
    "<script>\"'&",
    "€ uro",
    "a; b",
    "goroutine 1 [",
    "??",
]
MAIN = "main?<b>??"
JIT = "jit?[1m??.code"
ARGUMENTS = [
    b"arg with space",
    b"new\nline",
    b"\xff\xfe",
    b"\x1b[31m",
    b"<script>",
    b"\xc3\xa9\xc2\x9b",
    b"",
]
CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)  # but for tab and newline, which make the pages


def start():
    host = harness.Host([harness.build("foreign_bytes.c", "-O1")] + ARGUMENTS, rate=1)
    lines = [line.split() for line in host.ready()]
    threads = {
        int(tid): SHOWN[int(number)]
        for kind, tid, *rest in lines
        if kind == "thread"
        for number in rest
    }
    assert len(threads) == len(SHOWN)
    return host, threads, [int(line[1], 16) for line in lines if line[0] == "code"][0]


def page(host, path, **options):
    status, _, body = host.get(path, **options)
    assert status == 200, (path, status, body)
    text = body.decode("utf-8")  # fails where it is none
    assert not CONTROL.search(text), (path, CONTROL.search(text))
    return text


def test_pages_are_text():
    host, threads, code = start()
    for path in (
        "goroutine?debug=1",
        "threadcreate?debug=1",
        "block?debug=1",
        "mutex?debug=1",
        "allocs?debug=1",
        "",
        "health",
        "/",
        "/?format=json",
    ):
        text = page(host, path)
        if path in ("", "/"):
            assert (
                "<script>" not in text and "main?<b>" not in text and "main?&lt;b&gt;??" in text
            ), path
        if path in ("health", "/?format=json"):
            json.loads(text)
    assert json.loads(page(host, "health"))["process"]["name"] == "main\n<b>�\x1b"
    assert JIT in page(host, "heap?debug=1")
    assert page(host, "symbol?%#x" % (code + 4)) == "num_symbols: 1\n%#x %s\n" % (code + 4, JIT)
    command = host.get("cmdline")[2]
    given = open("/proc/%d/cmdline" % host.pid, "rb").read()[:-1]
    shown = given.replace(b"\xff\xfe", b"??").replace(b"\x1b", b"?").replace(b"\xc2\x9b", b"?")
    assert command == shown, command  # all else as it is, NULs and line ends too
    assert command.decode("utf-8").split("\0")[2] == "new\nline"


def test_thread_dump_has_no_forged_entries():
    host, threads, _ = start()
    text = page(host, "goroutine?debug=2")
    pid, comm, names, _ = goroutine_grammars.preamble(text)
    listed = {tid: re.sub("[,;]", "?", name) for tid, name in threads.items()}
    assert pid == host.pid and comm == MAIN, comm
    assert names == {**listed, host.pid: MAIN}, names
    assert sorted(names) == sorted(
        int(line.split()[1]) for line in text.splitlines() if line.startswith("goroutine ")
    )
    for parse in (goroutine_grammars.parse_gostackparse, goroutine_grammars.parse_panicparse):
        assert len(parse(text)) == len(names)


def test_profiles_hold_valid_strings():
    host, threads, _ = start()
    for path in ("goroutine?tid=1", "goroutine", "profile?seconds=1", "heap"):
        profile = host.profile(path)  # whose reader decodes each string
        if path == "goroutine?tid=1":
            assert {
                sample.labels["tid"]: sample.labels["thread_name"] for sample in profile.samples
            } == {**threads, host.pid: MAIN}
        if path.startswith("profile"):
            assert "?? bad" in {sample.labels["thread_name"] for sample in profile.samples}
        saved = os.path.join(host.directory, "profile.pb.gz")
        with open(saved, "wb") as file:
            file.write(host.get(path)[2])
        harness.pprof_clean("-top", saved)
        harness.pprof_clean("-tags", saved)
    labels = set(re.findall(r'"thread_name":("(?:[^"\\]|\\.)*")', page(host, "goroutine?debug=1")))
    assert {json.loads(label) for label in labels} == set(threads.values()) | {MAIN}


def test_refusals_are_text():
    host = harness.Host([harness.build("foreign_bytes.c", "-O1")])
    host.ready()
    for value in (
        "evil\xff\x9b",
        "\xc2\x9bx",
        "\x7f",
        "x" * 199 + "\xc3\xa9",
    ):  # sent as Latin-1; the last is cut in a character
        status, headers, body = raw(host, "GET /debug/pprof/ HTTP/1.1\r\nHost: %s\r\n\r\n" % value)
        assert status in (400, 403) and headers["content-type"] == "text/plain; charset=utf-8", (
            status,
            headers,
        )
        assert not CONTROL.search(body.decode("utf-8")), body
    assert "\x1b" not in host.log() and "\x9b" not in host.log()
