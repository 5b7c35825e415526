"""Estimate how long cells take, for their time and memory limits and their order.

Estimates never change what runs: with a wrong one, a cell runs at another time, or its next attempt gets more time.
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

# The speed of an unknown device: a GPU like that of references/document.yaml, whose 18 times are within a factor of 2
# of this speed except for base qqp and base qnli (counting the padding that run_glue.py computes); a CPU thread at the
# products of large matrices.
OPERATIONS_PER_SECOND = {"cuda": 1.2e13, "cpu": 7e10}
# Further costs on a CPU, measured on 2 threads of a server with models of 64 and 384 hidden units: the operations
# between products, as the hidden units that would take as long; the calls, per layer and update, however small; AdamW.
HIDDEN_UNITS_BETWEEN_PRODUCTS = 50
SECONDS_OF_CALLS = 2.5e-3
BYTES_PER_SECOND_OF_A_CPU = 1e10
# Of a run besides training and predictions: loading libraries and CUDA; hashing and reading weights.
SECONDS_OF_THE_START = {"cuda": 30, "cpu": 7}
BYTES_OF_WEIGHTS_PER_SECOND = 2.5e8
SPREAD_OF_PROCESSES = 0.85  # the share of its speed that each of several processes keeps

START_MINUTES = 30  # for a cold file system or a busy node
LARGEST_LIMIT_MINUTES = 365 * 24 * 60  # SLURM does not accept larger numbers


class Basis(StrEnum):
    """What an estimate is based on, in words for people."""

    KIND = "this cell's kind"
    MODEL = "this model"
    OTHER_MODELS = "other models"
    OTHER_PRECISION = "another precision"
    DATA_SHEET = "its data sheet"
    NO_RUN = "no run"


# A job's time limit, as a multiple of its estimate.
MARGINS = {
    **{Basis.KIND: 1.5, Basis.MODEL: 2, Basis.OTHER_MODELS: 3, Basis.OTHER_PRECISION: 3},
    **{Basis.DATA_SHEET: 5, Basis.NO_RUN: 5},
}


@dataclass(frozen=True)
class Estimate:
    """What a cell is expected to take: seconds of training and in total, and what the estimate is based on.

    `device` is the name of a measured device. `is_staged`: model and tokens exist, so that their sizes are known rather
    than guessed.
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
        """The hours of all its devices in total."""
        return self.seconds * self.gpus / 3600

    @property
    def limit_in_minutes(self) -> int:
        """The time limit of a first attempt."""
        minutes = START_MINUTES + math.ceil(MARGINS[self.known_from] * self.seconds / 60)
        return min(minutes, LARGEST_LIMIT_MINUTES)


class Estimates:
    """Estimates of an experiment's cells.

    `device` names the device to estimate for; without it, `gpu_model` returns the kind of GPU that a cell will ask for.
    Only measurements of this device count, or its data sheet if there are none.
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
        """Return the estimate of a cell, which is the same for all its seeds."""
        kind = (cell.model, cell.task, cell.variant)
        known = self._made.get(kind)
        # Sizes become known as models and tasks are fetched and tokenized.
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
        """Return the GPU that a cell is for, if one is named that the table knows."""
        return find_device(self._device or self._gpu_model(cell)) if cell.values["device"] == "cuda" else None

    def _make(self, cell: Cell) -> Estimate:
        model = model_size(self.experiment, cell.model)
        task = task_size(self.experiment, cell)
        source = self.experiment.models[cell.model]["source"]
        measured = [
            _by_measured(cell.values, model, task, device, _nearest(entries, source, cell.task, model))
            for device, entries in self._measured_for(cell, model).items()
        ]
        # It is not known which of this place's devices the cell will get; the slowest is safe.
        if measured:
            return max(measured, key=lambda estimate: estimate.seconds)
        if card := self.card_of(cell):
            return _by_data_sheet(card, cell.values, model, task)
        return _of_an_unknown_device(cell.values, model, task)

    def _measured_for(self, cell: Cell, model: ModelSize) -> dict[str, list[Measured]]:
        """Return the measurements of each device that a cell may get."""
        is_for_a_cpu = cell.values["device"] == "cpu"
        by_device: dict[str, list[Measured]] = {}
        for entry in self._speeds:
            if entry.is_of_a_cpu == is_for_a_cpu:
                by_device.setdefault(entry.device, []).append(entry)
        named = self._device or ("" if is_for_a_cpu else self._gpu_model(cell))
        of_named = {name: entries for name, entries in by_device.items() if is_same_device(name, named)}
        # A profile may have the site's own name for its GPUs, which does not rule out the measured ones.
        if not of_named and not self._device and find_device(named) is None:
            of_named = by_device
        told = ((name, _told(entries, cell.values["precision"], model)) for name, entries in of_named.items())
        return {name: entries for name, entries in told if entries}


def learn(experiment: Experiment, outcomes: Iterable[Outcome]) -> Iterator[Measured]:
    """Yield the device speeds measured by these runs of an experiment."""
    for outcome in outcomes:
        was_trained = outcome.is_done and outcome.cell.values["do_train"]
        if was_trained and not outcome.record.get("continued"):
            yield _measured(experiment, outcome)


def start_saved(outcome: Outcome) -> float:
    """Return the seconds that a finished cell saved by starting in a pack."""
    return SECONDS_OF_THE_START[outcome.cell.values["device"]] if "pack" in outcome.record.get("job", {}) else 0


def limit_of_attempt(estimate: Estimate, attempt: int) -> int:
    """Return the time limit of an attempt in minutes: the first one's limit times the number of the attempt."""
    return min(estimate.limit_in_minutes * attempt, LARGEST_LIMIT_MINUTES)


def _told(entries: list[Measured], precision: str, model: ModelSize) -> list[Measured]:
    """Return a device's measurements in this precision, or else in another, scaled by its data sheet.

    For a device that is not in the table, other precisions do not count.
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
    """Estimate from a GPU's data sheet alone."""
    made = _at_speed(expected_speed(card, card.precision(values["precision"]), model.hidden_size), values, model, task)
    updates = number_of_updates(values, task)
    steps_of_adamw = updates * BYTES_OF_AN_ADAMW_STEP * trained_parameters(values, model) / (card.bandwidth * 1e9)
    launches = updates * values["gradient_accumulation_steps"] * SECONDS_OF_LAUNCHES * model.layers
    training = max(made.train_seconds + steps_of_adamw, launches)
    beside = made.seconds - made.train_seconds
    return replace(made, train_seconds=training, seconds=training + beside, known_from=Basis.DATA_SHEET)


def _at_speed(speed: float, values: dict, model: ModelSize, task: TaskSize) -> Estimate:
    """Estimate from the speed of one process (on a CPU: of one thread)."""
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
    """Return how long training takes on an unknown device."""
    seconds = operations_of_training(values, model, task) / _usual_speed(values, model, task)
    if values["device"] == "cuda":
        return seconds
    calls = values["gradient_accumulation_steps"] * SECONDS_OF_CALLS * model.layers
    adamw = BYTES_OF_AN_ADAMW_STEP * trained_parameters(values, model) / BYTES_PER_SECOND_OF_A_CPU
    return seconds + number_of_updates(values, task) * (calls + adamw)


def _usual_speed(values: dict, model: ModelSize, task: TaskSize) -> float:
    """Return the operations per second of all processes of a run on an unknown device.

    Narrow models, and attention between the tokens of long rows, keep a CPU far from its peak.
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
    """Return the measurements of the same model and task, else of the model, else of the model nearest in size."""
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
        speed *= min(values["threads"], os.cpu_count() or 1)  # further threads make nothing faster
    processes = values["gpus"] * values["nodes"]
    return speed * (processes * SPREAD_OF_PROCESSES if processes > 1 else 1)


def _measured(experiment: Experiment, outcome: Outcome) -> Measured:
    cell, record = outcome.cell, outcome.record
    model = model_size(experiment, cell.model)
    # The speed at which an unknown device would take as long, so that it includes everything.
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
    """Return an experiment's estimates, and what is wrong with the file of measured speeds, which is then ignored.

    Raise GluegridError for a `device` that is neither in the table of devices nor in that file.
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
            f"DEVICE={device}: unknown device. Similar names: {nearest}. docs/estimates.md and {MEASURED_SPEEDS} list"
            " all devices"
        )
