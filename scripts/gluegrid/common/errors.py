"""The errors that a user can fix. Each message says what is wrong, where, and what to do, in one or two lines."""

from collections.abc import Iterator
from contextlib import contextmanager

LONGEST = 300  # characters; some messages quote a whole file


class GluegridError(Exception):
    """Base of all errors that are reported without a traceback.

    `is_permanent`: a retry would fail in the same way.
    """

    is_permanent = True


class ConfigError(GluegridError):
    """The experiment file or the task registry is wrong; `problems` holds one line for each mistake."""

    def __init__(self, problems: list[str]):
        super().__init__("\n".join(problems))
        self.problems = problems


class StagingError(GluegridError):
    """A model or a dataset could not be staged completely."""


class DataError(GluegridError):
    """A file's content does not match its task or its manifest."""


class MisfitError(DataError):
    """The data do not match what the experiment file says about them: under a task's `key`, or about a `column`."""

    def __init__(self, message: str, key: str | None = None, column: str | None = None):
        super().__init__(message)
        self.key = key
        self.column = column


class TrainingError(GluegridError):
    """A cell cannot be trained as requested."""


class TransientError(GluegridError):
    """A cell cannot be trained here and now; a retry later or on another node may succeed."""

    is_permanent = False


class ParityError(GluegridError):
    """Results are below their references."""


class RecordError(GluegridError):
    """A result file does not have the documented format."""


class Stopped(BaseException):
    """The process was asked to end, or its time is nearly over; the message says why. This is not an error."""


@contextmanager
def one_line_errors(what: str) -> Iterator[None]:
    """Turn any exception that a library raises inside into a StagingError: `what`, and its message on one line."""
    try:
        yield
    except GluegridError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise StagingError(f"{what}: {in_one_line(error)}") from error


def in_one_line(error: BaseException) -> str:
    """Return an error's message on one line of bounded length; with its class if the message says too little."""
    message = " ".join(str(error).split())
    # A KeyError's message is only the key; messages of libraries' own exceptions are self-explanatory.
    is_terse = type(error).__module__ == "builtins" and not isinstance(error, ValueError | OSError | RuntimeError)
    if not message or (is_terse and type(error) is not Exception):
        message = f"{type(error).__name__} {message}".strip()
    message = "".join(letter if letter.isprintable() else "?" for letter in message)
    return message if len(message) <= LONGEST else f"{message[: LONGEST - 3]}..."
