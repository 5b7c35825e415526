"""Write the run.json files of cells, many per job: thousands of small jobs would keep a controller busy for minutes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.common.files import write_text
from gluegrid.experiment.cell import Cell, run_text
from gluegrid.experiment.experiment import Experiment

# For each input, Snakemake searches all outputs of a job; and one shell command takes 128 KiB of names.
CELLS_AT_ONCE = 50


def is_written(experiment: Experiment, cell: Cell) -> bool:
    """Tell whether the run.json of a cell exists and says what the experiment asks for."""
    run = Path(experiment.paths.run.format(**cell.wildcards))
    return run.exists() and run.read_text(encoding="utf-8", errors="replace") == run_text(cell)


@dataclass(frozen=True)
class RunsToWrite:
    """The run.json files that one job writes: the name of its rule, their paths, and the urgency of the first."""

    rule: str
    paths: list[str]
    urgency: float


def runs_to_write(experiment: Experiment, urgency: Callable[[Cell], float]) -> list[RunsToWrite]:
    """Return the run.json files to write, those of the most urgent cells first."""
    cells = [cell for cell in experiment.cells.values() if not is_written(experiment, cell)]
    cells.sort(key=urgency, reverse=True)
    parts = [cells[start : start + CELLS_AT_ONCE] for start in range(0, len(cells), CELLS_AT_ONCE)]
    return [
        RunsToWrite(
            f"write_runs_{number}",
            [experiment.paths.run.format(**cell.wildcards) for cell in part],
            urgency(part[0]),
        )
        for number, part in enumerate(parts, start=1)
    ]


def write_runs(experiment: Experiment, names: Iterable[str]) -> None:
    """Write the files of these paths if their content changes. Raise DataError if a path belongs to no cell."""
    cells = {experiment.paths.run.format(**cell.wildcards): cell for cell in experiment.cells.values()}
    for name in names:
        if name not in cells:
            raise DataError(f"{name}: is the run.json of no cell of the experiment {experiment.name}")
        if not is_written(experiment, cells[name]):
            write_text(Path(name), run_text(cells[name]))
