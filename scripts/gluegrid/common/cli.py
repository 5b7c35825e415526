"""What every script needs: logging, one-line errors, output that may be piped into `head`, and fast imports."""

import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from gluegrid.common.errors import GluegridError, Stopped
from gluegrid.common.escaping import redacted

OURS = "gluegrid: "  # begins each error of our own scripts, so that programs find it in a log


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


def setup(*others: logging.Handler) -> None:
    """Log messages of level INFO and above, with the time and without secrets; `others` get them, too."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler, *others])
    for chatty in ("httpx", "httpx2", "httpcore", "httpcore2", "urllib3", "filelock", "fsspec"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


@contextmanager
def quick_imports() -> Iterator[None]:
    """Speed up the imports inside: the garbage collector never looks at their objects, not even at exit."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """End quietly when the reader of the output closes the pipe, as in `make plan | head`."""
    try:
        yield
        sys.stdout.flush()  # here, since Python's own flush at exit would print an error
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_what_can_be_shown() -> None:
    """Print a question mark for a letter that the terminal's encoding lacks, instead of failing."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")


def run_script(main: Callable[[], None]) -> None:
    """Call a script's `main`; on a GluegridError or Stopped, print its message to stderr and exit with code 1."""
    print_what_can_be_shown()
    try:
        main()
    except (GluegridError, Stopped) as error:
        print(f"{OURS}{error}", file=sys.stderr)
        raise SystemExit(1) from None


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print one line for Ctrl-C, and a traceback for any other uncaught exception."""
    if issubclass(kind, KeyboardInterrupt):
        print(f"{OURS}interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


# Set here rather than around `main`, since Ctrl-C may also come while a script still imports its modules.
sys.excepthook = _end
