"""A pack: cells that one job trains one after another. Its file tells the job, and sbatch, which cells they are.

Each cell stays what it is alone: its lock, attempts, log, record and results are its own (scripts/train_pack.py).
"""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.common.files import json_if_there, read_json, write_json
from gluegrid.common.paths import state_folder
from gluegrid.common.provenance import PACK
from gluegrid.execution.cell_state import has_published
from gluegrid.execution.invocation import path_of_current_invocation

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
        note = {"pack": pack.name, "log": pack.log, "head": path_of_current_invocation()}
        write_json(state_folder(Path(cell.run)) / "pack.json", note)


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


def log_of_pack(state: Path) -> Path | None:
    """Return the log of the pack that a cell was last put into by the present state of its folder; None without one."""
    log = json_if_there(state / "pack.json").get("log")
    return Path(log) if isinstance(log, str) else None
