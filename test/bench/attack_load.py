"""attack_load.py PORT RATE: attacks an admin port until it is killed, RATE connections a second (0:
as many as can be made). Some are held open, some ask for what costs most, some are noise."""
import random
import socket
import sys
import time


def attack(port, rate):
    head = b"GET /debug/pprof/%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
    source, held, made, started = random.Random(1), [], 0, time.monotonic()
    body = (
        b"POST /debug/pprof/symbol HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 900000\r\n\r\n"
        % port
        + b"0x1+" * 20000
    )
    texts = [
        b"",
        b"GET / HT",
        *[
            head % (path, port) + b"\r\n"
            for path in (b"heap", b"goroutine?debug=2", b"heap?seconds=5")
        ],
        head % (b"heap", port) + b"Host: evil\r\n\r\n",
        b"\r\n" * 3000,
        b"GET /" + b"a" * 9000,
        source.randbytes(500),
        body,
    ]
    while True:
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.connect_ex(("127.0.0.1", port))
        try:
            connection.send(texts[made % len(texts)])
        except OSError:
            pass
        held.append(connection)
        made += 1
        if len(held) > 500:
            held.pop(source.randrange(len(held))).close()
        if rate and (wait := started + made / rate - time.monotonic()) > 0:
            time.sleep(wait)


if __name__ == "__main__":
    attack(int(sys.argv[1]), int(sys.argv[2]))
