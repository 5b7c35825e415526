"""Standard output, and whoever reads it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Stop in silence what only tells something when its reader has seen enough, as in `make plan | head`."""
    try:
        yield
        sys.stdout.flush()  # here, since what Python flushes at its end fails with a complaint
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
