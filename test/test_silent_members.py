"""A process that is asked for its page by /pid/N while it is stopped, ends or becomes another
program: whoever asks is told so, soon."""
import concurrent.futures
import http.client
import os
import signal

import harness
from process_tree import Port, Process, pair, stop

SILENT = b"that process does not answer: it is stopped, or very busy\n"


def test_stopped_member():
    port, first, second = pair()
    third = Process(port)
    port.await_processes([first.pid, second.pid, third.pid], others=False)
    stop(second.pid)
    try:
        for path in ("", "cmdline", "heap", "goroutine?debug=2"):
            status, headers, body = port.get(path, second.pid)
            assert (status, body) == (503, SILENT), (path, status, body)
            assert (
                headers["Content-Type"] == "text/plain; charset=utf-8"
                and headers["X-Go-Pprof"] == "1"
            )
        with concurrent.futures.ThreadPoolExecutor(30) as pool:  # more than there are workers
            answers = [pool.submit(port.get, "cmdline", second.pid) for _ in range(30)]
            assert {(answer.result()[0], answer.result()[2]) for answer in answers} == {
                (503, SILENT)
            }
        assert port.get("cmdline", third.pid)[0] == port.get("cmdline", first.pid)[0] == 200
    finally:
        os.kill(second.pid, signal.SIGCONT)
    harness.poll(lambda: port.get("cmdline", second.pid)[0] == 200, "the process is served again")
    assert port.ok("heap", second.pid)


def test_member_that_ends_while_it_is_asked():
    port, first, second = pair()
    stop(second.pid)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        answer = pool.submit(port.get, "cmdline", second.pid)
        harness.poll(
            lambda: any(
                b":%04X" % port.number in line and b" 01 " in line
                for line in open("/proc/net/tcp", "rb")
            ),
            "the request",
        )
        second.process.kill()
        second.process.wait()
        status, _, body = answer.result()
    # by then it has ended, or has not been waited for yet
    assert (status, body) in (
        (404, b"no process %d under the agent on this port\n" % second.pid),
        (503, SILENT),
    ), (status, body)
    harness.poll(lambda: port.get("cmdline", second.pid)[0] == 404, "it is gone")


def test_member_that_becomes_another_program_again_and_again():
    port = Port()
    first = Process(port)
    port.await_processes([first.pid], others=False)
    script = (
        "import os, sys, time\ntime.sleep(0.15)\n"
        "os.execv(sys.executable, [sys.executable, '-S', '-c', sys.argv[1], sys.argv[1]])\n"
    )
    python = harness.need("python3")
    restless = harness.Host([python, "-S", "-c", script, script], address=port.address)
    harness.poll(lambda: port.get("cmdline", restless.pid)[0] == 200, "it is there")
    answers = {}
    for _ in range(300):
        try:
            status, _, body = port.get("cmdline", restless.pid, timeout=10)
            kind = status if status == 200 else (status, body)
        except (ConnectionError, http.client.HTTPException):  # in the midst of its answer
            kind = "cut off"
        answers[kind] = answers.get(kind, 0) + 1
    harness.note(str(answers))
    gone = (404, b"no process %d under the agent on this port\n" % restless.pid)
    assert set(answers) <= {200, gone, (503, SILENT), "cut off"} and answers[200] > 0, answers
    assert (
        answers.get("cut off", 0) <= 15
    ), answers  # of the many moments in which it may, few are those of an answer
