"""The pictures of docs/pictures: redis and nginx under the agent with a load, their pages in
chromium. Run by `make pictures`; look at what it has made before it is committed."""
import contextlib
import os
import signal
import socket
import subprocess
import sys

import harness
from browser import Browser
from view_page import SHOWS_FRAMES

DIRECTORY = os.path.join(harness.ROOT, "docs", "pictures")
WIDTH, TALLEST, COLOURS = 1080, 780, 64
NGINX = """daemon off; worker_processes 2; pid pid; error_log error.log;
events { worker_connections 256; }
http { access_log off; gzip on; gzip_comp_level 9; client_body_temp_path b; proxy_temp_path p;
fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
server { listen 127.0.0.1:%d; root .; } }
"""
HAS_TEXT = "document.querySelector(%r).textContent.trim()"


def usual_address():
    """The port that the documents name, if it is free."""
    with contextlib.closing(socket.socket()) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", 6060))
            return "127.0.0.1:6060"
    return "127.0.0.1:%d" % harness.free_port()


@contextlib.contextmanager
def running(command, **options):
    """A load, as long as it is wanted."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        **options
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def take(browser, name):
    """The page from its top, as tall as it is; in few colours, which makes it small."""
    browser.size(WIDTH, 300)
    height = browser.evaluate("document.documentElement.scrollHeight")
    browser.size(WIDTH, min(height, TALLEST))
    path = os.path.join(DIRECTORY, name + ".png")
    browser.evaluate("new Promise(done => setTimeout(done, 1000))")  # what moves has come to rest
    browser.picture(path)
    subprocess.run(
        [harness.need("pngquant"), "--force", "--strip", "--speed=1", "--output=" + path]
        + [str(COLOURS), path],
        check=True,
    )
    print("%s: %d KB" % (os.path.relpath(path, harness.ROOT), os.path.getsize(path) // 1000))


def open_page(browser, url, wait):
    browser.size(WIDTH, TALLEST)
    browser.open(url)
    browser.until(wait)


class Redis:
    def __init__(self):
        server, self.benchmark, client = harness.need(
            "redis-server", "redis-benchmark", "redis-cli"
        )
        self.socket = os.path.join(harness.scratch(), "redis.sock")
        directory = os.path.dirname(self.socket)
        options = ["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--io-threads", "3"]
        self.host = harness.Host(
            [server] + options,
            cwd=directory,
            address=usual_address(),
        )
        ask = [client, "-s", self.socket, "ping"]
        harness.poll(
            lambda: subprocess.run(ask, capture_output=True).stdout == b"PONG\n", "redis answers"
        )

    def command(self, tests, count, *more):
        return [self.benchmark, "-s", self.socket, "-q", "-t", tests, "-n", str(count)] + [
            *("-r", "100000", "-d", "512", "-P", "16"),
            *more,
        ]

    def fill(self, tests, count):
        subprocess.run(self.command(tests, count), capture_output=True, check=True)

    def flush(self):
        command = [self.benchmark, "-s", self.socket, "-q", "-n", "1", "flushdb"]
        subprocess.run(command, capture_output=True, check=True)


def pictures_of_redis(browser):
    redis = Redis()
    redis.fill("set,lpush,hset", 200000)
    at = redis.host.url()
    with running(redis.command("set,lpush,hset,zadd,get", 100000000)):
        browser.size(WIDTH, TALLEST)
        browser.open(at)
        points = "JSON.parse(sessionStorage[Object.keys(sessionStorage)[0]] || '{}').points"
        browser.until("Object.keys(sessionStorage).length && %s.length >= 8" % points)
        open_page(browser, at, "document.querySelectorAll('.vital').length")
        browser.until(
            "[...document.querySelectorAll('.vital b')].every(b => /[0-9]/.test(b.textContent))"
        )
        take(browser, "index")
        open_page(browser, at + "view/goroutine#view=threads", HAS_TEXT % "#threads")
        take(browser, "threads")
    open_page(browser, at + "view/heap", SHOWS_FRAMES)
    take(browser, "flame")
    browser.click("#mark")
    redis.flush()
    redis.fill("hset,zadd,set", 300000)
    browser.click("#compare")
    browser.until("document.querySelectorAll('#facts b').length === 3")
    take(browser, "comparison")


def pictures_of_nginx(browser):
    directory, port = harness.scratch(), harness.free_port()
    os.chmod(directory, 0o755)
    with open(os.path.join(directory, "index.html"), "w") as file:
        file.write("".join("<p>paragraph %d, %x</p>\n" % (n, n * 2654435761) for n in range(6000)))
    with open(os.path.join(directory, "nginx.conf"), "w") as file:
        file.write(NGINX % port)
    nginx, curl = harness.need("nginx", "curl")
    host = harness.Host(
        [nginx, "-p", ".", "-c", "nginx.conf"], cwd=directory, address=usual_address(), rate=4096
    )
    origin = "http://%s:%d/" % host.address
    load = [curl, "-s", "--compressed", "-Z", "--parallel-max", "8", "-o", "/dev/null"]
    with running(load + ["http://127.0.0.1:%d/?[1-10000000]" % port]):
        shows_all = "document.querySelectorAll('.processes tbody tr').length === 3"

        def are_there():
            browser.open(origin)
            return browser.evaluate(shows_all)

        harness.poll(are_there, "the page of nginx's three processes")
        take(browser, "tree")
        open_page(browser, origin + "tree/debug/pprof/view/heap", SHOWS_FRAMES)
        take(browser, "tree_flame")
    host.process.terminate()  # and its workers with it
    host.process.wait()


def main():
    os.makedirs(DIRECTORY, exist_ok=True)
    try:
        with Browser(WIDTH, TALLEST) as browser:
            browser.call("Emulation.setScrollbarsHidden", hidden=True)
            for pictures in (pictures_of_redis, pictures_of_nginx):
                pictures(browser)
                harness.stop_everything()
    except harness.Skip as missing:
        sys.exit("pictures: %s" % missing)
    finally:
        harness.stop_everything()


if __name__ == "__main__":
    main()
