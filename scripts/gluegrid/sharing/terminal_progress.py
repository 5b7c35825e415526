"""How far something long is, as a line on the terminal every few seconds."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

SECONDS_BETWEEN_LINES = 5
Item = TypeVar("Item")


def telling(items: Sequence[Item], what: str) -> Iterator[Item]:
    """Yield some items, and tell on standard error now and then how many of them are done."""
    told = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - told >= SECONDS_BETWEEN_LINES:
            told = time.monotonic()
            print(f"{what}: {done:,} of {len(items):,}", file=sys.stderr, flush=True)
        yield item
