"""The cells of an imported experiment: what each ran, in its clone, stands in its config and follows from no values.

A config with `imported` is no experiment file: it is written by `make import`, into a head that no snakemake had.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gluegrid.cells import Cell


@dataclass(frozen=True)
class ImportedCell:
    """A cell as it was exported: why it had no result, None where it had one, and the log of its training there."""

    cell: Cell
    reason: str | None
    log: Path


def imported_cells(config: dict) -> Iterator[ImportedCell]:
    """Yield the cells of an imported experiment, in their order; none where it is no import."""
    for entry in config.get("imported", []):
        cell = Cell(*(entry[key] for key in ("model", "task", "variant", "seed", "run")))
        yield ImportedCell(cell, entry["reason"], Path(entry["log"]))


def listed(cell: Cell, reason: str | None, log: object) -> dict:
    """Return what a list of cells says of one, but for its run."""
    key = {"model": cell.model, "task": cell.task, "variant": cell.variant, "seed": cell.seed}
    return key | {"reason": reason, "log": str(log)}
