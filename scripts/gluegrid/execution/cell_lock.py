"""Make sure that one process at a time trains a cell. Others wait, end, or take over from a dead call of snakemake."""

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
    """Be the only process that trains the cell of this lock.

    If another process does, wait for it on a single machine; a SLURM job, which occupies a node, raises TransientError
    within seconds. A process that has been left behind is asked to save its work and leave, and is waited for.
    """
    held = locks.lock(lock, _tell_waiting, on_alive=Latecomer(lock), on_asked_to_leave=_leave, on_lost=_end_at_once)
    with ExitStack() as stack:
        try:
            stack.enter_context(held)
        except OSError as error:
            if is_disk_full(error):
                raise disk_full(lock) from error
            raise TransientError(f"{lock}: cannot be written ({error.strerror}); check its permissions") from error
        yield


def waits_for_others() -> bool:
    """Tell whether to wait for a cell that another process trains, which must not occupy resources.

    That holds if snakemake runs its jobs itself (execution/cell_gpus.py leases GPUs only after the wait). A SLURM job
    waits in the queue instead (execution/sbatch.py), not on a node.
    """
    return os.environ.get(EXECUTOR) == "local"


class Latecomer:
    """Wait for a cell's lock or give up; ask a holder that nobody needs any more to leave."""

    def __init__(self, path: Path):
        self.path = path
        self._asked: dict[str | None, float] = {}  # when, by the holder's token

    def __call__(self, holder: dict) -> None:
        """Check the holder once more. Raises TransientError if it must not be waited for."""
        if not _is_left_behind(holder):
            if waits_for_others():
                return
            raise TransientError(f"this cell is being trained by {describe(holder)}; nothing was done here")
        if holder["token"] not in self._asked:
            self._asked[holder["token"]] = time.monotonic()
            logger.info("taking over from %s: asked it to save its work and leave", describe(holder))
            ask_to_leave(self.path, holder)
        elif time.monotonic() - self._asked[holder["token"]] > SECONDS_TO_LEAVE:
            raise TransientError(f"{describe(holder)} does not release this cell; end that process by hand")


def _is_left_behind(holder: dict) -> bool:
    """Tell whether a living holder belongs to a dead call of snakemake, or to an earlier start of this same job."""
    if holder["head"] is None:
        return False
    # If it belongs to another call, it may be in the same allocation rightly.
    is_of_this_job = holder["slurm_job_id"] is not None and holder["slurm_job_id"] == job()["slurm_job_id"]
    if is_of_this_job and holder["head"] == path_of_current_invocation():
        return True
    invocation = json_if_there(Path(holder["head"])).get("process")
    return invocation is not None and invocation["host"] == this_process()["host"] and not is_running(invocation)


def _tell_waiting(holder: dict) -> None:
    logger.info("this cell is locked by %s; checking whether that is still alive", describe(holder))


def _leave() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _end_at_once() -> None:
    """End without touching the state folder, which now belongs to another process."""
    logger.error("the lock of this cell was taken over or removed; ending at once")
    os._exit(1)
