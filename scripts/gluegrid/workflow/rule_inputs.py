"""The run.json of every cell, written many in one go: thousands of small jobs would keep a head busy for minutes."""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.common.files import write_text
from gluegrid.experiment.cell import Cell, run_text
from gluegrid.experiment.experiment import Experiment
from gluegrid.results.outcomes import Outcome, outcomes
from gluegrid.results.results_md import table_definition

# Snakemake looks through all outputs of a job for each of its inputs, and one shell command takes 128 KiB of names.
CELLS_AT_ONCE = 50


def is_written(experiment: Experiment, cell: Cell) -> bool:
    """Tell whether the run.json of a cell is there and says what the experiment asks for."""
    run = Path(experiment.paths.run.format(**cell.wildcards))
    return run.exists() and run.read_text(encoding="utf-8", errors="replace") == run_text(cell)


def cells_to_write(experiment: Experiment, urgency: Callable[[Cell], float]) -> dict[str, list[Cell]]:
    """Return the cells whose run.json must be written, the most urgent first, by the rule that writes them."""
    cells = [cell for cell in experiment.cells.values() if not is_written(experiment, cell)]
    cells.sort(key=urgency, reverse=True)
    parts = range(0, len(cells), CELLS_AT_ONCE)
    return {f"write_runs_{number}": cells[start : start + CELLS_AT_ONCE] for number, start in enumerate(parts, start=1)}


def write_runs(experiment: Experiment, names: Iterable[str]) -> None:
    """Write the files of these paths, where their content changes. Raises DataError for one that is of no cell."""
    cells = {experiment.paths.run.format(**cell.wildcards): cell for cell in experiment.cells.values()}
    for name in names:
        if name not in cells:
            raise DataError(f"{name}: is the run.json of no cell of the experiment {experiment.name}")
        if not is_written(experiment, cells[name]):
            write_text(Path(name), run_text(cells[name]))


def digest_of_results(experiment: Experiment) -> str:
    """Return a hash of what became of every cell, of the comparisons, and of what the tables depend on besides."""
    digest = hashlib.sha256(table_definition(experiment).encode())
    for outcome in outcomes(experiment):
        digest.update(_text(outcome).encode())
    comparisons = Path(experiment.paths.comparisons_json)
    if comparisons.exists():
        digest.update(comparisons.read_bytes())
    return digest.hexdigest()


def _text(outcome: Outcome) -> str:
    cell = outcome.cell
    parts = [cell.name, cell.run, outcome.results, outcome.record, outcome.reason, outcome.data, str(outcome.log)]
    return json.dumps(parts, sort_keys=True)
