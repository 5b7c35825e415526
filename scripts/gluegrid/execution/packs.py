"""A pack: cells that one job trains one after another. Its file tells the job, and sbatch, which cells they are.

Each cell stays what it is alone: its lock, attempts, log, record and results are its own (scripts/train_pack.py).
"""

import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from gluegrid.common.errors import DataError, GluegridError
from gluegrid.common.files import json_if_there, read_json, write_json
from gluegrid.common.paths import state_folder
from gluegrid.common.provenance import is_running, this_process
from gluegrid.execution.cell_state import has_published
from gluegrid.execution.invocation import path_of_current_invocation

NOTE = "pack.json"  # of a cell's state folder
SCRIPT = "launch_pack.sh"
NAMED_IN_COMMAND = re.compile(rf"\b{re.escape(SCRIPT)} (\S+)")


@dataclass(frozen=True)
class PackedCell:
    """The files of one cell of a pack, as Snakemake's job of it has them."""

    run: str
    model: str
    task: str
    tokens: str
    results: str
    record: str
    log: str
    benchmark: str

    @property
    def inputs(self) -> dict[str, Path]:
        """What its training is made from, by the names that functions of cell_state.py have for it."""
        return {name: Path(getattr(self, name)) for name in ("run", "model", "task", "tokens")}

    def is_done(self) -> bool:
        """Tell whether its training, begun now, would publish just the result that is there."""
        return has_published(**self.inputs, results=Path(self.results), record=Path(self.record))


@dataclass(frozen=True)
class Pack:
    """The cells of a pack in their order, its name, and the log of the process that starts them."""

    name: str
    log: str
    cells: list[PackedCell]


def write_pack(path: Path, pack: Pack) -> None:
    """Write the file of a pack, and note in the state folder of each of its cells which pack it is in."""
    write_json(path, asdict(pack))
    for cell in pack.cells:
        with suppress(OSError, GluegridError):  # where it has no room, its training says so, and the others train
            write_json(state_folder(Path(cell.run)) / NOTE, {"pack": pack.name, "file": str(path), "log": pack.log})


def note_begun(path: Path) -> None:
    """Note that the process of the pack of this file has come to its first cell."""
    _begun(path).touch()


def read_pack(path: Path) -> Pack:
    """Return the pack of a file. Raises DataError."""
    content = read_json(path)
    try:
        return Pack(content["name"], content["log"], [PackedCell(**cell) for cell in content["cells"]])
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: is no pack of this release ({error}); run snakemake again") from error


def states_in_pack(command: str) -> list[Path]:
    """Return the state folders of the cells of the pack that a command trains; none where it does something else."""
    named = NAMED_IN_COMMAND.search(command)
    return [state_folder(Path(cell.run)) for cell in read_pack(Path(named[1])).cells] if named else []


def log_of_failed_start(state: Path) -> Path | None:
    """Return the log of the pack that a cell was put into last, where this has not come to its first cell; else None.

    None too where it may be about to: another call of snakemake, which runs, has made it.
    """
    noted = json_if_there(state / NOTE)
    if not {"file", "log"} <= noted.keys():
        return None
    file = Path(noted["file"])
    return None if _begun(file).exists() or _is_of_another_running_call(file) else Path(noted["log"])


def folder_of_packs(invocation: Path) -> Path:
    """Return the folder of a call's packs, beside its file."""
    return invocation.with_suffix(".packs")


def _is_of_another_running_call(file: Path) -> bool:
    invocation = file.parent.with_suffix(".json")
    process = json_if_there(invocation).get("process")
    is_here = process is not None and process["host"] == this_process()["host"]
    return is_here and str(invocation) != path_of_current_invocation() and is_running(process)


def _begun(path: Path) -> Path:
    return path.with_suffix(".begun")
