"""What a cell's all_results.json must say, given its predictions, its run.json and the times that were measured."""

import math
from collections.abc import Iterable
from fractions import Fraction

from gluegrid.analysis.predictions import Predictions
from gluegrid.common.formatting import is_number
from gluegrid.experiment.task import Task
from gluegrid.verification.metrics import recomputed_scores


def recomputed_evaluation(task: Task, suffix: str, predictions: Predictions, batch: int, measured: dict) -> dict:
    """Return the eval_ keys of one split and `degenerate`; rates only where the measured time is a positive number.

    `batch` is per_device_eval_batch_size, `measured` an all_results.json with its times in seconds.
    """
    scores = recomputed_scores(task, predictions.logits, predictions.label)
    degenerate = scores.pop("degenerate")
    rows = len(predictions.label)
    values = scores | {"samples": rows} | _rates(measured.get(f"eval_runtime{suffix}"), rows, math.ceil(rows / batch))
    return {f"eval_{name}{suffix}": value for name, value in values.items()} | {"degenerate": degenerate}


def recomputed_training(settings: dict, rows: int, measured: dict) -> dict:
    """Return epoch and the train_ keys.

    `settings` is a run.json completed by its recipe, `rows` the number of rows of the training split.
    """
    samples = min(rows, settings["max_train_samples"] or rows)
    batch = settings.get("global_batch_size") or _batch_of_all_devices(settings)
    steps_per_epoch = math.ceil(samples / batch)
    steps = math.ceil(settings["num_train_epochs"] * steps_per_epoch)
    rates = _rates(measured.get("train_runtime"), samples * settings["num_train_epochs"], steps)
    values = {"train_samples": samples} | {f"train_{name}": value for name, value in rates.items()}
    return values | ({"epoch": steps / steps_per_epoch} if steps_per_epoch else {})


def _batch_of_all_devices(settings: dict) -> int:
    factors = ("per_device_train_batch_size", "gradient_accumulation_steps", "gpus", "nodes")
    return math.prod(settings[key] for key in factors)


def measured_keys(suffixes: Iterable[str], trained: bool) -> set[str]:
    """Return the keys that cannot be recomputed, of a task whose scored splits have these suffixes."""
    return ({"train_loss", "train_runtime"} if trained else set()) | {f"eval_runtime{suffix}" for suffix in suffixes}


def _rates(seconds: object, samples: float, steps: int) -> dict[str, float]:
    if not is_number(seconds) or seconds <= 0:
        return {}
    return {"samples_per_second": samples / seconds, "steps_per_second": steps / seconds}


UNKNOWN = math.nan  # its predictions cannot be read, which was reported; None is an undefined metric

Value = float | None


def over_seeds(values: list[Value]) -> dict[str, Value]:
    """Return mean, sd, median and best of a value over seeds: UNKNOWN where one is, None where undefined."""
    return {"mean": mean(values), "sd": deviation(values), "median": median(values), "best": best(values)}


def mean(values: Iterable[Value]) -> Value:
    """Return the mean; UNKNOWN where any value is, else None where any is undefined, or for no values."""
    values = list(values)
    if any(value is not None and math.isnan(value) for value in values):
        return UNKNOWN
    if not values or None in values:
        return None
    # Exact until it is divided, so that equal means of variants are equal here too.
    return float(sum(map(Fraction, values)) / len(values))


def deviation(values: Iterable[Value]) -> Value:
    """Return the sample standard deviation, of n - 1 degrees of freedom; None for fewer than two values."""
    values = list(values)
    middle = mean(values)
    if middle is None or math.isnan(middle):
        return middle
    return math.sqrt(math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1)) if values[1:] else None


def median(values: Iterable[Value]) -> Value:
    """Return the middle value, of an even number the mean of the two in the middle."""
    values = list(values)
    unclear = mean(values)
    if unclear is None or math.isnan(unclear):
        return unclear
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2


def best(values: Iterable[Value]) -> Value:
    """Return the largest of the values that are defined."""
    values = [value for value in values if value is not None]
    if any(map(math.isnan, values)):
        return UNKNOWN
    return sorted(values)[-1] if values else None
