"""Predictions and labels from parquet files, checked against their task."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from gluegrid.common.errors import DataError
from gluegrid.experiment.task import Task

COLUMNS = ["idx", "label", "logits"]
ANSWERS = ["prediction", "label_name", "prediction_name"]  # files of earlier releases lack these
NUMBER = re.compile(r"[-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?")
# What pyarrow raises for damaged files and for values of another kind.
UNREADABLE = (pyarrow.ArrowException, OSError, ValueError, LookupError)


@dataclass(frozen=True)
class Labels:
    """The number and the label of each example of a split; both of shape (examples,)."""

    idx: numpy.ndarray
    label: numpy.ndarray


@dataclass(frozen=True)
class Predictions(Labels):
    """Labels with a model's outputs, of shape (examples, outputs), and the columns of ANSWERS, if any."""

    logits: numpy.ndarray
    answers: Mapping[str, Sequence] = field(default_factory=dict)


def read_predictions(path: Path, task: Task) -> Predictions:
    """Return a split's predictions. Raise DataError for anything that training does not write."""
    table = _read(path)
    if table.column_names not in (COLUMNS, [*COLUMNS, *ANSWERS]):
        expected = ", ".join([*COLUMNS, *ANSWERS])
        raise DataError(f"{path}: has the columns {', '.join(table.column_names)}, not {expected}")
    idx = _numbers(path, "idx", table.column("idx"), pyarrow.int64())
    answers = {name: table.column(name).to_pylist() for name in ANSWERS if name in table.column_names}
    return Predictions(idx, _labels(path, "label", table, task), _logits(path, table.column("logits"), task), answers)


def read_labels(paths: Sequence[Path], task: Task) -> Labels:
    """Return the labels of a split of the staged data.

    Examples are numbered by their `idx` column, unless the task uses it, else from 0.
    """
    parts = [_read_labels(path, task) for path in paths]
    label = numpy.concatenate([label for _, label in parts])
    starts = numpy.cumsum([0, *(len(label) for _, label in parts)])
    numbers = [numpy.arange(start, start + len(label)) for start, (_, label) in zip(starts, parts, strict=False)]
    idx = [own if own is not None else number for number, (own, _) in zip(numbers, parts, strict=True)]
    return Labels(numpy.concatenate(idx), label)


def names_of_numbers(path: Path, column: str) -> list[str]:
    """Return the class names that the metadata of `datasets` in a file give a column; [] where there are none."""
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            written = json.loads((file.schema_arrow.metadata or {})[b"huggingface"])
        names = written["info"]["features"][column]["names"]
    except (*UNREADABLE, TypeError, RecursionError):
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def holds_numbers(path: Path, column: str) -> bool:
    """Tell whether a column holds whole numbers."""
    try:
        return pyarrow.types.is_integer(pyarrow.parquet.read_schema(path).field(column).type)
    except UNREADABLE:
        return False


def count_rows(path: Path) -> int:
    """Return the number of rows of a parquet file. Raise DataError where it is unreadable."""
    try:
        return pyarrow.parquet.read_metadata(path).num_rows
    except UNREADABLE as error:
        raise DataError(f"{path}: is not a readable parquet file: {error}") from error


def _read(path: Path, columns: list[str] | None = None) -> pyarrow.Table:
    try:
        # Not read_table, which reads a folder such as a=1 as a column.
        with pyarrow.parquet.ParquetFile(path) as file:
            return file.read(columns, use_threads=False)
    except UNREADABLE as error:
        raise DataError(f"{path}: is not a readable parquet file: {error}") from error


def _read_labels(path: Path, task: Task) -> tuple[numpy.ndarray | None, numpy.ndarray]:
    of_task = [*task.text_columns, task.label_column]
    table = _read(path, list({task.label_column, "idx"}))
    if task.label_column not in table.column_names:
        raise DataError(f"{path}: has no column {task.label_column!r}")
    may_have_numbers = "idx" in table.column_names and "idx" not in of_task
    has_numbers = may_have_numbers and pyarrow.types.is_integer(table.column("idx").type)
    idx = _numbers(path, "idx", table.column("idx"), pyarrow.int64()) if has_numbers else None
    return idx, _labels(path, task.label_column, table, task)


def _labels(path: Path, column: str, table: pyarrow.Table, task: Task) -> numpy.ndarray:
    values = _as_numbers(path, column, table.column(column), task.labels or [])
    # Tokens, and so training, hold regression labels in single precision.
    return _numbers(path, column, values, pyarrow.type_for_alias(task.kind.staged_type)).astype(task.kind.label_type)


def _as_numbers(path: Path, name: str, column: pyarrow.ChunkedArray, names: list[str]) -> pyarrow.ChunkedArray:
    """Return text labels as numbers: that of the class with this name, else the number that the text spells."""
    if pyarrow.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.type not in (pyarrow.string(), pyarrow.large_string(), pyarrow.string_view()):
        return column
    try:
        numbers = {text: _number_of(text, names) for text in set(column.to_pylist()) - {None}}
    except ValueError as error:
        raise DataError(f"{path}: column {name!r} holds a value that is not a label: {error}") from error
    return pyarrow.chunked_array([pyarrow.array(map(numbers.get, column.to_pylist()), pyarrow.float64())])


def _number_of(text: str, names: list[str]) -> float:
    """Return the number of the class with this name, else of the class whose name spells the same number, else it."""
    if text in names:
        return names.index(text)
    spelled = {float(name): number for number, name in enumerate(names) if NUMBER.fullmatch(name)}
    return spelled.get(float(text), float(text))


def _numbers(path: Path, name: str, column: pyarrow.ChunkedArray, kind: pyarrow.DataType) -> numpy.ndarray:
    if column.null_count:
        raise DataError(f"{path}: column {name!r} has no value in {column.null_count} of {len(column)} rows")
    try:
        if pyarrow.types.is_floating(column.type):
            column = column.cast(pyarrow.float64())  # otherwise pyarrow casts float16 to whole numbers
        return column.cast(kind, safe=pyarrow.types.is_integer(kind)).to_numpy()
    except UNREADABLE as error:
        raise DataError(f"{path}: column {name!r} holds {column.type}, not {kind}: {error}") from error


def _logits(path: Path, column: pyarrow.ChunkedArray, task: Task) -> numpy.ndarray:
    """Return logits of shape (examples, outputs) in double precision."""
    outputs = task.number_of_outputs
    if not (pyarrow.types.is_list(column.type) and pyarrow.types.is_floating(column.type.value_type)):
        raise DataError(f"{path}: column 'logits' holds {column.type}, not lists of numbers")
    lengths = set(pyarrow.compute.list_value_length(column).unique().to_pylist())
    if lengths - {outputs}:
        raise DataError(f"{path}: column 'logits' has rows without exactly {outputs} numbers")
    flat = _numbers(path, "logits", pyarrow.compute.list_flatten(column), pyarrow.float64())
    wrong = numpy.flatnonzero(~numpy.isfinite(flat))
    if len(wrong):
        raise DataError(f"{path}: column 'logits' has {flat[wrong[0]]} in row {wrong[0] // outputs}")
    return flat.reshape(-1, outputs)
