"""Who trains a cell: one process at a time. Others wait, end, or take over from what a dead call of snakemake left."""

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from gluegrid.common.errors import TransientError
from gluegrid.common.files import disk_full, is_disk_full, json_if_there
from gluegrid.common.provenance import EXECUTOR, is_running, job, this_process
from gluegrid.execution import locks
from gluegrid.execution.invocation import path_of_current_invocation
from gluegrid.execution.locks import ask_to_leave, describe

logger = logging.getLogger(__name__)

SECONDS_TO_LEAVE = 300  # for a step, and a checkpoint on a slow disk


@contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Be the one process that trains the cell of this lock. Where another one does, it is waited for on one machine; a
    job of SLURM's, which holds a node, raises TransientError within seconds.

    One that has been left behind is asked to leave, and waited for: it saves what it has done.
    """
    held = locks.lock(lock, _tell_waiting, on_alive=Latecomer(lock), on_asked_to_leave=_leave, on_lost=_end_at_once)
    with ExitStack() as stack:
        try:
            stack.enter_context(held)
        except OSError as error:
            if is_disk_full(error):
                raise disk_full(lock) from error
            raise TransientError(f"{lock}: cannot be written ({error.strerror}); may you write there?") from error
        yield


def waits_for_others() -> bool:
    """Tell whether a cell that another process trains is waited for: where waiting takes nothing from anybody.

    So it is where snakemake runs its jobs itself (execution/cell_gpus.py leases GPUs only after the wait). A job of
    SLURM's waits in the queue (execution/sbatch.py), and not on a node.
    """
    return os.environ.get(EXECUTOR) == "local"


class Latecomer:
    """Waits for a cell's lock or gives up; asks a holder that nobody waits for any more to leave."""

    def __init__(self, path: Path):
        self.path = path
        self._asked: dict[str | None, float] = {}  # when, by the holder's token

    def __call__(self, holder: dict) -> None:
        """Look at the holder once more. Raises TransientError where it is not to be waited for."""
        if not _is_left_behind(holder):
            if waits_for_others():
                return
            raise TransientError(f"this cell is being trained by {describe(holder)}; nothing was done here")
        if holder["token"] not in self._asked:
            self._asked[holder["token"]] = time.monotonic()
            logger.info("taking over from %s, which is asked to save its work and leave", describe(holder))
            ask_to_leave(self.path, holder)
        elif time.monotonic() - self._asked[holder["token"]] > SECONDS_TO_LEAVE:
            raise TransientError(f"{describe(holder)} does not leave this cell; end it by hand")


def _is_left_behind(holder: dict) -> bool:
    """Tell whether a living holder is of a dead invocation, or what is left of an earlier start of this same job."""
    if holder["head"] is None:
        return False
    # Of another invocation, it may be in the same allocation and all right.
    is_of_this_job = holder["slurm_job_id"] is not None and holder["slurm_job_id"] == job()["slurm_job_id"]
    if is_of_this_job and holder["head"] == path_of_current_invocation():
        return True
    invocation = json_if_there(Path(holder["head"])).get("process")
    return invocation is not None and invocation["host"] == this_process()["host"] and not is_running(invocation)


def _tell_waiting(holder: dict) -> None:
    logger.info("this cell is held by %s; looking whether it lives", describe(holder))


def _leave() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _end_at_once() -> None:
    """End without a word to the state folder, which is another's now."""
    logger.error("the lock of this cell is gone, taken over or removed; ending at once")
    os._exit(1)
