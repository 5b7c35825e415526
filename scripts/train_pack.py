"""Train the cells of a pack one after another, each in a process of its own that this one forks.

Starting a cell alone takes longer than training it, where it is small: a launcher, and the libraries. Here both come
once. A fork of a process that has only imported them computes what a process that has just been started computes, bit
for bit; and if it crashes, runs out of memory, or is cancelled, that costs its own cell and no other.

Started by `accelerate launch` (launch_pack.sh).
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
# With it, torch asks the driver's library how many GPUs there are, and not CUDA, which does not outlive a fork.
COUNT_GPUS_WITHOUT_CUDA = "PYTORCH_NVML_BASED_CUDA_CHECK"
COLUMNS = ("s", "h:m:s", "max_rss", "max_vms", "max_uss", "max_pss", "io_in", "io_out", "mean_load", "cpu_time")


def main() -> None:
    """Train the cells that the pack's file names, but those that are done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pack", required=True, type=Path, help="file of the pack")
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
                raise Stopped(f"{name_of(cell)} and what comes after it are not begun")
            logger.info("%s (%d of %d)", name_of(cell), number, len(left))
            read_inputs_once(cell)
            if not train_in_child(cell, leaving):
                failed.append(name_of(cell))
    if failed:
        raise GluegridError(
            f"{len(failed)} of {len(left)} cells have no result, and their logs say why: {', '.join(failed)}"
        )


def import_libraries(cell: PackedCell) -> None:
    """Import what all cells of a pack need, and its model's classes, before CUDA is touched."""
    os.environ[COUNT_GPUS_WITHOUT_CUDA] = "1"
    try:
        run = read_run(Path(cell.run))
        load_training(kernels_for(run, as_arguments(cell)))
        with quick_imports():
            import scipy.stats  # noqa: F401  these two are for scores
            import sklearn.metrics  # noqa: F401

            from gluegrid.models.classifier import load_shapes

        load_shapes(Path(cell.model).parent, run.model.get("trust_remote_code", False))
    except Exception as error:  # the training of each cell meets it too, and says what is wrong
        logger.info("not all is imported ahead of the first cell: %s", error)


def read_inputs_once(cell: PackedCell) -> None:
    """Check what a cell reads here, so that the children after it need not read it again, or copy it to scratch."""
    with suppress(Exception):  # the training of the cell meets it too, and says what is wrong
        check_inputs(read_run(Path(cell.run)), as_arguments(cell))


def in_turn(cells: list[PackedCell]) -> Iterator[PackedCell]:
    """Yield the cells in their order, but last those that another process trains when their turn comes, and those that
    died without a word: what kills a cell may kill the whole job, and those behind it would never begin.
    """
    later, others = [cell for cell in cells if has_died(CellFiles(Path(cell.run)).state)], []
    for cell in [*(cell for cell in cells if cell not in later), *later]:
        if is_being_trained(Path(cell.run)):
            others.append(cell)
        else:
            yield cell
    yield from others


def was_left_behind() -> bool:
    """Tell whether nobody waits for this pack any more: the call of snakemake that runs it on this machine is over."""
    return os.environ.get(EXECUTOR) == "local" and has_ended()


def train_in_child(cell: PackedCell, leaving: Preemption) -> bool:
    """Train a cell in a fork of this process, and wait for its end; what asks this process to leave ends it too.

    Tells whether it has its result.
    """
    started = time.monotonic()
    with signals_blocked():
        child = fork(cell)
    was_told = False
    while (ended := os.wait4(child, os.WNOHANG))[0] == 0:
        if leaving.reason() and not was_told:
            was_told = True
            os.kill(child, signal.SIGTERM)  # it may have got the signal too, and heeds the first
        time.sleep(POLL_SECONDS)
    _, status, usage = ended
    seconds = time.monotonic() - started
    logger.info("%s %s after %.1f s", name_of(cell), outcome_of(status), seconds)
    try:
        if os.WIFSIGNALED(status):
            clear_up_after(cell, child)
        elif os.WEXITSTATUS(status) == 0:
            write_benchmark(Path(cell.benchmark), seconds, usage)
    except (OSError, GluegridError) as error:  # a full disk of one cell is none of the others'
        logger.info("%s: its end could not be noted: %s", name_of(cell), error)
    return status == 0


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Let no signal in that asks to leave; what is forked inside lets them in when it listens for itself.

    Until then it has this process's handlers, and would lose it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def fork(cell: PackedCell) -> int:
    """Start a child that trains a cell; return its number."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        end_as_child(cell)
    return child


def clear_up_after(cell: PackedCell, child: int) -> None:
    """Do what a child that was killed could not do itself any more."""
    files = CellFiles(Path(cell.run))
    remove_lock_of(files.lock, child)
    note_death(files.state, child)


def end_as_child(cell: PackedCell) -> None:
    """Do in this process, just forked, what a process of the cell's own would do; do not return."""
    exit_code = 1
    try:
        atexit._clear()  # what the parent is to do at its end
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
    """Train a cell as Snakemake lets a job do it: without what is there of another run."""
    make_room(**cell.inputs, results=Path(cell.results), record=Path(cell.record), logs=[Path(cell.log)])
    train(as_arguments(cell))


def write_into(log: Path) -> None:
    """Let all that this process prints go to the end of a log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)


def as_arguments(cell: PackedCell) -> argparse.Namespace:
    """Return what train.py is told about a cell on its command line."""
    return argparse.Namespace(**cell.inputs, results=Path(cell.results), record=Path(cell.record))


def name_of(cell: PackedCell) -> str:
    """Return a cell's name, as below runs/."""
    return "/".join(Path(cell.run).parent.parts[-4:])


def outcome_of(status: int) -> str:
    """Say how a child ended, by what the system tells of it."""
    if os.WIFSIGNALED(status):
        return f"was killed ({signal.Signals(os.WTERMSIG(status)).name})"
    return "is done" if os.WEXITSTATUS(status) == 0 else "has failed or left"


def write_benchmark(path: Path, seconds: float, usage: resource.struct_rusage) -> None:
    """Write what Snakemake writes of a cell alone, of which the system tells this process a part."""
    values = {
        "s": f"{seconds:.4f}",
        "h:m:s": str(datetime.timedelta(seconds=int(seconds))),
        "max_rss": f"{usage.ru_maxrss / 1024:.2f}",
        "cpu_time": f"{usage.ru_utime + usage.ru_stime:.2f}",
    }
    write_text(path, "\t".join(COLUMNS) + "\n" + "\t".join(values.get(column, "NA") for column in COLUMNS) + "\n")


if __name__ == "__main__":
    run_script(main)
