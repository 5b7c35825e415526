"""Train cells as scripts/train.py does, in processes that can be killed."""

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
from gluegrid.execution.packs import Pack, PackedCell, write_pack

from .setting import Setting

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
TRAIN, TRAIN_PACK, LAUNCH = (SCRIPTS / name for name in ("train.py", "train_pack.py", "launch.sh"))
VARIABLE_OF_HEADS = "GLUEGRID_HEAD"


def arguments_of(cell: Cell) -> list[str]:
    """Return the arguments with which scripts/train.py trains a cell."""
    return [f"--{name}={path}" for name, path in files_of(cell).items()]


def files_of(cell: Cell) -> dict[str, Path]:
    """Return the files of a cell's training, by the names of train.py's arguments."""
    paths = {"run": cell.run_json, "model": cell.model, "task": cell.data, "tokens": cell.tokens}
    return paths | {"results": result_of(cell), "record": cell.run_json.with_name("run_record.json")}


def result_of(cell: Cell) -> Path:
    """Return the file that exists once a cell is trained."""
    return cell.run_json.with_name("all_results.json")


def checkpoints_of(cell: Cell) -> set[str]:
    """Return the names of a cell's complete checkpoints."""
    return {path.name for path in CellFiles(cell.run_json).checkpoints.glob("step-*")}


def start_training(setting: Setting, cell: Cell, seconds_between_checkpoints: float | None = None) -> BaseProcess:
    """Start a cell's training; without a time between checkpoints, it saves as many as usual."""
    return setting.start(_train, arguments_of(cell), seconds_between_checkpoints, cell.folder / "head.json")


def start_pack(setting: Setting, cells: list[Cell]) -> BaseProcess:
    """Start a pack of cells as scripts/launch_pack.sh does, but without the launcher."""
    log = setting.out / "check-4-pack.log"
    packed = [
        PackedCell(
            **{name: str(path) for name, path in files_of(cell).items()},
            log=str(cell.run_json.with_name("train.log")),
            benchmark=str(cell.run_json.with_name("benchmark.tsv")),
        )
        for cell in cells
    ]
    file = setting.folder / "pack.json"
    write_pack(file, Pack("the pack", str(log), packed))
    return setting.start(_start_script, TRAIN_PACK, [f"--pack={file}"], log)


def _start_script(script: Path, arguments: list[str], log: Path) -> None:
    """Replace this process with a script, which finds its neighbours and writes into a log."""
    with log.open("wb") as stream:
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)
    os.execv(sys.executable, [sys.executable, str(script), *arguments])


def _train(arguments: list[str], seconds_between_checkpoints: float | None, head: Path) -> None:
    """Run scripts/train.py in this process."""
    if seconds_between_checkpoints is not None:
        config = {"checkpoint_minutes": seconds_between_checkpoints / 60}
        write_json(head, {"started": now(), "process": this_process(), "config": config})
        os.environ[VARIABLE_OF_HEADS] = str(head)
    sys.argv = [str(TRAIN), *arguments]
    runpy.run_path(str(TRAIN), run_name="__main__")


def wait_for(condition: Callable[[], object], what: str, process: BaseProcess | None = None) -> None:
    """Wait for a condition until the check's own limit. Raise TrainingError if the process ends before."""
    while not condition():
        if process is not None and not process.is_alive() and not condition():
            raise TrainingError(f"a training ended with exit code {process.exitcode} before {what}")
        time.sleep(0.02)
