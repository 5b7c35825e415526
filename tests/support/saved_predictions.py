"""Results with predictions as training saves them, made from labels instead of by a model."""

from pathlib import Path

import builders
import numpy
import pyarrow
import pyarrow.parquet

from gluegrid.common.files import sha256
from gluegrid.experiment.cell import Cell
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.task import Task, definition
from gluegrid.results.outcomes import validation_predictions
from gluegrid.training.metrics import score


def shared_labels(shared: Path, task: str, split: str = "validation") -> numpy.ndarray:
    """Return the labels of a split of the real data."""
    path = shared / "glue" / task / f"{split}-00000-of-00001.parquet"
    return pyarrow.parquet.read_table(path, columns=["label"])["label"].to_numpy()


def flipped(labels: numpy.ndarray, rate: float, generator: numpy.random.Generator, classes: int = 2) -> numpy.ndarray:
    """Return predictions of which this share is wrong."""
    wrong = (labels + 1 + generator.integers(classes - 1, size=len(labels))) % classes
    return numpy.where(generator.random(len(labels)) < rate, wrong, labels)


def save_result(
    of: Experiment, cell: Cell, labels: numpy.ndarray, answers: numpy.ndarray, idx: numpy.ndarray | None = None
) -> None:
    """Write a cell's results as training does, with the same labels and predictions for each validation split."""
    task = Task(name=cell.task, **definition(of.tasks[cell.task]))
    logits = answers[:, None] if task.is_regression else numpy.eye(task.number_of_outputs)[answers]
    results, hashes = {"degenerate": False}, {}
    for split, path in validation_predictions(of, cell).items():
        write_predictions(path, labels, logits, numpy.arange(len(labels)) if idx is None else idx)
        hashes[split] = sha256(path)
        scores = score(task, logits.astype(numpy.float32), labels)
        results["degenerate"] |= scores.pop("degenerate")
        results |= {f"eval_{key}{task.validation[split]}": value for key, value in scores.items()}
        results[f"eval_samples{task.validation[split]}"] = len(labels)
    builders.write_result(of, cell, results, predictions_sha256=hashes)


def write_predictions(path: Path, labels: numpy.ndarray, logits: numpy.ndarray, idx: numpy.ndarray) -> None:
    """Write a split's predictions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"idx": idx, "label": labels, "logits": pyarrow.array(list(logits), pyarrow.list_(pyarrow.float32()))}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
