"""What a cell's all_results.json must say, given its predictions, its run.json and the measured times."""

import hashlib
import math
from collections.abc import Iterable

from gluegrid.analysis.predictions import Predictions
from gluegrid.common.formatting import is_number
from gluegrid.experiment.task import Task
from gluegrid.verification.metrics import recomputed_scores

SHARE_HELD_OUT = 0.1


def recomputed_evaluation(task: Task, suffix: str, predictions: Predictions, batch: int, measured: dict) -> dict:
    """Return the eval_ keys of one split and `degenerate`; rates only if the measured time is a positive number.

    `batch` is per_device_eval_batch_size, and `measured` is an all_results.json with its times in seconds.
    """
    scores = recomputed_scores(task, predictions.logits, predictions.label)
    degenerate = scores.pop("degenerate")
    rows = len(predictions.label)
    values = scores | {"samples": rows} | _rates(measured.get(f"eval_runtime{suffix}"), rows, math.ceil(rows / batch))
    return {f"eval_{name}{suffix}": value for name, value in values.items()} | {"degenerate": degenerate}


def recomputed_training(settings: dict, rows: int, measured: dict) -> dict:
    """Return epoch and the train_ keys.

    `settings` is a run.json completed with its recipe, and `rows` is the number of rows of the training split.
    """
    samples = min(rows, settings["max_train_samples"] or rows)
    batch = settings.get("global_batch_size") or _batch_of_all_devices(settings)
    steps_per_epoch = math.ceil(samples / batch)
    steps = math.ceil(settings["num_train_epochs"] * steps_per_epoch)
    rates = _rates(measured.get("train_runtime"), samples * settings["num_train_epochs"], steps)
    values = {"train_samples": samples} | {f"train_{name}": value for name, value in rates.items()}
    return values | ({"epoch": steps / steps_per_epoch} if steps_per_epoch else {})


def held_out_rows(count: int) -> list[int]:
    """Return which of `count` training rows are held out: those whose numbers have the smallest hashes."""

    def digest(number: int) -> bytes:
        return hashlib.sha256(f"holdout {number}".encode()).digest()[:8]

    return sorted(sorted(range(count), key=digest)[: max(1, round(SHARE_HELD_OUT * count))])


def measured_keys(suffixes: Iterable[str], trained: bool) -> set[str]:
    """Return the keys that cannot be recomputed for a task whose scored splits have these suffixes."""
    return ({"train_loss", "train_runtime"} if trained else set()) | {f"eval_runtime{suffix}" for suffix in suffixes}


def _batch_of_all_devices(settings: dict) -> int:
    factors = ("per_device_train_batch_size", "gradient_accumulation_steps", "gpus", "nodes")
    return math.prod(settings[key] for key in factors)


def _rates(seconds: object, samples: float, steps: int) -> dict[str, float]:
    if not is_number(seconds) or seconds <= 0:
        return {}
    return {"samples_per_second": samples / seconds, "steps_per_second": steps / seconds}
