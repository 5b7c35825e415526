"""What every script needs: its log, its errors as one line, its output to a reader who may leave, its imports."""

import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from gluegrid.common.errors import GluegridError, Stopped
from gluegrid.common.escaping import redacted

OURS = "gluegrid: "  # with which a script's own error begins: by this, programs tell it from all else in a log


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


def setup(*others: logging.Handler) -> None:
    """Log messages of INFO and above with the time in front, and without secrets; `others` get them, too."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler, *others])
    for chatty in ("httpx", "httpx2", "httpcore", "httpcore2", "urllib3", "filelock", "fsspec"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import inside. The collector leaves alone for good what is there then, at the end of the process too."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Stop in silence what only tells something when its reader has seen enough, as in `make plan | head`."""
    try:
        yield
        sys.stdout.flush()  # here, since what Python flushes at its end fails with a complaint
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run_script(main: Callable[[], None]) -> None:
    """Call a script's `main`; a GluegridError, or Stopped, becomes its message on stderr and exit code 1."""
    try:
        main()
    except (GluegridError, Stopped) as error:
        print(f"{OURS}{error}", file=sys.stderr)
        raise SystemExit(1) from None


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Let Ctrl-C end a program with a line; anything else that nobody has caught with its traceback."""
    if issubclass(kind, KeyboardInterrupt):
        print(f"{OURS}interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


# Here and not around a `main`: what is still importing its modules may be interrupted, too.
sys.excepthook = _end
