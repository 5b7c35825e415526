"""Compute a split's logits, in large batches of rows of similar length, and the predictions that follow from them."""

import time
from collections.abc import Callable

import numpy
import pyarrow
import torch

from gluegrid.common.errors import TrainingError
from gluegrid.experiment.task import Task
from gluegrid.training.dataset import Rows
from gluegrid.training.distributed import Processes
from gluegrid.training.forward_pass import ForwardPass, MicroBatches


def predict(
    processes: Processes,
    forward: ForwardPass,
    rows: Rows,
    tokens_at_once: int,
    micro_batches: MicroBatches,
    between_batches: Callable[[], None] = lambda: None,
) -> tuple[numpy.ndarray, float]:
    """Return logits of shape (rows, outputs), in the order of the data's labels, and the seconds taken.

    Batches have up to `tokens_at_once` tokens, padding included, or one row. Raise TrainingError if logits are not
    finite.
    """
    started = time.perf_counter()
    forward.model.eval()
    batches = _batches(rows.lengths, tokens_at_once)
    computed = []
    with torch.no_grad():
        # In rounds, since all processes must call between_batches equally often.
        for first in range(0, len(batches), processes.count):
            between_batches()
            for batch in processes.share(batches[first : first + processes.count]):
                computed += _logits(forward, rows, batch, micro_batches)
    parts = [part for part in processes.gathered(_on_host(computed)) if part is not None]
    logits = numpy.empty((len(rows), parts[0][1].shape[1]), numpy.float32)
    for numbers, values in parts:
        logits[numbers] = values
    if not numpy.isfinite(logits).all():
        raise TrainingError("the trained model's outputs are infinite or NaN; try a smaller learning_rate")
    if forward.label_order is not None:
        logits = logits[:, forward.label_order]
    return logits, time.perf_counter() - started


def _batches(lengths: numpy.ndarray, tokens_at_once: int) -> list[numpy.ndarray]:
    """Return the rows' numbers in batches, the longest rows first, so that a lack of memory shows at once."""
    order = numpy.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        count = max(1, tokens_at_once // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + count])
        start += count
    return batches


def with_answers(table: pyarrow.Table, task: Task) -> pyarrow.Table:
    """Return idx, label and logits with what they mean: the prediction, and the names of label and prediction.

    A regression has no names, and an example without a label (-1) has no name of it.
    """
    labels = table.column("label").to_numpy()
    answers = task.kind.predictions(numpy.stack(table.column("logits").to_numpy()))
    columns = {
        "prediction": pyarrow.array(answers),
        "label_name": _names(task, labels),
        "prediction_name": _names(task, answers),
    }
    for name, values in columns.items():
        table = table.append_column(name, values)
    return table


def _names(task: Task, numbers: numpy.ndarray) -> pyarrow.Array:
    if task.labels is None:
        return pyarrow.nulls(len(numbers), pyarrow.string())
    is_nameless = (numbers < 0) | (numbers >= len(task.labels))
    return pyarrow.array(task.labels, pyarrow.string()).take(pyarrow.array(numbers, mask=is_nameless))


def _logits(
    forward: ForwardPass, rows: Rows, batch: numpy.ndarray, micro_batches: MicroBatches
) -> list[tuple[numpy.ndarray, torch.Tensor]]:
    """Return the numbers and logits of a batch's rows, on the device, in the parts in which they were computed."""

    def compute(part: numpy.ndarray) -> tuple[numpy.ndarray, torch.Tensor]:
        return batch[part], forward(rows, batch[part], with_labels=False).logits.float()

    return micro_batches.compute(rows.lengths[batch], compute, undo=lambda: None)


def _on_host(computed: list[tuple[numpy.ndarray, torch.Tensor]]) -> tuple[numpy.ndarray, numpy.ndarray] | None:
    """Copy rows' numbers and logits to the host at once, to wait for the device only once; None without rows."""
    if not computed:
        return None
    numbers, logits = zip(*computed, strict=True)
    return numpy.concatenate(numbers), torch.cat(logits).cpu().numpy()
