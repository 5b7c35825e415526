"""Where every cell of some experiments is, and how long the rest will take: from files and one call of squeue."""

import datetime
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gluegrid.common.errors import DataError, GluegridError, TransientError
from gluegrid.execution.invocation import Invocations, invocations_of
from gluegrid.execution.slurm_queue import Job, jobs_in_queue
from gluegrid.experiment.cell import Cell
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.experiment_index import PLANNED, experiment_folders
from gluegrid.operations.cell_status import CellStatus, State, Surroundings, status_of
from gluegrid.operations.estimates import estimates_of
from gluegrid.operations.makespan import TimeLeft, time_left
from gluegrid.operations.traces import Traces, traces_of
from gluegrid.results.outcomes import missing_prerequisites, outcome

ANSWER_SECONDS = 15  # somebody is looking at the screen


@dataclass(frozen=True)
class Snapshot:
    """All cells of an experiment at a moment, in the order of the config.

    `silence` is what came instead of SLURM's answer, None where it has answered or was not asked.
    """

    experiment: Experiment
    cells: list[CellStatus]
    invocations: Invocations
    silence: str | None
    time_left: TimeLeft
    taken: datetime.datetime

    @cached_property
    def counts(self) -> Counter[State]:
        """How many cells are in each state."""
        return Counter(cell.state for cell in self.cells)

    @property
    def is_under_way(self) -> bool:
        """Whether a call of snakemake runs, or jobs that one has left."""
        return bool(self.invocations.running or self.counts[State.RUNNING] or self.counts[State.QUEUED])

    @property
    def is_final(self) -> bool:
        """Whether all is done or failed, and no call of snakemake runs that might try again."""
        return not self.invocations.running and self.counts[State.DONE] + self.counts[State.FAILED] == len(self.cells)


class Observer:
    """Looks at one experiment again and again; what is done, it reads once."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._experiment: Experiment | None = None
        self._done: dict[str, tuple[int, CellStatus]] = {}

    def read(self) -> "Reading":
        """Read what may still work on cells. Raises GluegridError when the experiment is not there (any more)."""
        invocations = invocations_of(self.folder)
        if invocations is None:
            raise GluegridError(f"{self.folder}: no call of snakemake has begun this experiment")
        experiment = self._experiment_of(invocations.newest["config"])
        cells = experiment.cells
        known = {key: self._done_status(experiment, cell) for key, cell in cells.items()}
        traces = {key: traces_of(experiment, cells[key]) for key, status in known.items() if status is None}
        return Reading(experiment, invocations, known, traces)

    def snapshot(self, reading: "Reading", queue: dict[str, Job] | None, silence: str | None) -> Snapshot:
        """Return where all cells are, now that SLURM was asked for the jobs of what was read."""
        experiment, traces = reading.experiment, reading.traces
        some = {(cell.model, cell.task): cell for cell in (experiment.cells[key] for key in traces)}
        missing = {key: missing_prerequisites(experiment, cell) for key, cell in some.items()}
        around = Surroundings(queue, reading.invocations, missing)
        others = {key: status_of(experiment, experiment.cells[key], each, around) for key, each in traces.items()}
        cells = list((reading.known | others).values())
        left = time_left(cells, estimates_of(experiment)[0].seconds_of)
        return Snapshot(experiment, cells, reading.invocations, silence, left, datetime.datetime.now())

    def _experiment_of(self, config: dict) -> Experiment:
        if self._experiment is None or self._experiment.config != config:
            try:
                self._experiment = Experiment(config)
                self._experiment.cells  # noqa: B018  so that what cannot be understood is said here
            except (KeyError, TypeError, AttributeError) as error:
                raise DataError(
                    f"{self.folder}/heads: was written by another release; call snakemake once with this experiment"
                ) from error
            self._done.clear()
        return self._experiment

    def _done_status(self, experiment: Experiment, cell: Cell) -> CellStatus | None:
        """Return the status of a cell that is done; None for one that is not."""
        path = Path(experiment.paths.all_results.format(**cell.wildcards))
        try:
            written = path.stat().st_mtime_ns
        except OSError:
            return None
        if cell.name not in self._done or self._done[cell.name][0] != written:
            result = outcome(experiment, cell)
            if not result.is_done:
                return None
            self._done[cell.name] = (written, CellStatus(result, State.DONE))
        return self._done[cell.name][1]


@dataclass(frozen=True)
class Reading:
    """What was read of an experiment before SLURM is asked: the status of cells that are done, the others' traces."""

    experiment: Experiment
    invocations: Invocations
    known: dict[tuple, CellStatus | None]
    traces: dict[tuple, Traces]


def look(observers: list[Observer]) -> list[Snapshot]:
    """Return where all cells of some experiments are now, with one call of squeue for all. Raises GluegridError."""
    readings = [observer.read() for observer in observers]
    queue, silence = _asked_of_slurm(traces for reading in readings for traces in reading.traces.values())
    return [observer.snapshot(reading, queue, silence) for observer, reading in zip(observers, readings, strict=True)]


def experiments(results: Path, name: str | None) -> list[Path]:
    """Return the folder of the experiment of this name, or without one of all that snakemake was called for.

    Raises GluegridError where there is none.
    """
    folders = experiment_folders(results, name, PLANNED)
    if not folders:
        raise GluegridError(f"{results}: no experiment yet; call snakemake")
    return folders


def _asked_of_slurm(traces: Iterable[Traces]) -> tuple[dict[str, Job] | None, str | None]:
    """Return the cells' jobs that wait or run, from one call of squeue; None and why, where SLURM does not answer."""
    try:
        return jobs_in_queue((job.number for each in traces for job in each.jobs), ANSWER_SECONDS), None
    except TransientError as error:
        return None, str(error)
