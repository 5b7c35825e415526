"""The GPUs of a cell without a scheduler: its launcher leases them before it starts the training.

SLURM assigns GPUs to each job; Snakemake's local executor only counts them. Before the GPUs, the launcher leases the
cell itself: if two calls of snakemake want the same cell, one trains it, and the other waits without a GPU.
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
from gluegrid.execution.attempts import stop_if_in_vain
from gluegrid.execution.cell_lock import Latecomer, waits_for_others
from gluegrid.execution.cell_state import CellFiles, would_only_publish
from gluegrid.execution.gpu_leases import OF_A_CELL, POLL_SECONDS, Holders, Lease, described, lease_gpus, whose
from gluegrid.execution.locks import describe, probable_holder
from gluegrid.execution.packs import Pack, read_pack
from gluegrid.execution.preemption import SIGNALS, Preemption
from gluegrid.execution.visible_gpus import MIG, visible_gpus
from gluegrid.experiment.run import Run, read_run

INPUTS = ("run", "model", "task", "tokens")  # of a training, as on its command line


def lease_gpus_of_cell(arguments: list[str]) -> None:
    """Reserve GPUs for this process and its children, waiting for them if necessary.

    `arguments` are the launcher's, with the cell's `--run`, or the `--pack` of several cells. Nothing is leased for a
    cell on the CPU or on several nodes, in a SLURM job, or if no GPU is visible, which the training reports. Raises
    TransientError, also if the processes of a cell would have to share a GPU, and Stopped when there is nothing left to
    wait for.
    """
    inputs = _inputs_in(arguments)
    if pack := inputs.pop("pack"):
        _lease_for_pack(read_pack(pack))
    if inputs["run"] is None:
        return
    try:
        run = read_run(inputs["run"])
    except GluegridError:
        return  # the training reports it
    # A snakemake inside one large job has to assign its GPUs itself.
    if run.nodes > 1 or has_slurm_job_of_its_own():
        if run.device == "cuda" and run.gpus > 1:
            _usable(visible_gpus(), run)
        return
    with _ended_by_signals():
        waiting = _Waiting(inputs["run"])
        leases = _lease_cell(run, inputs["run"], waiting) if waits_for_others() else []
        gpus = _usable(visible_gpus(), run) if run.device == "cuda" else []
        # If the process that was waited for has left a result, it only needs to be published, without a GPU.
        is_trained = leases and run.processes == 1 and None not in inputs.values() and would_only_publish(**inputs)
        if gpus and not is_trained:
            leases += _lease_cards(gpus, run.gpus, _name(run), waiting)
    if leases:
        _hand_on([lease.descriptor for lease in leases])


def _lease_for_pack(pack: Pack) -> None:
    """Lease a GPU for the cells of a pack, which use it one after another; each waits for its own lock."""
    try:
        run = read_run(Path(pack.cells[0].run))
    except (GluegridError, IndexError):
        return  # the training reports it, or no cell is left
    if run.device == "cuda" and not has_slurm_job_of_its_own() and (gpus := visible_gpus()):
        with _ended_by_signals():
            leases = _lease_cards(gpus, run.gpus, pack.name, _stop_if_ended)
        _hand_on([lease.descriptor for lease in leases])


def _lease_cards(gpus: list[str], count: int, name: str, while_waiting: Callable[[], None]) -> list[Lease]:
    """Lease `count` of the GPUs, and make only these visible to child processes."""
    cards = lease_gpus(gpus, count, name, _tell_waiting, while_waiting)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(lease.gpu for lease in cards)
    _tell(f"{name}: reserved GPU {os.environ['CUDA_VISIBLE_DEVICES']} on this machine")
    return cards


def _stop_if_ended() -> None:
    if invocation.has_ended():
        raise Stopped("the call of snakemake that wanted it has ended")


def _usable(gpus: list[str], run: Run) -> list[str]:
    """Return the GPUs that a run can use. Raises TransientError if its processes would share one.

    CUDA shows a process only one MIG slice, and NCCL takes two slices of a GPU for the same one.
    """
    whole = [gpu for gpu in gpus if not gpu.startswith(MIG)]
    if run.gpus == 1 or len(whole) == len(gpus):
        return gpus
    if len(whole) >= run.gpus:
        return whole
    raise TransientError(
        f"gpus: {run.gpus} needs whole GPUs, but this job has {len(whole)} and {len(gpus) - len(whole)} MIG slices"
        f" (CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES')}); set gpus: 1, or request whole GPUs"
    )


def _inputs_in(arguments: list[str]) -> dict[str, Path | None]:
    """Return the inputs of a training from the launcher's arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in (*INPUTS, "pack"):
        parser.add_argument(f"--{name}", type=Path)
    return vars(parser.parse_known_args(arguments)[0])


def _name(run: Run) -> str:
    cell = paths.CELL.format(model=run.model["name"], task=run.task.name, variant=run.variant, seed=run.seed)
    return f"{cell} of {run.experiment}"


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let signals raise Preempted inside. The rule's shell ignores them, and the training handles them later."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    Preemption().listen()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _lease_cell(run: Run, path: Path, waiting: "_Waiting") -> list[Lease]:
    """Lease a cell as soon as no other launcher on this machine has it and nobody is training it."""
    name = f"{OF_A_CELL}{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
    try:
        leases = lease_gpus([name], 1, _name(run), lambda holders: waiting.tell_once(whose(holders[name])), waiting)
    except TransientError:
        if run.device == "cuda":
            raise
        leases = []  # no GPU is held while the training waits for the cell's lock
    while holder := probable_holder(waiting.lock):
        waiting.tell_once(describe(holder))
        waiting()
        time.sleep(POLL_SECONDS)
    return leases


class _Waiting:
    """Check repeatedly, while a cell waits for a GPU, whether it still should; treat a holder as the training would."""

    def __init__(self, run: Path):
        files = CellFiles(run)
        self.lock = files.lock
        self._state = files.state
        self._latecomer = Latecomer(files.lock)
        self._has_told = False

    def __call__(self) -> None:
        _stop_if_ended()
        stop_if_in_vain(self._state)
        # A holder that was left behind may occupy the GPU; not so on other hosts, where it may also be long dead.
        holder = probable_holder(self.lock)
        if holder is not None and (waits_for_others() or holder["host"] == this_process()["host"]):
            self._latecomer(holder)

    def tell_once(self, who: str) -> None:
        """Say who is training the cell."""
        if not self._has_told:
            _tell(f"this cell is being trained by {who}; waiting for its result")
        self._has_told = True


def _tell_waiting(holders: Holders) -> None:
    _tell(f"waiting for a GPU: {described(holders)}")


def _tell(text: str) -> None:
    # Without the prefix of errors, and without logging, to which accelerate and torch would add their messages.
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def _hand_on(descriptors: list[int]) -> None:
    """Let every child process keep the descriptors, since it may outlive its launcher."""

    class Popen(subprocess.Popen):
        def __init__(self, *arguments, pass_fds=(), **options):
            super().__init__(*arguments, pass_fds=(*pass_fds, *descriptors), **options)

    subprocess.Popen = Popen
