"""Find the state of the cells of experiments, and the time left, from files and one call of squeue."""

import datetime
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from gluegrid.common.errors import DataError, GluegridError, TransientError
from gluegrid.execution.controller import Controller, controller_of
from gluegrid.execution.invocation import Invocations, invocations_of
from gluegrid.execution.slurm_queue import Job, SubmittedJob, jobs_in_queue
from gluegrid.experiment.cell import Cell
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.experiment_index import PLANNED, experiment_folders
from gluegrid.operations.cell_status import CellStatus, State, Surroundings, status_of
from gluegrid.operations.estimates import estimates_of
from gluegrid.operations.makespan import TimeLeft, time_left
from gluegrid.operations.traces import Traces, traces_of
from gluegrid.results.outcomes import missing_prerequisites, outcome

ANSWER_SECONDS = 15  # short, since somebody is looking at the screen


@dataclass(frozen=True)
class Snapshot:
    """All cells of an experiment at one moment, in the order of the experiment file.

    `silence` says why SLURM did not answer; None if it answered or was not asked. `controller` is the last one that
    `make submit` submitted, if no other call of snakemake has begun since. `controller_job` is its job while that waits
    or runs.
    """

    experiment: Experiment
    cells: list[CellStatus]
    invocations: Invocations
    silence: str | None
    time_left: TimeLeft
    taken: datetime.datetime
    controller: Controller | None = None
    controller_job: Job | None = None

    @cached_property
    def counts(self) -> Counter[State]:
        """How many cells are in each state."""
        return Counter(cell.state for cell in self.cells)

    @property
    def goes_on(self) -> bool:
        """Whether a call of snakemake runs, or waits in SLURM's queue as a controller."""
        return bool(self.invocations.running or self.controller_job)

    @property
    def is_under_way(self) -> bool:
        """Whether a call of snakemake, or a job that one has left, runs or waits."""
        return bool(self.goes_on or self.counts[State.RUNNING] or self.counts[State.QUEUED])

    @property
    def is_final(self) -> bool:
        """Whether all cells are done or failed, and no call of snakemake may try again."""
        return not self.goes_on and self.counts[State.DONE] + self.counts[State.FAILED] == len(self.cells)


class Observer:
    """A repeated look at one experiment that reads finished cells only once."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._experiment: Experiment | None = None
        self._done: dict[str, tuple[int, CellStatus]] = {}

    def read(self) -> "Reading":
        """Read what may still work on cells. Raise GluegridError if the experiment does not exist (any more)."""
        invocations = invocations_of(self.folder)
        if invocations is None:
            raise GluegridError(f"{self.folder}: this experiment was never started; run snakemake")
        experiment = self._experiment_of(invocations.newest["config"])
        cells = experiment.cells
        known = {key: self._done_status(experiment, cell) for key, cell in cells.items()}
        traces = {key: traces_of(experiment, cells[key]) for key, status in known.items() if status is None}
        return Reading(experiment, invocations, known, traces, controller_of(self.folder))

    def snapshot(self, reading: "Reading", queue: dict[str, Job] | None, silence: str | None) -> Snapshot:
        """Return the state of all cells, from what was read and from SLURM's answer about its jobs."""
        experiment, traces, controller = reading.experiment, reading.traces, reading.controller
        job = controller.job.found_in(queue or {}) if controller else None
        carried_out = controller.plan if controller and job and not job.waits else None
        invocations = replace(reading.invocations, controlled=carried_out)
        some = {(cell.model, cell.task): cell for cell in (experiment.cells[key] for key in traces)}
        missing = {key: missing_prerequisites(experiment, cell) for key, cell in some.items()}
        around = Surroundings(queue, invocations, missing)
        others = {key: status_of(experiment, experiment.cells[key], each, around) for key, each in traces.items()}
        cells = list((reading.known | others).values())
        left = time_left(cells, estimates_of(experiment)[0].seconds_of)
        controller = controller if job or (controller and _is_last(controller, invocations)) else None
        return Snapshot(experiment, cells, invocations, silence, left, datetime.datetime.now(), controller, job)

    def _experiment_of(self, config: dict) -> Experiment:
        if self._experiment is None or self._experiment.config != config:
            try:
                self._experiment = Experiment(config)
                self._experiment.cells  # noqa: B018 so that an error in it is raised here
            except (KeyError, TypeError, AttributeError) as error:
                raise DataError(
                    f"{self.folder}/heads: was written by another release; run snakemake once for this experiment"
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
    """What was read of an experiment before SLURM is asked: the status of finished cells, the traces of others."""

    experiment: Experiment
    invocations: Invocations
    known: dict[tuple, CellStatus | None]
    traces: dict[tuple, Traces]
    controller: Controller | None = None

    @property
    def jobs(self) -> list[SubmittedJob]:
        """The jobs to ask SLURM about."""
        of_controller = [self.controller.job] if self.controller and self.controller.may_be_in_queue else []
        return [*of_controller, *(job for traces in self.traces.values() for job in traces.jobs)]


def look(observers: list[Observer]) -> list[Snapshot]:
    """Return snapshots of some experiments, with one call of squeue for all. Raise GluegridError if one is missing."""
    readings = [observer.read() for observer in observers]
    queue, silence = _asked_of_slurm([job.number for reading in readings for job in reading.jobs])
    return [observer.snapshot(reading, queue, silence) for observer, reading in zip(observers, readings, strict=True)]


def experiments(results: Path, name: str | None) -> list[Path]:
    """Return the folder of the experiment of this name; without a name, of all that snakemake was called for.

    Raise GluegridError if there is none.
    """
    folders = experiment_folders(results, name, PLANNED)
    if not folders:
        raise GluegridError(f"{results}: contains no experiment yet; run snakemake first")
    return folders


def _is_last(controller: Controller, invocations: Invocations) -> bool:
    """Tell whether no other call of snakemake has begun since a controller was submitted."""
    newest = invocations.newest
    return controller.plan in (newest.get("submitted"), str(newest["path"]))


def _asked_of_slurm(numbers: list[str]) -> tuple[dict[str, Job] | None, str | None]:
    """Return which of these jobs wait or run, by one call of squeue; None and the reason if SLURM is silent."""
    try:
        return jobs_in_queue(numbers, ANSWER_SECONDS), None
    except TransientError as error:
        return None, str(error)
