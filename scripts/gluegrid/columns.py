"""A column's values as texts, labels or row numbers; what cannot be one is an error with file, column and row."""

from dataclasses import dataclass
from decimal import Decimal

import pyarrow
from pyarrow import types

from gluegrid.errors import DataError
from gluegrid.library_errors import in_one_line
from gluegrid.quoting import quoted, shortened
from gluegrid.tasks import Task

HIDDEN_LABEL = -1  # GLUE's test labels
LARGEST_IDX = 2**63 - 1
LARGEST_NUMBER = 3.4028234663852886e38  # of 32 bits, as which a regression's labels are stored


@dataclass(frozen=True)
class Place:
    """Where some values of a column stand; `first_row` is the number of their first row in the file, from 0."""

    file: str
    column: str
    first_row: int

    def error(self, problem: str) -> DataError:
        """Return an error about the whole column."""
        return DataError(f"{self.file}: column {self.column!r} {problem}")

    def error_in(self, row: int, problem: str, advice: str = "") -> DataError:
        """Return an error about one of these values."""
        return self.error(f"has {problem} in row {self.first_row + row}{advice}")


def texts_of(place: Place, column: pyarrow.Array) -> list[str]:
    """Return a column's texts. Raises DataError for another type, for nulls and for what is no UTF-8."""
    if not (_is_text(column.type) or types.is_null(column.type)):
        raise place.error(f"holds {shortened(str(column.type))}, not text")
    texts = _values(place, column)
    if None in texts:
        raise place.error_in(texts.index(None), "no text")
    return texts


def labels_of(place: Place, column: pyarrow.Array, task: Task, may_be_hidden: bool) -> list[int] | list[float]:
    """Return a column's labels: numbers of classes, or a regression's numbers. Raises DataError.

    However numbers are stored, they count by value: 1, 1.0 and true are class 1.
    """
    if not (_is_number(column.type) or _is_text(column.type) or types.is_null(column.type)):
        raise place.error(
            f"holds {shortened(str(column.type))}, which is no label; allowed: {_allowed(task, may_be_hidden)}"
        )
    values = _values(place, column)
    if task.is_regression:
        labels = [_number(value) for value in values]
    else:
        least = HIDDEN_LABEL if may_be_hidden else 0
        labels = [_class(value, least, task.number_of_outputs) for value in values]
    if None in labels:
        row = labels.index(None)
        raise place.error_in(row, _described(values[row]), _advice(values[row], task, may_be_hidden))
    return labels


def idx_of(place: Place, column: pyarrow.Array) -> list[int]:
    """Return the examples' own numbers. Raises DataError for nulls and for more than 64 bits with a sign hold."""
    numbers = _values(place, column)
    for row, number in enumerate(numbers):
        if number is None or number > LARGEST_IDX:
            raise place.error_in(row, _described(number), "; number all examples, or remove the column")
    return numbers


def _is_text(kind: pyarrow.DataType) -> bool:
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _is_number(kind: pyarrow.DataType) -> bool:
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind)


def _values(place: Place, column: pyarrow.Array) -> list:
    try:
        return column.to_pylist()
    except UnicodeDecodeError as error:
        row = next(row for row, value in enumerate(column) if not _is_utf8(value))
        raise place.error_in(row, "bytes that are not UTF-8", f": {quoted(error.object)}") from error
    except pyarrow.ArrowException as error:
        raise place.error(f"cannot be read: {in_one_line(error)}") from error


def _is_utf8(value: pyarrow.Scalar) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return False
    return True


def _class(value: object, least: int, classes: int) -> int | None:
    """Return the number of a class, None for what is none."""
    if value is None or isinstance(value, str) or not abs(value) <= classes:
        return None
    number = int(value)
    return number if number == value and least <= number < classes else None


def _number(value: object) -> float | None:
    """Return a number that 32 bits can hold, None for what is none."""
    if value is None or isinstance(value, str) or not abs(value) <= LARGEST_NUMBER:
        return None
    return float(value)


def _described(value: object) -> str:
    if value is None:
        return "no value"
    return shortened(str(value)) if isinstance(value, Decimal) else quoted(value)


def _advice(value: object, task: Task, may_be_hidden: bool) -> str:
    hidden = "; -1 hides a label, which only splits under `test:` may have" if value == HIDDEN_LABEL else ""
    return f"; allowed: {_allowed(task, may_be_hidden)}{'' if task.is_regression else hidden}"


def _allowed(task: Task, may_be_hidden: bool) -> str:
    if task.labels is None:
        return "a number"
    hidden = f", or {HIDDEN_LABEL} where it is hidden" if may_be_hidden else ""
    return f"0 to {len(task.labels) - 1} ({shortened(', '.join(task.labels))}){hidden}"
