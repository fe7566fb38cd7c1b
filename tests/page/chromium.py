"""A headless browser that is told what to do, as its developer tools do: over two pipes."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: How long something may take to become true in a page, in seconds.
PATIENCE = 20
KEYS = {"Tab": 9, "Enter": 13, "Space": 32}


class Page:
    """A tab of the browser."""

    def __init__(self, browser: Browser, width: int, height: int, scheme: str) -> None:
        """Open an empty tab of a size, in a colour scheme."""
        self._browser, self._target = browser, browser.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = browser.call("Target.attachToTarget", {"targetId": self._target, "flatten": True})
        self._session = attached["sessionId"]
        self.call("Page.enable")
        self.call("Runtime.enable")
        self.call("Log.enable")
        # Where nobody looks, pages have no focus.
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        self.size(width, height)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the tab's and return its result."""
        return self._browser.call(method, parameters, self._session)

    def size(self, width: int, height: int) -> None:
        """Give the page another size."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )

    def open(self, address: str) -> None:
        """Load an address."""
        self.call("Page.navigate", url=address)

    def evaluate(self, expression: str) -> Any:
        """Return what JavaScript gives in the page, awaited."""
        done = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until JavaScript gives something true in the page."""
        end = time.monotonic() + PATIENCE
        while not self.evaluate(condition):
            assert time.monotonic() < end, f"{condition} is never true; {self.evaluate('document.body.innerText')}"
            time.sleep(0.02)

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        text = {"Enter": "\r", "Space": " "}.get(key, "")
        code = {"key": " " if key == "Space" else key, "code": key, "windowsVirtualKeyCode": KEYS[key], "text": text}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **code)
        self.call("Input.dispatchKeyEvent", type="keyUp", **code)

    def complaints(self) -> list[str]:
        """Return what the browser has said went wrong in the page: errors, and what its policy refused."""
        self.evaluate("0")
        return [
            str(event.get("entry", event.get("exceptionDetails")))
            for session, event in self._browser.events
            if session == self._session
        ]

    def picture(self, file: Path) -> None:
        """Write what is seen of the page to a PNG."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        """Close the tab."""
        self._browser.call("Target.closeTarget", {"targetId": self._target})


class Browser:
    """A browser that runs."""

    def __init__(self, tell: int, told: int) -> None:
        """Speak to a browser over two file descriptors."""
        self._tell, self._told, self._number = tell, told, 0
        self._rest = b""
        self.events: list[tuple[str, dict[str, Any]]] = []

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            read = os.read(self._told, 1 << 20)
            assert read, "the browser has ended"
            self._rest += read
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))

    def call(self, method: str, parameters: Mapping[str, Any], session: str | None = None) -> dict[str, Any]:
        """Call a method and return its result; what else is said meanwhile of errors is kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        sent = json.dumps(message).encode() + b"\0"
        while sent:
            sent = sent[os.write(self._tell, sent) :]
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return dict(answer["result"])
            if answer.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.events.append((answer["sessionId"], answer["params"]))


@contextmanager
def running(program: str, flags: Sequence[str]) -> Iterator[Browser]:
    """Run a browser.

    Args:
        program: Its path.
        flags: Its options, the folder of its profile among them.
    """
    theirs_in, tell = os.pipe()
    told, theirs_out = os.pipe()
    command = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
    process = subprocess.Popen(
        ["bash", "-c", command, "bash", program, "--headless", "--remote-debugging-pipe", *flags],
        pass_fds=(theirs_in, theirs_out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Browser(tell, told)
    finally:
        process.terminate()
        process.wait(10)
        os.close(tell)
        os.close(told)
