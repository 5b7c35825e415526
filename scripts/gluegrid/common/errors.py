"""The errors that a user can mend. Each message says what is wrong, where, and what to do, in one or two lines."""

from collections.abc import Iterator
from contextlib import contextmanager

LONGEST = 300  # characters; some messages quote a whole file


class GluegridError(Exception):
    """Base of all errors that are reported without a traceback.

    `is_permanent`: the same would happen again, so that a retry is in vain.
    """

    is_permanent = True


class ConfigError(GluegridError):
    """The experiment file or the task registry is wrong; `problems` holds one line for each mistake."""

    def __init__(self, problems: list[str]):
        super().__init__("\n".join(problems))
        self.problems = problems


class StagingError(GluegridError):
    """A model or a data set could not be fetched whole."""


class DataError(GluegridError):
    """A file's content is not what its task or its manifest says."""


class MisfitError(DataError):
    """Data are not what the experiment file says of them: what it says under a task's `key`, or of a `column`."""

    def __init__(self, message: str, key: str | None = None, column: str | None = None):
        super().__init__(message)
        self.key = key
        self.column = column


class TrainingError(GluegridError):
    """A cell cannot be trained as asked."""


class TransientError(GluegridError):
    """A cell cannot be trained here and now; on another node, or later, it may be."""

    is_permanent = False


class ParityError(GluegridError):
    """Results are below their references."""


class RecordError(GluegridError):
    """A result file is not what its contract says."""


class Stopped(BaseException):
    """The process was asked to end, or its time is nearly over; its message says why. No error of anybody's."""


@contextmanager
def one_line_errors(what: str) -> Iterator[None]:
    """Raise whatever a library raises inside as StagingError, its message in one line after `what`."""
    try:
        yield
    except GluegridError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
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
