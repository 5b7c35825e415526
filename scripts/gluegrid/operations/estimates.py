"""How long a cell will take, and what it is allowed to take: limits for the scheduler, and the order of cells.

Never what runs: where an estimate is wrong, a cell comes at another time, or its job is given more at its next attempt.
"""

import math
import os
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.common.paths import state_folder
from gluegrid.execution import attempts
from gluegrid.experiment.cell import Cell
from gluegrid.experiment.experiment import Experiment
from gluegrid.operations.cost_model import (
    STAGED,
    ModelSize,
    TaskSize,
    memory_as_measured,
    memory_in_mb,
    model_size,
    operations_of_predicting,
    operations_of_training,
    task_size,
)
from gluegrid.operations.measured_speeds import Measured, read_speeds
from gluegrid.results.outcomes import Outcome

# Of a device that nothing is known of: a GPU as that of references/document.yaml, whose 18 times are within a factor 2
# of this speed but for base qqp and base qnli (counting the padding that run_glue.py computes); a thread of a CPU.
OPERATIONS_PER_SECOND = {"cuda": 1.2e13, "cpu": 6e10}
SECONDS_BESIDE_TRAINING = 60  # loading libraries, weights and data, beside the predictions
SPREAD_OF_PROCESSES = 0.85  # of the speed of each of several processes is left

START_MINUTES = 30  # a cold file system, a busy node
# How many times its estimate a job may take, by what the estimate is from.
MARGINS = {"this cell's kind": 1.5, "this model": 2, "other models": 3, "no run": 5}
LARGEST_LIMIT_MINUTES = 365 * 24 * 60  # SLURM takes no longer numbers


@dataclass(frozen=True)
class Estimate:
    """What a cell is expected to take: seconds of training and in all, from what (a key of MARGINS, and a device).

    `is_staged`: whether model and tokens are there, so that their sizes are known and not guessed.
    """

    train_seconds: float
    seconds: float
    gpus: int
    known_from: str
    device: str | None
    memory_in_mb: int
    is_staged: bool

    @property
    def gpu_hours(self) -> float:
        """The hours of all its devices together."""
        return self.seconds * self.gpus / 3600

    @property
    def limit_in_minutes(self) -> int:
        """The time limit of a first attempt."""
        minutes = START_MINUTES + math.ceil(MARGINS[self.known_from] * self.seconds / 60)
        return min(minutes, LARGEST_LIMIT_MINUTES)


class Estimates:
    """Estimates of an experiment's cells. `device` limits what was measured to devices with this in their name."""

    def __init__(self, experiment: Experiment, speeds: Iterable[Measured], device: str = ""):
        self.experiment = experiment
        self._speeds = [entry for entry in speeds if device.lower() in entry.device.lower()]
        self._made: dict[tuple[str, str, str], Estimate] = {}
        self._manifests: dict[tuple[str, str, str], tuple[str, str]] = {}

    def of(self, cell: Cell) -> Estimate:
        """Return what a cell is expected to take; its seeds all take the same."""
        kind = (cell.model, cell.task, cell.variant)
        known = self._made.get(kind)
        # While they are fetched and tokenised, their sizes become known.
        if known is None or (not known.is_staged and all(map(os.path.exists, self._manifests[kind]))):
            known = self._made[kind] = self._make(cell)
            self._manifests[kind] = (
                self.experiment.model_manifest(cell.model),
                self.experiment.tokens_manifest(cell),
            )
        return known

    def seconds_of(self, cell: Cell) -> float:
        """Return how many seconds a cell is expected to take."""
        return self.of(cell).seconds

    def _make(self, cell: Cell) -> Estimate:
        model = model_size(self.experiment, cell.model)
        task = task_size(self.experiment, cell)
        values = cell.values
        made = _by_default(values, model, task)
        by_device: dict[str, list[Measured]] = {}
        for entry in self._speeds:
            if entry.is_of_a_cpu == (values["device"] == "cpu") and values["precision"] in ("auto", entry.precision):
                by_device.setdefault(entry.device, []).append(entry)
        source = self.experiment.models[cell.model]["source"]
        measured = [
            _by_measured(values, model, task, device, _nearest(entries, source, cell.task, model))
            for device, entries in by_device.items()
        ]
        # Which of this place's devices it will get is not known: the slowest is safe.
        return max(measured, key=lambda estimate: estimate.seconds, default=made)


def learn(experiment: Experiment, outcomes: Iterable[Outcome]) -> Iterator[Measured]:
    """Yield what these runs of an experiment have shown of their devices."""
    for outcome in outcomes:
        was_trained = outcome.is_done and outcome.cell.values["do_train"]
        if was_trained and not outcome.record.get("continued"):
            yield _measured(experiment, outcome)


def limit_of_attempt(estimate: Estimate, attempt: int) -> int:
    """Return the time limit of an attempt in minutes: each gets as much more as the first one had."""
    return min(estimate.limit_in_minutes * attempt, LARGEST_LIMIT_MINUTES)


def _by_default(values: dict, model: ModelSize, task: TaskSize) -> Estimate:
    speed = _of_all_processes(OPERATIONS_PER_SECOND[values["device"]], values)
    training = operations_of_training(values, model, task) / speed
    beside = SECONDS_BESIDE_TRAINING + operations_of_predicting(values, model, task) / speed
    return Estimate(
        train_seconds=training,
        seconds=training + beside,
        gpus=values["gpus"] * values["nodes"],
        known_from="no run",
        device=None,
        memory_in_mb=memory_in_mb(values, model),
        is_staged=model.known_from == STAGED and task.is_counted,
    )


def _by_measured(
    values: dict, model: ModelSize, task: TaskSize, device: str, nearest: tuple[str, list[Measured]]
) -> Estimate:
    known_from, entries = nearest
    made = _by_default(values, model, task)
    speed = _of_all_processes(statistics.median(entry.speed for entry in entries), values)
    training = operations_of_training(values, model, task) / speed
    beside = SECONDS_BESIDE_TRAINING + operations_of_predicting(values, model, task) / speed
    memory = made.memory_in_mb
    if known_from != "other models":
        peak = max(entry.host_memory_bytes for entry in entries)
        memory = memory_as_measured(values, peak) if peak else memory
    if known_from == "this cell's kind" and (seen := [s for entry in entries for s in entry.seconds_beside_training]):
        beside = statistics.median(seen)
    return replace(
        made,
        train_seconds=training,
        seconds=training + beside,
        known_from=known_from,
        device=device,
        memory_in_mb=memory,
    )


def _nearest(entries: list[Measured], source: str, task: str, model: ModelSize) -> tuple[str, list[Measured]]:
    """Return what was measured of the same model and task, else of the model, else of the model of the nearest size."""
    of_model = [entry for entry in entries if entry.model == source]
    if same := [entry for entry in of_model if entry.task == task]:
        return "this cell's kind", same
    if of_model:
        return "this model", of_model

    def distance(entry: Measured) -> float:
        return abs(math.log(entry.passed_parameters / model.passed))

    nearest = min(entries, key=distance)
    return "other models", [entry for entry in entries if entry.model == nearest.model]


def _of_all_processes(speed: float, values: dict) -> float:
    if values["device"] == "cpu":
        speed *= values["threads"]
    processes = values["gpus"] * values["nodes"]
    return speed * (processes * SPREAD_OF_PROCESSES if processes > 1 else 1)


def _measured(experiment: Experiment, outcome: Outcome) -> Measured:
    cell, record = outcome.cell, outcome.record
    model = model_size(experiment, cell.model)
    done = operations_of_training(cell.values, model, task_size(experiment, cell))
    train_runtime = outcome.results["train_runtime"]
    lasted = attempts.seconds_of_last(state_folder(Path(experiment.paths.run.format(**cell.wildcards))))
    return Measured(
        device=record["device"],
        precision=record["precision"],
        model=experiment.models[cell.model]["source"],
        passed_parameters=model.passed,
        task=cell.task,
        operations_per_second=[done / max(train_runtime, 1e-3) / _of_all_processes(1, cell.values)],
        seconds_beside_training=[max(lasted - train_runtime, 0)] if lasted and record.get("attempts") == 1 else [],
        host_memory_bytes=record["peak_memory_bytes"]["host"],
    )


def estimates_of(experiment: Experiment, device: str = "") -> tuple[Estimates, str | None]:
    """Return an experiment's estimates, and what is wrong with the file of measured speeds, which is then not used."""
    try:
        return Estimates(experiment, read_speeds(), device), None
    except DataError as error:
        return Estimates(experiment, []), str(error)
