"""The GPUs of a cell where nobody hands them out: its launcher leases them before it starts the training.

SLURM gives each job cards of its own; Snakemake's local executor counts them only.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gluegrid import head, paths
from gluegrid.cell import CellFiles, LatecomersManners, stop_if_in_vain
from gluegrid.environment import has_slurm_job_of_its_own
from gluegrid.errors import GluegridError, Stopped
from gluegrid.gpu_leases import lease_gpus
from gluegrid.leaving import REASONS, Leaving
from gluegrid.locks import living_holder
from gluegrid.provenance import this_process
from gluegrid.run import Run, read_run
from gluegrid.visible_gpus import visible_gpus


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
    if run.device != "cuda" or run.nodes > 1:
        return
    with _ended_by_signals():
        gpus = visible_gpus()
        if not gpus:
            return
        leases = lease_gpus(gpus, run.gpus, _name(run), _tell_waiting, _Waiting(path))
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(lease.gpu for lease in leases)
    _tell(f"this cell has {os.environ['CUDA_VISIBLE_DEVICES']} of this machine's GPUs to itself")
    _hand_on([lease.descriptor for lease in leases])


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


class _Waiting:
    """Looks, while a cell waits for a GPU, whether it still should; a holder of it is treated as the training would."""

    def __init__(self, run: Path):
        self._files = CellFiles(run)
        self._manners: Callable[[dict], None] = LatecomersManners(self._files.lock)

    def __call__(self) -> None:
        if head.has_ended():
            raise Stopped("the call of snakemake that wanted this cell has ended")
        stop_if_in_vain(self._files)
        # One that was left behind may be what holds the GPU. On other hosts it does not, and may be long dead.
        holder = living_holder(self._files.lock)
        if holder is not None and holder["host"] == this_process()["host"]:
            self._manners(holder)


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
