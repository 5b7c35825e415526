"""Trainings of cells as scripts/train.py does them, in processes that can be killed."""

import os
import runpy
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from cells import Cell

from gluegrid.common.errors import TrainingError
from gluegrid.common.files import write_json
from gluegrid.common.provenance import now, this_process
from gluegrid.execution.cell_state import CellFiles

from .setting import Setting

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
TRAIN, LAUNCH = SCRIPTS / "train.py", SCRIPTS / "launch.sh"
VARIABLE_OF_HEADS = "GLUEGRID_HEAD"


def arguments_of(cell: Cell) -> list[str]:
    """Return what scripts/train.py is given to train a cell."""
    paths = {"run": cell.run_json, "model": cell.model, "task": cell.data, "tokens": cell.tokens}
    paths |= {"results": result_of(cell), "record": cell.run_json.with_name("run_record.json")}
    return [f"--{name}={path}" for name, path in paths.items()]


def result_of(cell: Cell) -> Path:
    """Return the file that is there once a cell is trained."""
    return cell.run_json.with_name("all_results.json")


def checkpoints_of(cell: Cell) -> set[str]:
    """Return the names of a cell's checkpoints that are whole."""
    return {path.name for path in CellFiles(cell.run_json).checkpoints.glob("step-*")}


def start_training(setting: Setting, cell: Cell, seconds_between_checkpoints: float | None = None) -> BaseProcess:
    """Start a cell's training; without a time between checkpoints, it makes as many as usual."""
    return setting.start(_train, arguments_of(cell), seconds_between_checkpoints, cell.folder / "head.json")


def _train(arguments: list[str], seconds_between_checkpoints: float | None, head: Path) -> None:
    """Be scripts/train.py."""
    if seconds_between_checkpoints is not None:
        config = {"checkpoint_minutes": seconds_between_checkpoints / 60}
        write_json(head, {"started": now(), "process": this_process(), "config": config})
        os.environ[VARIABLE_OF_HEADS] = str(head)
    sys.argv = [str(TRAIN), *arguments]
    runpy.run_path(str(TRAIN), run_name="__main__")


def wait_for(condition: Callable[[], object], what: str, process: BaseProcess | None = None) -> None:
    """Wait until a condition holds; the check's own limit ends it. Raises TrainingError if the process ends before."""
    while not condition():
        if process is not None and not process.is_alive() and not condition():
            raise TrainingError(f"a training ended with exit code {process.exitcode} before {what}")
        time.sleep(0.02)
