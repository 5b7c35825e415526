"""How long a cell will take, and what it is allowed to take: limits for the scheduler, and the order of cells.

Never what runs: where an estimate is wrong, a cell comes at another time, or its job is given more at its next attempt.
"""

import math
import os
import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from gluegrid.common.errors import DataError, GluegridError
from gluegrid.execution import attempts
from gluegrid.experiment.cell import Cell
from gluegrid.experiment.experiment import Experiment
from gluegrid.operations.cost_model import (
    BYTES_OF_A_WEIGHT,
    STAGED,
    ModelSize,
    TaskSize,
    memory_as_measured,
    memory_in_mb,
    model_size,
    number_of_updates,
    operations_of_predicting,
    operations_of_training,
    task_size,
    trained_parameters,
)
from gluegrid.operations.devices import (
    BYTES_OF_AN_ADAMW_STEP,
    SECONDS_OF_LAUNCHES,
    Device,
    expected_speed,
    find_device,
    is_same_device,
    nearest_names,
)
from gluegrid.operations.measured_speeds import PATH as MEASURED_SPEEDS
from gluegrid.operations.measured_speeds import Measured, read_speeds
from gluegrid.results.outcomes import Outcome, state_of

# Of a device that nothing is known of, not even its name: a GPU as that of references/document.yaml, whose 18 times are
# within a factor 2 of this speed but for base qqp and base qnli (counting the padding that run_glue.py computes); a
# thread of a CPU at the products of large matrices.
OPERATIONS_PER_SECOND = {"cuda": 1.2e13, "cpu": 7e10}
# Of a CPU beside them, measured on 2 threads of a server with models of 64 and 384 hidden units: what is between the
# products, as many hidden units as would take as long; what calls take, a layer and an update, however small; AdamW.
HIDDEN_UNITS_BETWEEN_PRODUCTS = 50
SECONDS_OF_CALLS = 2.5e-3
BYTES_PER_SECOND_OF_A_CPU = 1e10
# Of a run beside its training and predictions: libraries and CUDA; weights, which are hashed and read.
SECONDS_OF_THE_START = {"cuda": 30, "cpu": 7}
BYTES_OF_WEIGHTS_PER_SECOND = 2.5e8
SPREAD_OF_PROCESSES = 0.85  # of the speed of each of several processes is left

START_MINUTES = 30  # a cold file system, a busy node
LARGEST_LIMIT_MINUTES = 365 * 24 * 60  # SLURM takes no longer numbers


class Basis(StrEnum):
    """What an estimate is from; the words that people read."""

    KIND = "this cell's kind"
    MODEL = "this model"
    OTHER_MODELS = "other models"
    OTHER_PRECISION = "another precision"
    DATA_SHEET = "its data sheet"
    NO_RUN = "no run"


# How many times its estimate a job may take.
MARGINS = {
    **{Basis.KIND: 1.5, Basis.MODEL: 2, Basis.OTHER_MODELS: 3, Basis.OTHER_PRECISION: 3},
    **{Basis.DATA_SHEET: 5, Basis.NO_RUN: 5},
}


@dataclass(frozen=True)
class Estimate:
    """What a cell is expected to take: seconds of training and in all, from what, and of which device.

    `device` is the name of one that was measured. `is_staged`: whether model and tokens are there, so that their sizes
    are known and not guessed.
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
    """Estimates of an experiment's cells.

    `device` names the device that they are for; without it, `gpu_model` says which kind of GPU a cell will ask for. Of
    what was measured, that of this device counts alone; where nothing was, its data sheet.
    """

    def __init__(
        self,
        experiment: Experiment,
        speeds: Iterable[Measured],
        device: str = "",
        gpu_model: Callable[[Cell], str] = lambda cell: "",
    ):
        self.experiment = experiment
        self._speeds = list(speeds)
        self._device = device
        self._gpu_model = gpu_model
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

    def card_of(self, cell: Cell) -> Device | None:
        """Return the GPU that a cell is for, where one is named that the table knows."""
        return find_device(self._device or self._gpu_model(cell)) if cell.values["device"] == "cuda" else None

    def _make(self, cell: Cell) -> Estimate:
        model = model_size(self.experiment, cell.model)
        task = task_size(self.experiment, cell)
        source = self.experiment.models[cell.model]["source"]
        measured = [
            _by_measured(cell.values, model, task, device, _nearest(entries, source, cell.task, model))
            for device, entries in self._measured_for(cell, model).items()
        ]
        # Which of this place's devices it will get is not known: the slowest is safe.
        if measured:
            return max(measured, key=lambda estimate: estimate.seconds)
        if card := self.card_of(cell):
            return _by_data_sheet(card, cell.values, model, task)
        return _of_an_unknown_device(cell.values, model, task)

    def _measured_for(self, cell: Cell, model: ModelSize) -> dict[str, list[Measured]]:
        """Return what was measured, by device, of those that a cell may get."""
        is_for_a_cpu = cell.values["device"] == "cpu"
        by_device: dict[str, list[Measured]] = {}
        for entry in self._speeds:
            if entry.is_of_a_cpu == is_for_a_cpu:
                by_device.setdefault(entry.device, []).append(entry)
        named = self._device or ("" if is_for_a_cpu else self._gpu_model(cell))
        of_named = {name: entries for name, entries in by_device.items() if is_same_device(name, named)}
        # A profile may have a site's own name for its GPUs, which says nothing of those that were measured.
        if not of_named and not self._device and find_device(named) is None:
            of_named = by_device
        told = ((name, _told(entries, cell.values["precision"], model)) for name, entries in of_named.items())
        return {name: entries for name, entries in told if entries}


def learn(experiment: Experiment, outcomes: Iterable[Outcome]) -> Iterator[Measured]:
    """Yield what these runs of an experiment have shown of their devices."""
    for outcome in outcomes:
        was_trained = outcome.is_done and outcome.cell.values["do_train"]
        if was_trained and not outcome.record.get("continued"):
            yield _measured(experiment, outcome)


def start_saved(outcome: Outcome) -> float:
    """Return how many seconds of a start of its own a finished cell did not take, since it was one of a pack."""
    return SECONDS_OF_THE_START[outcome.cell.values["device"]] if "pack" in outcome.record.get("job", {}) else 0


def limit_of_attempt(estimate: Estimate, attempt: int) -> int:
    """Return the time limit of an attempt in minutes: each gets as much more as the first one had."""
    return min(estimate.limit_in_minutes * attempt, LARGEST_LIMIT_MINUTES)


def _told(entries: list[Measured], precision: str, model: ModelSize) -> list[Measured]:
    """Return what was measured of a device in this precision, else in another, as much faster as its data sheet says.

    Of a device that the table does not know, other precisions tell nothing.
    """
    card = find_device(entries[0].device)
    if card is None:
        return [entry for entry in entries if precision in ("auto", entry.precision)]
    wanted = card.precision(precision)
    if exact := [entry for entry in entries if entry.precision == wanted]:
        return exact

    def scaled(entry: Measured) -> Measured:
        before, now = (expected_speed(card, each, model.hidden_size) for each in (entry.precision, wanted))
        speeds = [speed * now / before for speed in entry.operations_per_second]
        return replace(entry, operations_per_second=speeds)

    return [scaled(entry) for entry in entries]


def _is_of_another_precision(entries: list[Measured], precision: str) -> bool:
    card = find_device(entries[0].device)
    return card is not None and entries[0].precision != card.precision(precision)


def _by_data_sheet(card: Device, values: dict, model: ModelSize, task: TaskSize) -> Estimate:
    """Return the estimate for a GPU of which nothing but its data sheet is known."""
    made = _at_speed(expected_speed(card, card.precision(values["precision"]), model.hidden_size), values, model, task)
    updates = number_of_updates(values, task)
    steps_of_adamw = updates * BYTES_OF_AN_ADAMW_STEP * trained_parameters(values, model) / (card.bandwidth * 1e9)
    launches = updates * values["gradient_accumulation_steps"] * SECONDS_OF_LAUNCHES * model.layers
    training = max(made.train_seconds + steps_of_adamw, launches)
    beside = made.seconds - made.train_seconds
    return replace(made, train_seconds=training, seconds=training + beside, known_from=Basis.DATA_SHEET)


def _at_speed(speed: float, values: dict, model: ModelSize, task: TaskSize) -> Estimate:
    """Return the estimate of which the speed of one process (on a CPU: of one thread) is all that is known."""
    made = _of_an_unknown_device(values, model, task)
    times = OPERATIONS_PER_SECOND[values["device"]] / speed
    start = _seconds_of_the_start(values, model)
    training = times * made.train_seconds
    return replace(made, train_seconds=training, seconds=start + times * (made.seconds - start))


def _of_an_unknown_device(values: dict, model: ModelSize, task: TaskSize) -> Estimate:
    training = _seconds_of_training(values, model, task)
    predicting = operations_of_predicting(values, model, task) / _usual_speed(values, model, task)
    return Estimate(
        train_seconds=training,
        seconds=training + predicting + _seconds_of_the_start(values, model),
        gpus=values["gpus"] * values["nodes"],
        known_from=Basis.NO_RUN,
        device=None,
        memory_in_mb=memory_in_mb(values, model),
        is_staged=model.known_from == STAGED and task.is_counted,
    )


def _seconds_of_training(values: dict, model: ModelSize, task: TaskSize) -> float:
    """Return how long a training takes on a device that nothing is known of."""
    seconds = operations_of_training(values, model, task) / _usual_speed(values, model, task)
    if values["device"] == "cuda":
        return seconds
    calls = values["gradient_accumulation_steps"] * SECONDS_OF_CALLS * model.layers
    adamw = BYTES_OF_AN_ADAMW_STEP * trained_parameters(values, model) / BYTES_PER_SECOND_OF_A_CPU
    return seconds + number_of_updates(values, task) * (calls + adamw)


def _usual_speed(values: dict, model: ModelSize, task: TaskSize) -> float:
    """Return the operations a second of a run's processes together on a device that nothing is known of.

    A CPU is far from its best at the products of a narrow model; where rows are long, so is attention between tokens.
    """
    speed = _speed_of_processes(OPERATIONS_PER_SECOND[values["device"]], values)
    if values["device"] == "cuda":
        return speed
    beside = HIDDEN_UNITS_BETWEEN_PRODUCTS + task.train.tokens_of_a_row / 6
    return speed * model.hidden_size / (model.hidden_size + beside)


def _seconds_of_the_start(values: dict, model: ModelSize) -> float:
    weights = BYTES_OF_A_WEIGHT * model.parameters / BYTES_OF_WEIGHTS_PER_SECOND
    return SECONDS_OF_THE_START[values["device"]] + weights


def _by_measured(
    values: dict, model: ModelSize, task: TaskSize, device: str, nearest: tuple[Basis, list[Measured]]
) -> Estimate:
    basis, entries = nearest
    if basis is not Basis.OTHER_MODELS and _is_of_another_precision(entries, values["precision"]):
        basis = Basis.OTHER_PRECISION
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
        speed *= min(values["threads"], os.cpu_count() or 1)  # more than there are make nothing faster
    processes = values["gpus"] * values["nodes"]
    return speed * (processes * SPREAD_OF_PROCESSES if processes > 1 else 1)


def _measured(experiment: Experiment, outcome: Outcome) -> Measured:
    cell, record = outcome.cell, outcome.record
    model = model_size(experiment, cell.model)
    # As fast as it would have to be for a device that nothing is known of to take as long: the speed stands for all.
    expected = _seconds_of_training(cell.values, model, task_size(experiment, cell))
    train_runtime = outcome.results["train_runtime"]
    lasted = attempts.seconds_of_last(state_of(experiment, cell))
    return Measured(
        device=record["device"],
        precision=record["precision"],
        model=experiment.models[cell.model]["source"],
        passed_parameters=model.passed,
        task=cell.task,
        operations_per_second=[OPERATIONS_PER_SECOND[cell.values["device"]] * expected / max(train_runtime, 1e-3)],
        seconds_beside_training=(
            [max(lasted - train_runtime, 0) + start_saved(outcome)] if lasted and record.get("attempts") == 1 else []
        ),
        host_memory_bytes=record["peak_memory_bytes"]["host"],
    )


def estimates_of(
    experiment: Experiment, device: str = "", gpu_model: Callable[[Cell], str] = lambda cell: ""
) -> tuple[Estimates, str | None]:
    """Return an experiment's estimates, and what is wrong with the file of measured speeds, which is then not used.

    Raises GluegridError for a `device` that neither the table of devices nor that file knows.
    """
    speeds, problem = [], None
    try:
        speeds = read_speeds()
    except DataError as error:
        problem = str(error)
    if device:
        _check_known(device, [entry.device for entry in speeds])
    return Estimates(experiment, speeds, device, gpu_model), problem


def _check_known(device: str, measured: list[str]) -> None:
    if find_device(device) is None and not any(is_same_device(name, device) for name in measured):
        nearest = ", ".join(nearest_names(device, measured))
        raise GluegridError(
            f"DEVICE={device}: no such device is known; the nearest: {nearest}. {MEASURED_SPEEDS} and"
            " docs/estimates.md have them all"
        )
