"""How long a cell will take, and what it is allowed to take: limits for the scheduler, and the order of cells.

Never what runs: where an estimate is wrong, a cell comes at another time, or its job is given more at its next attempt.
"""

import math
import os
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from gluegrid.common.errors import DataError
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
from gluegrid.results.outcomes import Outcome, state_of

# Of a device that nothing is known of: a GPU as that of references/document.yaml, whose 18 times are within a factor 2
# of this speed but for base qqp and base qnli (counting the padding that run_glue.py computes); a thread of a CPU.
OPERATIONS_PER_SECOND = {"cuda": 1.2e13, "cpu": 6e10}
SECONDS_BESIDE_TRAINING = 60  # loading libraries, weights and data, beside the predictions
SPREAD_OF_PROCESSES = 0.85  # of the speed of each of several processes is left

START_MINUTES = 30  # a cold file system, a busy node
LARGEST_LIMIT_MINUTES = 365 * 24 * 60  # SLURM takes no longer numbers


class Basis(StrEnum):
    """What an estimate is from; the words that people read."""

    KIND = "this cell's kind"
    MODEL = "this model"
    OTHER_MODELS = "other models"
    NO_RUN = "no run"


# How many times its estimate a job may take.
MARGINS = {Basis.KIND: 1.5, Basis.MODEL: 2, Basis.OTHER_MODELS: 3, Basis.NO_RUN: 5}


@dataclass(frozen=True)
class Estimate:
    """What a cell is expected to take: seconds of training and in all, from what, and of which device.

    `is_staged`: whether model and tokens are there, so that their sizes are known and not guessed.
    """

    train_seconds: float
    seconds: float
    gpus: int
    known_from: Basis
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
        return max(
            measured,
            key=lambda estimate: estimate.seconds,
            default=_at_speed(OPERATIONS_PER_SECOND[values["device"]], values, model, task),
        )


def learn(experiment: Experiment, outcomes: Iterable[Outcome]) -> Iterator[Measured]:
    """Yield what these runs of an experiment have shown of their devices."""
    for outcome in outcomes:
        was_trained = outcome.is_done and outcome.cell.values["do_train"]
        if was_trained and not outcome.record.get("continued"):
            yield _measured(experiment, outcome)


def limit_of_attempt(estimate: Estimate, attempt: int) -> int:
    """Return the time limit of an attempt in minutes: each gets as much more as the first one had."""
    return min(estimate.limit_in_minutes * attempt, LARGEST_LIMIT_MINUTES)


def _at_speed(speed: float, values: dict, model: ModelSize, task: TaskSize) -> Estimate:
    """Return the estimate of which the speed of one process (on a CPU: of one thread) is all that is known."""
    speed = _speed_of_processes(speed, values)
    training = operations_of_training(values, model, task) / speed
    beside = SECONDS_BESIDE_TRAINING + operations_of_predicting(values, model, task) / speed
    return Estimate(
        train_seconds=training,
        seconds=training + beside,
        gpus=values["gpus"] * values["nodes"],
        known_from=Basis.NO_RUN,
        device=None,
        memory_in_mb=memory_in_mb(values, model),
        is_staged=model.known_from == STAGED and task.is_counted,
    )


def _by_measured(
    values: dict, model: ModelSize, task: TaskSize, device: str, nearest: tuple[Basis, list[Measured]]
) -> Estimate:
    basis, entries = nearest
    made = _at_speed(statistics.median(entry.speed for entry in entries), values, model, task)
    seconds, memory = made.seconds, made.memory_in_mb
    peak = max(entry.host_memory_bytes for entry in entries)
    if peak and basis is not Basis.OTHER_MODELS:
        memory = memory_as_measured(values, peak)
    if basis is Basis.KIND and (seen := [s for entry in entries for s in entry.seconds_beside_training]):
        seconds = made.train_seconds + statistics.median(seen)
    return replace(made, seconds=seconds, known_from=basis, device=device, memory_in_mb=memory)


def _nearest(entries: list[Measured], source: str, task: str, model: ModelSize) -> tuple[Basis, list[Measured]]:
    """Return what was measured of the same model and task, else of the model, else of the model of the nearest size."""
    of_model = [entry for entry in entries if entry.model == source]
    if same := [entry for entry in of_model if entry.task == task]:
        return Basis.KIND, same
    if of_model:
        return Basis.MODEL, of_model

    def distance(entry: Measured) -> float:
        return abs(math.log(entry.passed_parameters / model.passed))

    nearest = min(entries, key=distance)
    return Basis.OTHER_MODELS, [entry for entry in entries if entry.model == nearest.model]


def _speed_of_processes(speed: float, values: dict) -> float:
    if values["device"] == "cpu":
        speed *= values["threads"]
    processes = values["gpus"] * values["nodes"]
    return speed * (processes * SPREAD_OF_PROCESSES if processes > 1 else 1)


def _measured(experiment: Experiment, outcome: Outcome) -> Measured:
    cell, record = outcome.cell, outcome.record
    model = model_size(experiment, cell.model)
    done = operations_of_training(cell.values, model, task_size(experiment, cell))
    train_runtime = outcome.results["train_runtime"]
    lasted = attempts.seconds_of_last(state_of(experiment, cell))
    return Measured(
        device=record["device"],
        precision=record["precision"],
        model=experiment.models[cell.model]["source"],
        passed_parameters=model.passed,
        task=cell.task,
        operations_per_second=[done / max(train_runtime, 1e-3) / _speed_of_processes(1, cell.values)],
        seconds_beside_training=[max(lasted - train_runtime, 0)] if lasted and record.get("attempts") == 1 else [],
        host_memory_bytes=record["peak_memory_bytes"]["host"],
    )


def estimates_of(experiment: Experiment, device: str = "") -> tuple[Estimates, str | None]:
    """Return an experiment's estimates, and what is wrong with the file of measured speeds, which is then not used."""
    try:
        return Estimates(experiment, read_speeds(), device), None
    except DataError as error:
        return Estimates(experiment, []), str(error)
