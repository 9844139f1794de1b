"""stranger.py FILE: another user of the machine, who tries everything at once against the processes
that FILE (JSON) names, as fast as Python goes, until its stdin is closed. Then it prints what it
has done and, under "violations", what it was given that it should not have been.

FILE: port, tls_port, pids; hello: the first message of a process that wants to share the port;
client_hello: of TLS; directory: where it may write; links: {name in it: file of root's to point
at}; swap: two directories in it that change places. Also, if there: only (which of the acts below),
pause (in seconds, after each connection of a crowd).
"""
import collections
import contextlib
import json
import os
import random
import socket
import struct
import sys
import threading
import time

RESET = b"\1\0\0\0\0\0\0\0"  # struct linger: no TIME_WAIT is left, which fills the machine's table
WELCOME, CONNECTION = 2, 6  # tree_message.h
TLS_RECORDS = [bytes([kind]) for kind in range(20, 24)]
EVIL_MAP = b"".join(b"%x 1000000 evil_jit\n" % (at << 24) for at in range(200))

with open(sys.argv[1]) as given:
    aim = json.load(given)
stop, counts, violations = threading.Event(), collections.Counter(), []
source = random.Random(13)


def violation(text):
    if len(violations) < 20:
        violations.append(text)


def connect(port, blocking=False):
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.settimeout(10 if blocking else 0)
    if blocking:
        connection.connect(("127.0.0.1", port))
    else:
        connection.connect_ex(("127.0.0.1", port))
    counts["connections"] += 1
    return connection


def targets():
    """Requests for every process and page, whole ones."""
    paths = [
        "/",
        "//",
        "/debug/pprof/",
        "/debug/pprof/heap",
        "/debug/pprof/cmdline",
        "/debug/pprof/symbol",
        "/debug/pprof/profile?seconds=30",
        "/debug/pprof/%2e%2e/",
        "/pid/1/debug/pprof/heap",
    ]
    paths += [
        "/pid/%d/debug/pprof/%s" % (pid, name)
        for pid in aim["pids"]
        for name in ("heap", "cmdline", "goroutine?debug=2", "profile?seconds=30")
    ]
    for method in ("GET", "HEAD", "POST"):
        for path in paths:
            head = "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n"
            yield (head % (method, path, aim["port"])).encode()


REQUESTS = list(targets())


# ---- the port ------------------------------------------------------------------------------------


def refused_requests():
    """Whole ones, whose answers are read: refusals, or none at all."""
    for request in REQUESTS:
        if stop.is_set():
            return
        answer = b""
        with contextlib.suppress(OSError), connect(aim["port"], True) as connection:
            connection.sendall(request)
            while piece := connection.recv(65536):
                answer += piece
        check_refusal(request, answer)


def check_refusal(request, answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    status = b"".join(head.split(b" ")[1:2]).decode(errors="replace")
    counts["answered " + status if answer else "dropped"] += 1
    if not answer or head.startswith(b"HTTP/1.1 503 "):
        return
    words = b"may not connect" in body or (request.startswith(b"HEAD") and not body)
    if not head.startswith(b"HTTP/1.1 403 ") or not words or body.count(b"\n") > 1:
        violation("%r was answered by %r" % (request[:80], answer[:300]))


def crowd(port, pieces, most):
    """Holds connections that have each sent one of the pieces; opens what is closed."""
    held = []
    while not stop.is_set():
        while len(held) < most:
            connection = connect(port)
            with contextlib.suppress(OSError):
                connection.send(source.choice(pieces))
            held.append(connection)
        connection = held.pop(source.randrange(len(held)))
        with contextlib.suppress(OSError):
            answer = connection.recv(4096)
            is_right = (
                answer[:1] in TLS_RECORDS
                if port == aim["tls_port"]
                else answer[8:13] in (b" 403 ", b" 503 ")
            )
            if answer and not is_right:
                violation("port %d: %r" % (port, answer[:300]))
        connection.close()
        time.sleep(aim.get("pause", 0))


def silence():
    crowd(aim["port"], [b""], 100)


def half_requests():
    crowd(
        aim["port"],
        [
            b"G",
            b"GET /pid/",
            b"GET / HTTP/1.1\r\nHost: ",
            b"\r\n" * 50,
            b"POST " + b"a" * 3000,
            source.randbytes(200),
        ],
        60,
    )


def members_flood():
    crowd(aim["port"], REQUESTS, 80)


def tls():
    hello = bytes.fromhex(aim["client_hello"])
    crowd(
        aim["tls_port"],
        [
            b"",
            hello,
            hello[:50],
            b"GET / HTTP/1.1\r\n\r\n",
            source.randbytes(300),
            b"\x16\x03\x01\x40\x00" + b"\1" * 2000,
        ],
        80,
    )


# ---- the tree ------------------------------------------------------------------------------------


def join_the_tree():
    hello = bytes.fromhex(aim["hello"])
    own = hello[:16] + struct.pack("=i", os.getpid()) + hello[20:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.settimeout(2)
        with contextlib.suppress(OSError):
            peer.connect("\0pprofagent/127.0.0.1:%d" % aim["port"])
            counts["tree"] += 1
            noise = bytearray(own)
            for _ in range(source.randrange(4)):
                noise[source.randrange(len(noise))] = source.randrange(256)
            peer.send(source.choice([own, bytes(noise), source.randbytes(300), hello]))
            answer, descriptors, _, _ = socket.recv_fds(peer, 65536, 4)
            kind = struct.unpack_from("=I", answer, 8)[0] if len(answer) > 11 else None
            if kind in (WELCOME, CONNECTION) or descriptors:
                violation("the tree: message %s, %d descriptors" % (kind, len(descriptors)))
            for descriptor in descriptors:
                os.close(descriptor)
    time.sleep(0.01)


def squat():
    """The other address of localhost, and names near the tree's."""
    name = "\0pprofagent/127.0.0.1:%d" % aim["port"]
    for family, kind, address in (
        (socket.AF_INET6, socket.SOCK_STREAM, ("::1", aim["port"])),
        (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", aim["port"])),
        (socket.AF_UNIX, socket.SOCK_SEQPACKET, name),
    ):
        with contextlib.suppress(OSError), socket.socket(family, kind) as squatter:
            squatter.bind(address)
            squatter.listen()
            violation("could listen at %r" % (address,))
    time.sleep(0.01)


# ---- files ---------------------------------------------------------------------------------------


def again(make, *arguments):
    with contextlib.suppress(OSError):
        os.unlink(arguments[-1])
    with contextlib.suppress(OSError):
        make(*arguments)
        counts["planted"] += 1


def write_map(path):
    with open(path, "wb") as file:
        file.write(EVIL_MAP)


def plant():
    os.chdir(aim["directory"])
    for name, target in aim["links"].items():
        again(os.link if source.randrange(4) == 0 else os.symlink, target, name)
    for pid in aim["pids"]:
        path = "/tmp/perf-%d.map" % pid
        if source.randrange(2):
            again(write_map, path)
        else:
            again(os.symlink, source.choice(list(aim["links"].values())), path)
    first, second = aim["swap"]
    with contextlib.suppress(OSError):
        os.rename(first, "between")
        os.rename(second, first)
        os.rename("between", second)
    time.sleep(0.001)


def clean():
    for path in ["/tmp/perf-%d.map" % pid for pid in aim["pids"]]:
        with contextlib.suppress(OSError):
            os.unlink(path)


def forever(act):
    while not stop.is_set():
        act()


def main():
    acts = [
        refused_requests,
        silence,
        half_requests,
        members_flood,
        tls,
        join_the_tree,
        squat,
        plant,
    ]
    if "only" in aim:
        acts = [act for act in acts if act.__name__ in aim["only"]]
    threads = [threading.Thread(target=forever, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    if plant in acts:
        clean()
    print(json.dumps({"counts": counts, "violations": violations}))


main()
