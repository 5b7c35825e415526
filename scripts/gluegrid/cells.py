"""A cell: one training, and the run.json that says what it is."""

import hashlib
from dataclasses import dataclass

from gluegrid.common import paths
from gluegrid.common.files import canonical_json
from gluegrid.recipes import RECIPES


@dataclass(frozen=True)
class Cell:
    """One training: a model on a task with a seed. `run` is the content of its run.json.

    `variant` is `base`, or says which of the listed values it has.
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
        """All that the run says or leaves to its recipe."""
        return RECIPES[self.run["recipe"]] | self.run

    @property
    def name(self) -> str:
        """The cell's path below runs/, as people write it."""
        return paths.CELL.format(**self.wildcards)


def run_text(cell: Cell) -> str:
    """Return the text of a cell's run.json."""
    return canonical_json(cell.run)


def run_hash(text: str) -> str:
    """Return the hash that ties results to the run.json they were made from."""
    return hashlib.sha256(text.encode()).hexdigest()
