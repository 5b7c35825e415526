"""How far a download is, as lines of a log, which is where the output of a job goes."""

import logging
import time

from huggingface_hub.utils import tqdm

from gluegrid.common.files import size_in_words

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 5


class ProgressInLog(tqdm):
    """A progress bar for huggingface_hub that writes a line now and then: bytes, rate, seconds left."""

    def __init__(self, *_, total: int | None = None, initial: int = 0, desc: str = "", **__):
        super().__init__(disable=True)
        self.name, self.expected, self.there = desc, total, initial
        self.begun, self.begun_with = time.monotonic(), initial
        self.last_line = self.begun
        size = f", {size_in_words(total)}" if total else ""
        rest = f", resumed at {size_in_words(initial)}" if initial else ""
        logger.info("fetching %s%s%s", desc, size, rest)

    def update(self, n: float = 1) -> None:
        """Count bytes that have arrived (fewer than none where a transfer starts over)."""
        self.there += int(n)
        if time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            logger.info("%s", self._line())

    def _line(self) -> str:
        rate = max(self.there - self.begun_with, 0) / (time.monotonic() - self.begun)
        text = f"{self.name}: {size_in_words(self.there)}"
        if self.expected:
            text += f" of {size_in_words(self.expected)}"
        text += f", {size_in_words(rate)}/s"
        if self.expected and rate:
            text += f", {(self.expected - self.there) / rate:.0f} s left"
        return text
