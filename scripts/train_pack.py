"""Train the cells of a pack one after another, each in its own process, forked from this one.

For a small cell, starting the launcher and importing the libraries takes longer than training. Here both happen only
once. A fork of a process that has only imported the libraries computes the same bits as a new process; and if it
crashes, runs out of memory, or is cancelled, only its own cell is lost.

`accelerate launch` starts this script (launch_pack.sh).
"""

import argparse
import atexit
import datetime
import logging
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from train import check_inputs, kernels_for, load_training, train

from gluegrid.common import cli
from gluegrid.common.cli import quick_imports, run_script
from gluegrid.common.errors import GluegridError, Stopped
from gluegrid.common.files import write_text
from gluegrid.common.provenance import EXECUTOR, PACK
from gluegrid.execution.attempts import has_died, note_death
from gluegrid.execution.cell_state import CellFiles, is_being_trained, make_room
from gluegrid.execution.invocation import has_ended
from gluegrid.execution.locks import remove_lock_of
from gluegrid.execution.packs import PackedCell, note_begun, read_pack
from gluegrid.execution.preemption import SIGNALS, Preemption, end_of_job, follow_launcher
from gluegrid.experiment.run import read_run

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.05
# This makes torch count GPUs through the driver's library, not through CUDA, which does not survive a fork.
COUNT_GPUS_WITHOUT_CUDA = "PYTORCH_NVML_BASED_CUDA_CHECK"
COLUMNS = ("s", "h:m:s", "max_rss", "max_vms", "max_uss", "max_pss", "io_in", "io_out", "mean_load", "cpu_time")


def main() -> None:
    """Train the cells that the pack's file lists, except those that are done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pack", required=True, type=Path, help="file that lists the cells")
    arguments = parser.parse_args()
    cli.setup()
    pack = read_pack(arguments.pack)
    os.environ[PACK] = pack.name
    leaving, time_left = Preemption(), Preemption(end_of_job())
    leaving.listen()
    follow_launcher()
    left, failed = [cell for cell in pack.cells if not cell.is_done()], []
    with leaving.held_back():
        if left:
            import_libraries(left[0])
        note_begun(arguments.pack)
        for number, cell in enumerate(in_turn(left), start=1):
            if leaving.reason() or time_left.reason() or was_left_behind():
                raise Stopped(f"{name_of(cell)} and the cells after it were not started")
            logger.info("%s (%d of %d)", name_of(cell), number, len(left))
            read_inputs_once(cell)
            if not train_in_child(cell, leaving):
                failed.append(name_of(cell))
    leaving.stop_listening()
    if failed:
        raise GluegridError(f"{len(failed)} of {len(left)} cells have no result; see their logs: {', '.join(failed)}")


def import_libraries(cell: PackedCell) -> None:
    """Import what all cells of a pack need, and the model's classes, before CUDA is used."""
    os.environ[COUNT_GPUS_WITHOUT_CUDA] = "1"
    try:
        run = read_run(Path(cell.run))
        load_training(kernels_for(run, as_arguments(cell)))
        with quick_imports():
            import scipy.stats  # noqa: F401  these two compute scores
            import sklearn.metrics  # noqa: F401

            from gluegrid.models.classifier import load_shapes

        load_shapes(Path(cell.model).parent, run.model.get("trust_remote_code", False))
    except Exception as error:  # the training of each cell meets the same error, and reports it
        logger.info("could not import everything before the first cell: %s", error)


def read_inputs_once(cell: PackedCell) -> None:
    """Check a cell's inputs in this process, so that its children need not read them again, or copy them to scratch."""
    with suppress(Exception):  # the training of the cell meets the same error, and reports it
        check_inputs(read_run(Path(cell.run)), as_arguments(cell))


def in_turn(cells: list[PackedCell]) -> Iterator[PackedCell]:
    """Yield the cells in order, but later those that another process trains at their turn, and those that died without
    reporting: what killed such a cell may kill the whole job, and the cells after it would never start.
    """
    later, others = [cell for cell in cells if has_died(CellFiles(Path(cell.run)).state)], []
    for cell in [*(cell for cell in cells if cell not in later), *later]:
        if is_being_trained(Path(cell.run)):
            others.append(cell)
        else:
            yield cell
    yield from others


def was_left_behind() -> bool:
    """Tell whether nobody waits for this pack any more, since the call of snakemake that runs it here has ended."""
    return os.environ.get(EXECUTOR) == "local" and has_ended()


def train_in_child(cell: PackedCell, leaving: Preemption) -> bool:
    """Train a cell in a fork of this process, wait for its end, and tell whether it has a result.

    If this process is asked to leave, so is the child.
    """
    started = time.monotonic()
    with signals_blocked():
        child = fork(cell)
    was_told = False
    while (ended := os.wait4(child, os.WNOHANG))[0] == 0:
        if leaving.reason() and not was_told:
            was_told = True
            os.kill(child, signal.SIGTERM)  # it may have received the signal, too; only the first one counts
        time.sleep(POLL_SECONDS)
    _, status, usage = ended
    seconds = time.monotonic() - started
    logger.info("%s %s after %.1f s", name_of(cell), outcome_of(status), seconds)
    try:
        if os.WIFSIGNALED(status):
            clear_up_after(cell, child)
        elif os.WEXITSTATUS(status) == 0:
            write_benchmark(Path(cell.benchmark), seconds, usage)
    except (OSError, GluegridError) as error:  # such as a full disk, which must not stop the other cells
        logger.info("%s: could not note its end: %s", name_of(cell), error)
    return status == 0


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Block the signals that ask to leave; a child forked inside unblocks them when it has its own handlers.

    Until then it has this process's handlers, and a signal would be lost.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def fork(cell: PackedCell) -> int:
    """Fork a child that trains a cell; return its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        end_as_child(cell)
    return child


def clear_up_after(cell: PackedCell, child: int) -> None:
    """Release the lock of a child that was killed, and note its death."""
    files = CellFiles(Path(cell.run))
    remove_lock_of(files.lock, child)
    note_death(files.state, child)


def end_as_child(cell: PackedCell) -> None:
    """Do in this process, just forked, what a separate process for the cell would do; do not return."""
    exit_code = 1
    try:
        atexit._clear()  # these are for the parent's exit
        os.environ.pop(COUNT_GPUS_WITHOUT_CUDA, None)
        write_into(Path(cell.log))
        run_script(lambda: train_anew(cell))
        exit_code = 0
    except SystemExit as error:
        exit_code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(exit_code)


def train_anew(cell: PackedCell) -> None:
    """Train a cell as Snakemake starts a job: after deleting the outputs of earlier runs."""
    make_room(**cell.inputs, results=Path(cell.results), record=Path(cell.record), logs=[Path(cell.log)])
    train(as_arguments(cell))


def write_into(log: Path) -> None:
    """Append all output of this process to a log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)


def as_arguments(cell: PackedCell) -> argparse.Namespace:
    """Return the arguments of train.py for a cell."""
    return argparse.Namespace(**cell.inputs, results=Path(cell.results), record=Path(cell.record))


def name_of(cell: PackedCell) -> str:
    """Return a cell's name: its path below runs/."""
    return "/".join(Path(cell.run).parent.parts[-4:])


def outcome_of(status: int) -> str:
    """Describe how a child ended, from its wait status."""
    if os.WIFSIGNALED(status):
        return f"was killed ({signal.Signals(os.WTERMSIG(status)).name})"
    return "is done" if os.WEXITSTATUS(status) == 0 else "has failed or was stopped"


def write_benchmark(path: Path, seconds: float, usage: resource.struct_rusage) -> None:
    """Write Snakemake's benchmark file for a cell, as far as its values are known to this process."""
    values = {
        "s": f"{seconds:.4f}",
        "h:m:s": str(datetime.timedelta(seconds=int(seconds))),
        "max_rss": f"{usage.ru_maxrss / 1024:.2f}",
        "cpu_time": f"{usage.ru_utime + usage.ru_stime:.2f}",
    }
    write_text(path, "\t".join(COLUMNS) + "\n" + "\t".join(values.get(column, "NA") for column in COLUMNS) + "\n")


if __name__ == "__main__":
    run_script(main)
