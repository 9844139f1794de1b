"""Remote admin: slow clients, many, and too many."""
import json
import os
import resource
import socket
import subprocess
import tempfile
import time

import harness
from http_guest import cpu_seconds, descriptors
from tls_hosts import bytes_back, certificates, curl, get, start, tls_port


def test_slow_handshakes_keep_nobody_waiting():
    def with_idle_connections():
        port = tls_port(start())
        return port, [socket.create_connection(("127.0.0.1", port)) for _ in range(15)]

    states = []

    def ask(state):
        states.append(state)
        assert get(state[0])

    harness.in_time(ask, 4, "a request beside 15 idle connections", with_idle_connections)
    port, idle = states[-1]
    idle += [socket.create_connection(("127.0.0.1", port)) for _ in range(1)]
    # All 16 places are taken until the handshakes' deadline; then there is room.
    harness.poll(lambda: curl(port)[0] == 0, "an answer after the deadline of the idle ones")
    idle[0].settimeout(harness.DEADLINE)
    assert idle[0].recv(100) == b""


def parallel(port, count, path="cmdline"):
    """The exit codes of that many curls at once."""
    with tempfile.TemporaryDirectory() as directory:
        command = [
            harness.need("curl"),
            "-sS",
            "--parallel",
            "--parallel-immediate",
            "--parallel-max",
            str(count),
            "--cacert",
            certificates() + "/authority.crt",
            "--cert",
            certificates() + "/client.crt",
            "--key",
            certificates() + "/client.key",
        ]
        for number in range(count):
            command += [
                "-o",
                "%s/%d" % (directory, number),
                "https://127.0.0.1:%d/debug/pprof/%s" % (port, path),
            ]
        subprocess.run(command, capture_output=True, timeout=harness.DEADLINE * 2)
        return [open(os.path.join(directory, name), "rb").read() for name in os.listdir(directory)]


def test_a_hundred_at_once():
    host = start()
    port = tls_port(host)
    expected = get(port)
    answers = [body for body in parallel(port, 100) if body]
    assert len(answers) >= 10 and set(answers) == {expected}, (len(answers), set(answers))
    harness.poll(lambda: curl(port)[0] == 0, "an answer after the crowd has gone")


def agent_memory(port):
    return json.loads(get(port, "health"))["agent"]["memory_bytes"]["allocator"]


def test_memory_is_bounded():
    host = start()
    port = tls_port(host)
    parallel(port, 16)
    before = agent_memory(port)
    for _ in range(12):
        parallel(port, 16)
        parallel(port, 8, "nope")
        curl(port, "cmdline", None)
        bytes_back(port, b"\x16\x03\x01\x02\x00" + b"a" * 100)
    assert agent_memory(port) <= before + 256 * 1024, (before, agent_memory(port))
    in_use = lambda: len([target for target in descriptors(host) if "socket" in target])
    harness.poll(lambda: in_use() <= 4, "closed connections")


def test_out_of_descriptors_does_not_spin():
    host = start(preexec_fn=harness.limit(resource.RLIMIT_NOFILE, 16))
    port = tls_port(host)
    assert get(port)
    crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(30)]
    before = cpu_seconds(host.pid)
    time.sleep(1.5)
    assert cpu_seconds(host.pid) - before < 0.3, "%.2f s of CPU time in 1.5 s" % (
        cpu_seconds(host.pid) - before
    )
    for connection in crowd:
        connection.close()
    harness.poll(lambda: curl(port)[0] == 0, "an answer after the crowd has gone")
