"""From a cell's predictions of a test split to the content of GLUE's file for it."""

from dataclasses import dataclass
from pathlib import Path

import numpy

from gluegrid.common.errors import RecordError
from gluegrid.common.files import sha256
from gluegrid.experiment.task import Task
from gluegrid.results.glue_choice import HEADER, LEAST, MOST, GlueFile
from gluegrid.results.outcomes import Outcome
from gluegrid.verification.parquet_content import read_predictions


@dataclass(frozen=True)
class Content:
    """What a file holds; `clipped` counts the numbers that were out of its range."""

    text: bytes
    clipped: int | None


def content_of(file: GlueFile, task: Task, outcome: Outcome, predictions: Path) -> Content:
    """Return the file's content from a cell's predictions of its split. Raises RecordError, and DataError.

    They are as training wrote them, by the hash in the cell's record, but not yet what GLUE wants: see glue_checks.
    """
    _check_hash(file, outcome, predictions)
    rows = read_predictions(predictions, task)
    order = numpy.argsort(rows.idx, kind="stable")
    idx, logits = rows.idx[order], rows.logits[order]
    if file.names is None:
        clipped = numpy.clip(logits[:, 0], LEAST, MOST)
        return Content(_text(idx, map(_number, clipped)), int(numpy.count_nonzero(clipped != logits[:, 0])))
    # By name: the data may number their labels otherwise than GLUE's own do. The first of equals, as in scoring.
    names = numpy.array([file.names[label] for label in task.labels])
    return Content(_text(idx, names[logits.argmax(axis=1)]), None)


def _check_hash(file: GlueFile, outcome: Outcome, predictions: Path) -> None:
    recorded = outcome.record.get("predictions_sha256", {}).get(file.split)
    if recorded is None or not predictions.exists():
        raise RecordError(f"{predictions}: is missing; delete the cell's all_results.json to train it again")
    if sha256(predictions) != recorded:
        raise RecordError(
            f"{predictions}: is not what training wrote, by the hash in run_record.json;"
            " delete the cell's all_results.json to train it again"
        )


def _text(idx, predictions) -> bytes:
    lines = [f"{index}\t{prediction}\n" for index, prediction in zip(idx.tolist(), predictions, strict=True)]
    return "".join([HEADER, "\n", *lines]).encode()


def _number(value: float) -> str:
    """Return the shortest text of a number in single precision, as logits are, without an exponent or a sign."""
    return numpy.format_float_positional(numpy.float32(value) + 0, unique=True, trim="0")
