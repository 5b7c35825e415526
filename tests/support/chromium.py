"""A real headless browser: Chromium, controlled through its DevTools protocol over two pipes."""

import base64
import json
import os
import select
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from waiting import HANG

OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe"),
    *("--disable-background-networking", "--disable-component-update", "--no-first-run", "--hide-scrollbars"),
)
COMMANDS, ANSWERS = 3, 4  # the file descriptors that --remote-debugging-pipe uses


class Page:
    """A page in the browser, as wide as is wanted, in light or dark. `problems` are what its console says, and requests
    for anything but the page.
    """

    def __init__(self, commands: int, answers: int):
        self._commands, self._answers = commands, os.fdopen(answers, "rb")
        self._number = 0
        self._buffer = b""
        self._events: list[dict] = []
        self._session = None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        self._call("Page.setLifecycleEventsEnabled", enabled=True)

    def show(self, path: Path, width: int, scheme: str = "light") -> None:
        """Load a file at a width in pixels."""
        self._events.clear()
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", media="", features=features)
        self._size(width, 800)
        loader = self._call("Page.navigate", url=path.absolute().as_uri())["loaderId"]
        self._wait_for("Page.lifecycleEvent", loaderId=loader, name="load")

    def value(self, expression: str):
        """Return the value of a JavaScript expression."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, path: Path, height: int | None = None, scale: float = 1) -> Path:
        """Save a screenshot of the page, with the given height or its own."""
        width = self.value("window.innerWidth")
        self._size(width, height or self.value("document.documentElement.scrollHeight"), scale)
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))
        return path

    def print_colours(self, scheme: str) -> None:
        """Style the page as for print, with this color scheme."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", media="print", features=features)

    def pdf(self, path: Path) -> Path:
        """Save the page as it is printed."""
        path.write_bytes(base64.b64decode(self._call("Page.printToPDF", preferCSSPageSize=True)["data"]))
        return path

    @property
    def problems(self) -> list[str]:
        """What went wrong since the page was loaded."""
        kinds = {"Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Network.loadingFailed"}
        return [json.dumps(event) for event in self._events if event["method"] in kinds]

    @property
    def requests(self) -> list[str]:
        """The URLs that were requested since the page was loaded."""
        sent = [event["params"] for event in self._events if event["method"] == "Network.requestWillBeSent"]
        return [each["request"]["url"] for each in sent]

    def _size(self, width: int, height: int, scale: float = 1) -> None:
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )

    def _call(self, method: str, **parameters) -> dict:
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        message = {"id": self._number, "method": method, "params": parameters, **session}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self._events.append(answer)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def _wait_for(self, event: str, **parameters: str) -> None:
        while not any(
            seen["method"] == event and parameters.items() <= seen["params"].items() for seen in self._events
        ):
            self._events.append(self._next())

    def _next(self) -> dict:
        while b"\0" not in self._buffer:
            assert select.select([self._answers], [], [], HANG)[0], "the browser does not answer"
            part = os.read(self._answers.fileno(), 1 << 20)
            assert part, "the browser has ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)


@contextmanager
def browser(program: str) -> Iterator[Page]:
    """Start a browser with one page; it ends with the context."""
    theirs_in, commands = os.pipe()
    answers, theirs_out = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # The shell moves the pipes to the descriptors that the browser expects.
        start = f'exec "$@" {COMMANDS}<&{theirs_in} {ANSWERS}>&{theirs_out}'
        process = subprocess.Popen(
            ["bash", "-c", start, "bash", program, *OPTIONS, f"--user-data-dir={profile}"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            yield Page(commands, answers)
        finally:
            process.terminate()
            process.wait(HANG)
            os.close(commands)
