"""A pack: cells that one job trains one after another. Its file lists the cells, for the job and for sbatch.

Each cell keeps its own lock, attempts, log, record and results, as without a pack (scripts/train_pack.py).
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

NOTE = "pack.json"  # in a cell's state folder
SCRIPT = "launch_pack.sh"
NAMED_IN_COMMAND = re.compile(rf"\b{re.escape(SCRIPT)} (\S+)")


@dataclass(frozen=True)
class PackedCell:
    """The files of one cell of a pack, as in its Snakemake job."""

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
        """The inputs of its training, by the parameter names of functions in cell_state.py."""
        return {name: Path(getattr(self, name)) for name in ("run", "model", "task", "tokens")}

    def is_done(self) -> bool:
        """Tell whether its training, started now, would publish the same result that is already published."""
        return has_published(**self.inputs, results=Path(self.results), record=Path(self.record))


@dataclass(frozen=True)
class Pack:
    """The cells of a pack in order, its name, and the log of the process that starts them."""

    name: str
    log: str
    cells: list[PackedCell]


def write_pack(path: Path, pack: Pack) -> None:
    """Write the file of a pack, and note the pack in the state folder of each of its cells."""
    write_json(path, asdict(pack))
    for cell in pack.cells:
        with suppress(OSError, GluegridError):  # if the disk is full, its training reports it, and the others train
            write_json(state_folder(Path(cell.run)) / NOTE, {"pack": pack.name, "file": str(path), "log": pack.log})


def note_begun(path: Path) -> None:
    """Note that the process of the pack with this file has reached its first cell."""
    _begun(path).touch()


def read_pack(path: Path) -> Pack:
    """Return the pack in a file. Raises DataError."""
    content = read_json(path)
    try:
        return Pack(content["name"], content["log"], [PackedCell(**cell) for cell in content["cells"]])
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: is not a pack of this release ({error}); run snakemake again") from error


def states_in_pack(command: str) -> list[Path]:
    """Return the state folders of the cells in the pack that a command trains; none for any other command."""
    named = NAMED_IN_COMMAND.search(command)
    return [state_folder(Path(cell.run)) for cell in read_pack(Path(named[1])).cells] if named else []


def log_of_failed_start(state: Path) -> Path | None:
    """Return the log of a cell's last pack if it failed before its first cell; otherwise None.

    Also None if another running call of snakemake made the pack, which may still start.
    """
    noted = json_if_there(state / NOTE)
    if not {"file", "log"} <= noted.keys():
        return None
    file = Path(noted["file"])
    return None if _begun(file).exists() or _is_of_another_running_call(file) else Path(noted["log"])


def folder_of_packs(invocation: Path) -> Path:
    """Return the folder for the packs of a call of snakemake, beside its file."""
    return invocation.with_suffix(".packs")


def _is_of_another_running_call(file: Path) -> bool:
    invocation = file.parent.with_suffix(".json")
    process = json_if_there(invocation).get("process")
    is_here = process is not None and process["host"] == this_process()["host"]
    return is_here and str(invocation) != path_of_current_invocation() and is_running(process)


def _begun(path: Path) -> Path:
    return path.with_suffix(".begun")
