"""A column's values as texts, labels or row numbers; errors name file, column and row."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import pyarrow
from pyarrow import types

from gluegrid.common.errors import DataError, MisfitError, in_one_line
from gluegrid.common.escaping import listed, nearest, quoted, shortened
from gluegrid.experiment.task import Task
from gluegrid.staging.label_names import LabelNames

BY_NAME = ", or list the files under `files:`, so that their labels are read by name"
HIDDEN_LABEL = -1  # GLUE's test labels
LARGEST_IDX = 2**63 - 1
LARGEST_NUMBER = 3.4028234663852886e38  # in float32, in which a regression's labels are stored
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class LabelReader:
    """Reads the labels of a split by name or value: `yes`, 1, 1.0, true and the text "1" may all be class 1.

    If the names are numbers (stars from 1 to 5), texts are names and never class numbers. With `as_written`, which is
    for files whose labels nobody has converted to class numbers, numbers are names too, hidden labels may be empty,
    and true and false may be names.

    If the data name their numbers (`names`), `as_written` reads a number as the class of that name. Otherwise numbers
    are class numbers as they stand, and none is accepted if the names contradict the task's labels.
    """

    def __init__(self, task: Task, may_be_hidden: bool, as_written: bool = False, names: LabelNames | None = None):
        self.names = names if task.labels else None
        self._by_number = self._classes_by_number(task.labels, as_written) if self.names else None
        names = task.labels or []
        self.task, self.may_be_hidden, self.as_written = task, may_be_hidden, as_written
        self._by_name = {name: number for number, name in enumerate(names)}
        self._by_value = {float(name): number for number, name in enumerate(names) if NUMBER.fullmatch(name)}
        lowered = {name.lower(): number for number, name in enumerate(names)}
        self._by_truth = lowered if as_written and lowered.keys() >= {"true", "false"} else {}

    def _classes_by_number(self, labels: list[str], as_written: bool) -> dict[int, int] | None:
        """Return the class of each number in the data, by its name; None if they are the class numbers already."""
        if self.names.are_strange_to(labels):
            return {}
        classes = self.names.classes(labels) or None
        if as_written:
            return classes
        return {} if self.names.contradict(labels) else None

    def read(self, value: object) -> int | float | None:
        """Return a class number or a regression's value; None if the value is not a label."""
        if self.as_written and self.may_be_hidden and value in (None, ""):
            return HIDDEN_LABEL
        if isinstance(value, bool) and self._by_truth:
            return self._by_truth[str(value).lower()]
        if isinstance(value, str) and value in self._by_name:
            return self._by_name[value]
        number = _as_number(value)
        if number is None or not abs(number) <= LARGEST_NUMBER:
            return None
        if self.task.is_regression:
            return float(number)
        if isinstance(value, str) and float(number) in self._by_value:
            return self._by_value[float(number)]
        if self._by_number is not None:
            return self._by_number.get(float(number), self._hidden(number))
        if self._by_value and (self.as_written or isinstance(value, str)):
            return self._by_value.get(float(number), self._hidden(number))
        is_class = number == int(number) and 0 <= number < self.task.number_of_outputs
        return int(number) if is_class else self._hidden(number)

    def _hidden(self, number: int | float | Decimal) -> int | None:
        return HIDDEN_LABEL if self.may_be_hidden and number == HIDDEN_LABEL else None

    def advice(self, value: object) -> str:
        """Return what is allowed instead of a value that is not a label, and what was probably meant."""
        if self._by_number is not None and _as_number(value) not in (None, HIDDEN_LABEL):
            labels = self.task.labels
            other_order = "" if self.as_written or self.names.are_strange_to(labels) else BY_NAME
            return f": {self.names.difference(labels)}; write `labels: [{listed(self.names.names)}]`{other_order}"
        meant = nearest(value, list(self._by_name)) if isinstance(value, str) else None
        hint = f". Did you mean {meant!r}?" if meant else ""
        if _as_number(value) == HIDDEN_LABEL and self._by_name:
            hint = f"; {HIDDEN_LABEL} hides a label, which only splits under `test:` may have"
        return f"; allowed: {self.allowed}{hint}"

    @property
    def allowed(self) -> str:
        """The allowed labels, in words."""
        if self.task.labels is None:
            return "a number"
        names = shortened(", ".join(self.task.labels))
        numbers = names if self._by_value and self.as_written else f"0 to {len(self.task.labels) - 1} ({names})"
        return f"{numbers}, or {HIDDEN_LABEL} for a hidden label" if self.may_be_hidden else numbers


def _as_number(value: object) -> int | float | Decimal | None:
    if isinstance(value, str):
        return float(value) if NUMBER.fullmatch(value.strip()) else None
    return value if isinstance(value, int | float | Decimal) else None


@dataclass(frozen=True)
class Place:
    """The place of some values of a column; `first_row` is the number of their first row in the file, from 0.

    `lines` are the lines in which their rows begin, if the file has lines.
    """

    file: str
    column: str
    first_row: int
    lines: list[int] | None = None

    def error(self, problem: str) -> DataError:
        """Return an error about the whole column."""
        return DataError(self._said(problem))

    def error_in(self, row: int, problem: str, advice: str = "") -> DataError:
        """Return an error about one of these values."""
        return self.error(self._in_row(row, problem, advice))

    def no_text(self, kind: pyarrow.DataType) -> MisfitError:
        """Return the error for a column whose type is not text."""
        return MisfitError(self._said(f"holds {shortened(str(kind))}, not text"), column=self.column)

    def no_labels(self, kind: pyarrow.DataType, allowed: str) -> MisfitError:
        """Return the error for a column whose type cannot hold labels."""
        problem = f"holds {shortened(str(kind))}, which cannot be labels; allowed: {allowed}"
        return MisfitError(self._said(problem), "labels")

    def no_label(self, row: int, value: object, advice: str) -> MisfitError:
        """Return the error for a value that is not a label."""
        return MisfitError(self._said(self._in_row(row, _described(value), advice)), "labels")

    def _said(self, problem: str) -> str:
        return f"{self.file}: column {self.column!r} {problem}"

    def _in_row(self, row: int, problem: str, advice: str) -> str:
        line = f" (line {self.lines[row]})" if self.lines else ""
        return f"has {problem} in row {self.first_row + row}{line}{advice}"


def texts_of(place: Place, column: pyarrow.Array) -> list[str]:
    """Return a column's texts. Raise DataError for another type, for nulls and for bytes that are not UTF-8."""
    if not (is_text(column.type) or types.is_null(column.type)):
        raise place.no_text(column.type)
    texts = values_of(place, column)
    if None in texts:
        raise place.error_in(texts.index(None), "no text")
    return texts


def texts_in(place: Place, values: list) -> list[str]:
    """Return the values if all are texts. Raise DataError for others and for text that is not UTF-8."""
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise place.error_in(row, "no text" if value is None else f"{_described(value)}, which is not text,")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise place.error_in(row, "text that is not UTF-8", f": {quoted(value)}") from None
    return values


def labels_of(place: Place, column: pyarrow.Array, reader: LabelReader) -> list[int] | list[float]:
    """Return a column's labels: class numbers, or a regression's values. Raise DataError for other values."""
    is_number = _is_any(column.type, types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
    if not (is_number or is_text(column.type) or types.is_null(column.type)):
        raise place.no_labels(column.type, reader.allowed)
    return labels_in(place, values_of(place, column), reader)


def labels_in(place: Place, values: list, reader: LabelReader) -> list[int] | list[float]:
    """Return the values as labels. Raise DataError for the first that is not a label."""
    labels = [reader.read(value) for value in values]
    if None in labels:
        row = labels.index(None)
        raise place.no_label(row, values[row], reader.advice(values[row]))
    return labels


def idx_of(place: Place, column: pyarrow.Array) -> list[int]:
    """Return the examples' own numbers. Raise DataError for nulls and for numbers beyond int64."""
    numbers = values_of(place, column)
    for row, number in enumerate(numbers):
        if number is None or number > LARGEST_IDX:
            raise place.error_in(row, _described(number), "; number all examples, or remove the column")
    return numbers


def is_text(kind: pyarrow.DataType) -> bool:
    """Tell whether a column of this type holds text or categories of text."""
    return _is_any(kind, types.is_string, types.is_large_string, types.is_string_view)


def _is_any(kind: pyarrow.DataType, *tests: Callable[[pyarrow.DataType], bool]) -> bool:
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return any(test(kind) for test in tests)


def values_of(place: Place, column: pyarrow.Array) -> list:
    """Return a column's values as Python objects. Raise DataError if they are not UTF-8 or cannot be read."""
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
