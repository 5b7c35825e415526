"""A column's values as texts, labels or row numbers; what cannot be one is an error with file, column and row."""

from dataclasses import dataclass
from decimal import Decimal

import pyarrow
from pyarrow import types

from gluegrid.common.errors import DataError, in_one_line
from gluegrid.common.escaping import quoted, shortened
from gluegrid.labels import LabelReader

LARGEST_IDX = 2**63 - 1


@dataclass(frozen=True)
class Place:
    """Where some values of a column stand; `first_row` is the number of their first row in the file, from 0.

    `lines` are those that their rows begin in, of a file of lines.
    """

    file: str
    column: str
    first_row: int
    lines: list[int] | None = None

    def error(self, problem: str) -> DataError:
        """Return an error about the whole column."""
        return DataError(f"{self.file}: column {self.column!r} {problem}")

    def error_in(self, row: int, problem: str, advice: str = "") -> DataError:
        """Return an error about one of these values."""
        line = f" (line {self.lines[row]})" if self.lines else ""
        return self.error(f"has {problem} in row {self.first_row + row}{line}{advice}")


def texts_of(place: Place, column: pyarrow.Array) -> list[str]:
    """Return a column's texts. Raises DataError for another type, for nulls and for what is no UTF-8."""
    if not (is_text(column.type) or types.is_null(column.type)):
        raise place.error(f"holds {shortened(str(column.type))}, not text")
    texts = values_of(place, column)
    if None in texts:
        raise place.error_in(texts.index(None), "no text")
    return texts


def texts_in(place: Place, values: list) -> list[str]:
    """Return values of any kind, if they are texts. Raises DataError for others and for what is no UTF-8."""
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise place.error_in(row, "no text" if value is None else f"{_described(value)}, which is no text,")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise place.error_in(row, "text that is not UTF-8", f": {quoted(value)}") from None
    return values


def labels_of(place: Place, column: pyarrow.Array, reader: LabelReader) -> list[int] | list[float]:
    """Return a column's labels: numbers of classes, or a regression's numbers. Raises DataError."""
    if not (_is_number(column.type) or is_text(column.type) or types.is_null(column.type)):
        raise place.error(f"holds {shortened(str(column.type))}, which is no label; allowed: {reader.allowed}")
    return labels_in(place, values_of(place, column), reader)


def labels_in(place: Place, values: list, reader: LabelReader) -> list[int] | list[float]:
    """Return values of any kind as labels. Raises DataError for the first that is none."""
    labels = [reader.read(value) for value in values]
    if None in labels:
        row = labels.index(None)
        raise place.error_in(row, _described(values[row]), reader.advice(values[row]))
    return labels


def idx_of(place: Place, column: pyarrow.Array) -> list[int]:
    """Return the examples' own numbers. Raises DataError for nulls and for more than 64 bits with a sign hold."""
    numbers = values_of(place, column)
    for row, number in enumerate(numbers):
        if number is None or number > LARGEST_IDX:
            raise place.error_in(row, _described(number), "; number all examples, or remove the column")
    return numbers


def is_text(kind: pyarrow.DataType) -> bool:
    """Tell whether a column of this type holds text, or categories of text."""
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _is_number(kind: pyarrow.DataType) -> bool:
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind)


def values_of(place: Place, column: pyarrow.Array) -> list:
    """Return a column's values as Python's. Raises DataError for text that is no UTF-8, and what cannot be read."""
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


def _described(value: object) -> str:
    if value is None:
        return "no value"
    return shortened(str(value)) if isinstance(value, Decimal) else quoted(value)
