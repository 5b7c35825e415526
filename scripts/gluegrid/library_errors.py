"""What other libraries raise on files that they cannot use, as errors of ours in one line.

Hostile files make them raise nearly anything: besides their own classes KeyError, RecursionError, MemoryError, or the
panic of a library in Rust, which is no Exception.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from gluegrid.errors import GluegridError, StagingError

LONGEST = 300  # characters; some messages quote a whole file


@contextmanager
def one_line_errors(what: str) -> Iterator[None]:
    """Raise whatever a library raises inside as StagingError, its message in one line after `what`."""
    try:
        yield
    except GluegridError:
        raise
    except Exception as error:
        raise StagingError(f"{what}: {in_one_line(error)}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise StagingError(f"{what}: {in_one_line(error)}") from error


def in_one_line(error: BaseException) -> str:
    """Return an error's message without line breaks and not too long; with its class where that says more."""
    message = " ".join(str(error).split())
    # A KeyError's message is the key alone; the libraries' own classes have messages that stand for themselves.
    is_terse = type(error).__module__ == "builtins" and not isinstance(error, ValueError | OSError | RuntimeError)
    if not message or (is_terse and type(error) is not Exception):
        message = f"{type(error).__name__} {message}".strip()
    message = "".join(letter if letter.isprintable() else "?" for letter in message)
    return message if len(message) <= LONGEST else f"{message[: LONGEST - 3]}..."
