"""Imports of heavy libraries without the garbage collector, which would look through all they make, over and over."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import inside. The collector leaves alone for good what is there then, at the end of the process too."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
