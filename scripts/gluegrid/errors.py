"""The errors that a user can mend. Each message says what is wrong, where, and what to do, in one or two lines."""

import sys
from collections.abc import Callable


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


def run_script(main: Callable[[], None]) -> None:
    """Call a script's `main`; a GluegridError, or Stopped, becomes its message on stderr and exit code 1."""
    try:
        main()
    except (GluegridError, Stopped) as error:
        print(f"gluegrid: {error}", file=sys.stderr)
        raise SystemExit(1) from None
