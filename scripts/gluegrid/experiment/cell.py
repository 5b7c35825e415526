"""A cell: one training, and the run.json that defines it."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gluegrid.common import paths
from gluegrid.common.files import canonical_json
from gluegrid.experiment.options import RECIPES


@dataclass(frozen=True)
class Cell:
    """One training of a model on a task with a seed. `run` is the content of its run.json.

    `variant` is `base`, or names the swept values that differ from it.
    """

    model: str
    task: str
    variant: str
    seed: int
    run: dict

    @property
    def wildcards(self) -> dict[str, str]:
        """The values of Snakemake's wildcards for this cell."""
        return {
            "model": self.model,
            "task": self.task,
            "variant": self.variant,
            "seed": str(self.seed),
        }

    @property
    def values(self) -> dict:
        """All values of the run, including the defaults of its recipe."""
        return RECIPES[self.run["recipe"]] | self.run

    @property
    def name(self) -> str:
        """The cell's path below runs/, which is also its name in messages."""
        return paths.CELL.format(**self.wildcards)


def run_text(cell: Cell) -> str:
    """Return the text of a cell's run.json."""
    return canonical_json(cell.run)


def run_hash(text: str) -> str:
    """Return the hash that ties results to their run.json."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class ImportedCell:
    """An imported cell: why it had no result (None if it had one), and the log of its original training."""

    cell: Cell
    reason: str | None
    log: Path


def imported_cells(config: dict) -> Iterator[ImportedCell]:
    """Yield the cells of an imported experiment in their order; nothing for any other experiment."""
    for entry in config.get("imported", []):
        cell = Cell(*(entry[key] for key in ("model", "task", "variant", "seed", "run")))
        yield ImportedCell(cell, entry["reason"], Path(entry["log"]))


def listed(cell: Cell, reason: str | None, log: object) -> dict:
    """Return the entry of a cell in a list of cells, except for its run."""
    key = {"model": cell.model, "task": cell.task, "variant": cell.variant, "seed": cell.seed}
    return key | {"reason": reason, "log": str(log)}
