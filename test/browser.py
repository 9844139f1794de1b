"""Chromium, driven by its DevTools protocol over a pair of pipes: the standard library only."""
import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

import harness


class Browser:
    """One page of a headless chromium. What it said, asked for and threw is kept."""

    def __init__(self, width=1200, height=900):
        self.directory = tempfile.mkdtemp(prefix="pprofagent-browser-")
        to_read, self._out = os.pipe()
        self._in, to_write = os.pipe()

        def pipes():  # chromium reads from 3 and writes to 4
            high = [os.dup(to_read), os.dup(to_write)]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self.process = subprocess.Popen(
            [
                harness.need("chromium"),
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--remote-debugging-pipe",
                "--user-data-dir=" + self.directory,
                "about:blank",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=pipes,
            start_new_session=True,
            env=dict(os.environ, HOME=self.directory),
        )
        os.close(to_read)
        os.close(to_write)
        self._number, self._buffer, self._session = 0, b"", None
        self.console, self.requests, self._loaded = [], [], 0
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(domain + ".enable")
        self.size(width, height)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        os.close(self._in)
        os.close(self._out)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _message(self, end):
        while b"\0" not in self._buffer:
            left = end - time.monotonic()
            assert left > 0, "chromium does not answer"
            if select.select([self._in], [], [], left)[0]:
                piece = os.read(self._in, 1 << 20)
                assert piece, "chromium ended"
                self._buffer += piece
        text, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(text)

    def _event(self, message):
        method, given = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(given["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.console.append(json.dumps(given["exceptionDetails"])[:2000])
        elif method == "Runtime.consoleAPICalled":
            if given["type"] in ("error", "warning", "assert"):
                self.console.append(json.dumps(given["args"])[:2000])
        elif method == "Log.entryAdded":
            if given["entry"]["level"] in ("error", "warning"):
                self.console.append(given["entry"]["text"])
        elif method == "Page.loadEventFired":
            self._loaded += 1

    def call(self, method, **params):
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + harness.DEADLINE * 3
        while True:
            answer = self._message(end)
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._event(answer)

    def size(self, width, height, dark=False):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def renew(self):
        """As it was made, for another test."""
        self.open("about:blank")
        self.size(1200, 900)
        del self.console[:], self.requests[:]

    def open(self, url):
        before = self._loaded
        self.call("Page.navigate", url=url)
        harness.poll(lambda: self.evaluate("1") and self._loaded > before, "the page %s" % url)

    def evaluate(self, script):
        answer = self.call(
            "Runtime.evaluate",
            expression=script,
            returnByValue=True,
            awaitPromise=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in answer, (script, answer["exceptionDetails"])
        return answer["result"].get("value")

    def until(self, script, what=None):
        """Waits until the script gives something true."""
        harness.poll(
            lambda: self.evaluate("!!(%s)" % script),
            "%s; console: %s" % (what or script, self.console),
        )

    def click(self, selector):
        self.until("!!document.querySelector(%s)" % json.dumps(selector))
        self.evaluate("document.querySelector(%s).click()" % json.dumps(selector))

    def choose_file(self, selector, path):
        """As by the window that opens for it."""
        node = self.call("DOM.getDocument")["root"]["nodeId"]
        field = self.call("DOM.querySelector", nodeId=node, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=field, files=[path])

    def press(self, key):
        codes = {
            "Enter": 13,
            "Escape": 27,
            "ArrowDown": 40,
            "ArrowUp": 38,
            "ArrowLeft": 37,
            "ArrowRight": 39,
        }
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=codes.get(key, 0),
            )

    def picture(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
