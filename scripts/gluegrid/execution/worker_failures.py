"""Report the failure of a helper, one of the other processes that train a cell together with the main one.

The launcher then ends the others with SIGTERM, and they lose their connections. So the main process, which notes and
reports why the cell was not trained, learns the real cause from a file.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gluegrid.common.errors import GluegridError, Stopped, TrainingError, TransientError
from gluegrid.common.files import json_if_there, write_json

# What distinguishes launches; a requeued job keeps its number, and its launches keep their port.
OF_A_LAUNCH = ("TORCHELASTIC_RUN_ID", "MASTER_PORT", "SLURM_JOB_ID", "SLURM_RESTART_COUNT")


@contextmanager
def helping(failure: Path, rank: int) -> Iterator[None]:
    """Tell the main process, in the file `failure`, why this helper failed. Only the main one reports being stopped."""
    try:
        yield
    except Stopped:
        raise SystemExit(1) from None
    except BaseException as error:
        # If another helper has failed before, this one has only lost its connection.
        if _noted(failure) is None:
            _note(failure, error, rank)
        raise


@contextmanager
def helped(failure: Path) -> Iterator[None]:
    """Run the main process inside. If it fails because a helper has failed, raise the helper's error instead."""
    try:
        yield
    except BaseException as error:
        if noted := _noted(failure):
            failure.unlink(missing_ok=True)
            raise (TrainingError if noted["is_permanent"] else TransientError)(noted["reason"]) from error
        raise


def _noted(failure: Path) -> dict | None:
    """Return the failure that a helper of this launch has noted; remove one from an earlier launch."""
    noted = json_if_there(failure)
    if noted.get("launch") == _this_launch():
        return noted
    failure.unlink(missing_ok=True)
    return None


def _this_launch() -> list[str | None]:
    """Return what identifies this launch: the launcher sets it equally for all its processes."""
    return [os.environ.get(name) for name in OF_A_LAUNCH]


def _note(failure: Path, error: BaseException, rank: int) -> None:
    is_ours = isinstance(error, GluegridError)
    first_line = next(iter(str(error).strip().splitlines()), "")
    reason = str(error) if is_ours else f"{type(error).__name__}: {first_line}"
    noted = {"reason": f"{reason} (in process {rank} of the cell)", "is_permanent": is_ours and error.is_permanent}
    noted["launch"] = _this_launch()
    with suppress(OSError, GluegridError):  # the error itself is what matters
        write_json(failure, noted)
