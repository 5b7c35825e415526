"""The last lines of a terminal, redrawn in place; all other output goes above them."""

import os
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from typing import TextIO

from wcwidth import clip

# ECMA-48: move up, then erase to the end of the screen. It starts at the first column, since ^C may have been echoed.
UP_AND_CLEAR = "\r\x1b[{lines}A\x1b[J"


def is_terminal(stream: TextIO) -> bool:
    """Tell whether a stream is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class LiveBlock:
    """Lines at the end of a terminal. The cursor stays visible, so a killed process leaves a usable terminal behind."""

    def __init__(self, stream: TextIO):
        self.stream = stream
        self._drawn = 0
        self._lines: Sequence[str] = ()
        self._is_open = False
        self._lock = threading.RLock()  # a signal handler may print while its thread draws
        self._redirected = ExitStack()

    @property
    def size(self) -> tuple[int, int]:
        """Return the terminal's columns and lines."""
        try:
            size = os.get_terminal_size(self.stream.fileno())
        except OSError:
            return 80, 24
        return size.columns or 80, size.lines or 24

    @property
    def has_colours(self) -> bool:
        """Whether colours are wanted (https://no-color.org)."""
        return not os.environ.get("NO_COLOR")

    def open(self) -> None:
        """Print the output of this process above the block while it is open."""
        if self._is_open:
            return
        self._is_open = True
        for stream, redirect in ((sys.stdout, redirect_stdout), (sys.stderr, redirect_stderr)):
            if is_terminal(stream):
                above = self._redirected.enter_context(redirect(_Above(self, stream)))
                self._redirected.callback(above.finish)

    def draw(self, lines: Sequence[str]) -> None:
        """Replace the lines shown before; if there are too many, show the last ones."""
        with self._lock:
            if self._is_open:
                self._lines = lines
                self._write("")

    def write(self, text: str) -> None:
        """Print complete lines above the block."""
        with self._lock:
            self._write(text)

    def close(self) -> None:
        """Erase the block for good."""
        with self._lock:
            self._lines = ()
            self._redirected.close()
            self._write("")
            self._is_open = False

    def _write(self, text: str) -> None:
        columns, height = self.size
        lines = [clip(line, 0, columns - 1) for line in self._lines[-(height - 1) :]]
        above = UP_AND_CLEAR.format(lines=self._drawn) if self._drawn else ""
        self._drawn = len(lines)
        self.stream.write(above + text + "".join(f"{line}\n" for line in lines))
        self.stream.flush()


class _Above:
    """A stream of this process whose lines go above the block."""

    def __init__(self, block: LiveBlock, stream: TextIO):
        self._block = block
        self._stream = stream
        self._begun = ""

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Print all complete lines; keep an incomplete one until its end arrives."""
        complete, end, self._begun = (self._begun + text).rpartition("\n")
        if end:
            self._block.write(complete + end)
        return len(text)

    def finish(self) -> None:
        """Print a line that has no end yet."""
        if self._begun:
            self._block.write(f"{self._begun}\n")
            self._begun = ""

    def flush(self) -> None:
        """Do nothing: complete lines were printed."""
