"""What becomes of a cell when one of the processes fails that help the main one to train it.

The launcher ends the others with SIGTERM then, and they lose their connections; so the main process, which notes and
tells why the cell was not trained, learns from a file what really happened.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gluegrid.common.errors import GluegridError, Stopped, TrainingError, TransientError
from gluegrid.common.files import json_if_there, write_json

# What differs between launches; a requeued job keeps its number, and its launches their port.
OF_A_LAUNCH = ("TORCHELASTIC_RUN_ID", "MASTER_PORT", "SLURM_JOB_ID", "SLURM_RESTART_COUNT")


@contextmanager
def helping(failure: Path, rank: int) -> Iterator[None]:
    """Let the main process know, in the file `failure`, why this one failed. That one tells why they were stopped."""
    try:
        yield
    except Stopped:
        raise SystemExit(1) from None
    except BaseException as error:
        # If another has failed before, this one has lost its connection to it.
        if _noted(failure) is None:
            _note(failure, error, rank)
        raise


@contextmanager
def helped(failure: Path) -> Iterator[None]:
    """Be the process that others help, which may die of a failure of theirs: that is raised in place of its own."""
    try:
        yield
    except BaseException as error:
        if noted := _noted(failure):
            failure.unlink(missing_ok=True)
            raise (TrainingError if noted["is_permanent"] else TransientError)(noted["reason"]) from error
        raise


def _noted(failure: Path) -> dict | None:
    """Return what a helper of this launch has noted; what one of an earlier launch has, is removed."""
    noted = json_if_there(failure)
    if noted.get("launch") == _this_launch():
        return noted
    failure.unlink(missing_ok=True)
    return None


def _this_launch() -> list[str | None]:
    """Return what tells this launch from others: the launcher gives all its processes the same."""
    return [os.environ.get(name) for name in OF_A_LAUNCH]


def _note(failure: Path, error: BaseException, rank: int) -> None:
    is_ours = isinstance(error, GluegridError)
    first_line = next(iter(str(error).strip().splitlines()), "")
    reason = str(error) if is_ours else f"{type(error).__name__}: {first_line}"
    noted = {"reason": f"{reason} (in process {rank} of the cell)", "is_permanent": is_ours and error.is_permanent}
    noted["launch"] = _this_launch()
    with suppress(OSError, GluegridError):  # the error itself is what matters
        write_json(failure, noted)
