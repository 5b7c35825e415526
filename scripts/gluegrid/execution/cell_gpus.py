"""The GPUs of a cell where nobody hands them out: its launcher leases them before it starts the training.

SLURM gives each job cards of its own; Snakemake's local executor counts them only. Before its cards, the launcher
leases the cell itself: of two calls of snakemake that want the same one, one trains it, and the other waits without a
card.
"""

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gluegrid.common import paths
from gluegrid.common.errors import GluegridError, Stopped, TransientError
from gluegrid.common.provenance import has_slurm_job_of_its_own, this_process
from gluegrid.execution import invocation
from gluegrid.execution.cell_state import (
    CellFiles,
    LatecomersManners,
    has_result_of_this_call,
    identity_of_inputs,
    stop_if_in_vain,
    waits_for_others,
)
from gluegrid.execution.gpu_leases import OF_A_CELL, POLL_SECONDS, Lease, lease_gpus
from gluegrid.execution.locks import DEAD_AFTER_SECONDS, describe, living_holder, seconds_since_beat
from gluegrid.execution.preemption import REASONS, Leaving
from gluegrid.execution.visible_gpus import visible_gpus
from gluegrid.experiment.run import Run, read_run


def lease_gpus_of_cell(arguments: list[str]) -> None:
    """Let this process, and all that it starts from here on, use GPUs of their own, waiting for them if need be.

    `arguments` are the launcher's, with `--run` of the cell's training. Nothing is leased for a cell on the CPU or on
    several nodes, in a job of SLURM's, nor where no GPU is seen: the training says so. Raises TransientError, and
    Stopped when there is nothing to wait for any more.
    """
    path = _path_of_run(arguments)
    # A snakemake inside of one large job has to give out its cards itself.
    if path is None or has_slurm_job_of_its_own():
        return
    try:
        run = read_run(path)
    except GluegridError:
        return  # the training reports it
    if run.nodes > 1:
        return
    with _ended_by_signals():
        waiting = _Waiting(path)
        leases = _lease_cell(run, path, waiting) if waits_for_others() else []
        gpus = visible_gpus() if run.device == "cuda" else []
        if gpus and not (leases and run.processes == 1 and _has_result(arguments)):
            cards = lease_gpus(gpus, run.gpus, _name(run), _tell_waiting, waiting)
            leases += cards
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(lease.gpu for lease in cards)
            _tell(f"this cell has {os.environ['CUDA_VISIBLE_DEVICES']} of this machine's GPUs to itself")
    if leases:
        _hand_on([lease.descriptor for lease in leases])


def _has_result(arguments: list[str]) -> bool:
    """Tell whether the training will only publish what the one has left that was waited for, and needs no GPU."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    names = ("run", "model", "task", "tokens")
    for name in names:
        parser.add_argument(f"--{name}", type=Path)
    given = parser.parse_known_args(arguments)[0]
    paths_given = [getattr(given, name) for name in names]
    try:
        return None not in paths_given and has_result_of_this_call(
            CellFiles(given.run), identity_of_inputs(*paths_given)
        )
    except (GluegridError, OSError, KeyError):
        return False  # the training reports it


def _path_of_run(arguments: list[str]) -> Path | None:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--run", type=Path)
    return parser.parse_known_args(arguments)[0].run


def _name(run: Run) -> str:
    cell = paths.CELL.format(model=run.model["name"], task=run.task.name, variant=run.variant, seed=run.seed)
    return f"{cell} of {run.experiment}"


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let signals end this process with Stopped inside. The rule's shell ignores them; later the training listens."""
    before = {number: signal.getsignal(number) for number in REASONS}
    Leaving().listen()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _lease_cell(run: Run, path: Path, waiting: "_Waiting") -> list[Lease]:
    """Lease a cell, once no other launcher of this machine has it and nobody trains it any more."""
    name = f"{OF_A_CELL}{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
    try:
        leases = lease_gpus([name], 1, _name(run), lambda who: waiting.tell_once(who.partition(" by ")[2]), waiting)
    except TransientError:
        if run.device == "cuda":
            raise
        leases = []  # no GPU is held while the training waits for the cell's lock
    while holder := waiting.holder():
        waiting.tell_once(describe(holder))
        waiting()
        time.sleep(POLL_SECONDS)
    return leases


class _Waiting:
    """Looks, while a cell waits for a GPU, whether it still should; a holder of it is treated as the training would."""

    def __init__(self, run: Path):
        self._files = CellFiles(run)
        self._manners: Callable[[dict], None] = LatecomersManners(self._files.lock)
        self._has_told = False

    def __call__(self) -> None:
        if invocation.has_ended():
            raise Stopped("the call of snakemake that wanted this cell has ended")
        stop_if_in_vain(self._files)
        # One that was left behind may be what holds the GPU. On other hosts it does not, and may be long dead.
        holder = self.holder()
        if holder is not None and (waits_for_others() or holder["host"] == this_process()["host"]):
            self._manners(holder)

    def holder(self) -> dict | None:
        """Return who trains the cell, as far as can be seen from this host."""
        holder = living_holder(self._files.lock)
        if holder is None or holder["host"] == this_process()["host"]:
            return holder
        return holder if seconds_since_beat(self._files.lock) < DEAD_AFTER_SECONDS else None

    def tell_once(self, who: str) -> None:
        """Say whose the cell is."""
        if not self._has_told:
            _tell(f"this cell is being trained by {who}; waiting for its result")
        self._has_told = True


def _tell_waiting(holders: str) -> None:
    _tell(f"waiting for a GPU: {holders}")


def _tell(text: str) -> None:
    # Without the prefix of errors, and without logging, which accelerate and torch would join in.
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def _hand_on(descriptors: list[int]) -> None:
    """Let every program that this process starts keep the descriptors: it may outlive its launcher."""

    class Popen(subprocess.Popen):
        def __init__(self, *arguments, pass_fds=(), **options):
            super().__init__(*arguments, pass_fds=(*pass_fds, *descriptors), **options)

    subprocess.Popen = Popen
