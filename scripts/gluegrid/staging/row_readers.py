"""Readers of rows, by the format of a task's files."""

import codecs
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from gluegrid.common.errors import DataError, in_one_line
from gluegrid.common.escaping import quoted
from gluegrid.common.files import check_no_lfs_pointer, unique_keys
from gluegrid.experiment.file_formats import TEXTS, format_of
from gluegrid.experiment.task import Task
from gluegrid.staging.columns import Place, values_of
from gluegrid.staging.delimited_files import read_delimited
from gluegrid.staging.parquet_files import label_names, read_columns
from gluegrid.staging.raw_rows import RawRows, check_columns, in_batches
from gluegrid.staging.text_files import advice_on_encoding, lines_of

LIST_KEY = "data"  # as in SQuAD's files
DEEPEST_KEY = 8  # nested objects or structs, whose keys are named `a.b`
FEW = 3  # this many texts are not UTF-8 by chance
MOST_KEYS = 1000  # listed in a message
ESCAPED = re.compile("[\udc80-\udcff]")  # bytes that the encoding does not allow


def read_rows(path: Path, shown: str, task: Task, may_be_hidden: bool) -> Iterator[RawRows]:
    """Yield a file's rows: the columns of a task's texts and labels. If labels may be hidden, their column is optional.

    `shown` names the file in messages. Raise DataError for a file that cannot be read and for missing columns.
    """
    check_no_lfs_pointer(path, shown)
    wanted, label = task.text_columns, [task.label_column]
    required, optional = (wanted, label) if may_be_hidden else ([*wanted, *label], [])
    kind = format_of(path.name)[0]
    of_utf8 = Counter[bool]()
    for raw in READERS[kind](path, shown, task, required, optional):
        if kind in TEXTS:
            _check_encoding(raw, path, shown, task.encoding)
            of_utf8.update(_seem_to_be_utf8(raw, task.encoding))
        yield raw
    if of_utf8[True] >= FEW and not of_utf8[False]:
        advice = "leave `encoding` out, and save the task's other files as UTF-8"
        raise DataError(f"{shown}: all its texts seem to be UTF-8, but `encoding` is {task.encoding}; {advice}")


def own_label_names(path: Path) -> dict[str, list[str]]:
    """Return the class names in a file's own metadata, which only parquet and Arrow files have."""
    return label_names(path) if format_of(path.name)[0] not in TEXTS else {}


def _check_encoding(raw: RawRows, path: Path, shown: str, encoding: str | None) -> None:
    """Raise DataError for the first value with bytes that the file's encoding does not allow."""
    for name, values in raw.columns.items():
        for row, value in enumerate(values):
            if isinstance(value, str) and not value.isascii() and ESCAPED.search(value):
                problem = f"text that is not {encoding or 'UTF-8'}"
                advice = advice_on_encoding(path, shown, encoding)
                raise Place(shown, name, raw.first_row, raw.lines).error_in(row, problem, f": {quoted(value)}{advice}")


def _seem_to_be_utf8(raw: RawRows, encoding: str | None) -> Iterator[bool]:
    """Yield for each non-ASCII value whether its bytes, read in another encoding, are valid UTF-8 too."""
    if encoding is None or codecs.lookup(encoding).name.startswith("utf"):
        return
    for values in raw.columns.values():
        for value in values:
            if isinstance(value, str) and not value.isascii():
                try:
                    value.encode(encoding).decode()
                except UnicodeError:
                    yield False
                else:
                    yield True


def _read_table(path: Path, shown: str, _task: Task, wanted: list[str], optional: list[str]) -> Iterator[RawRows]:
    """Yield the rows of a parquet or Arrow file."""
    first = 0
    for columns in read_columns(path, shown, wanted, optional):
        rows = RawRows(first, {name: values_of(Place(shown, name, first), column) for name, column in columns.items()})
        yield rows
        first += len(rows)


def _read_json(path: Path, shown: str, task: Task, wanted: list[str], optional: list[str]) -> Iterator[RawRows]:
    """Yield a file's objects: the wanted keys, and the optional ones that the first has; missing values are None."""
    names: list[str] = []
    for first, batch in in_batches(_objects(path, shown, task.encoding)):
        if first == 0:
            top = batch[0][1]
            asked = [*wanted, *optional]
            check_columns(shown, [*top, *_keys_within(top)], wanted)
            names = [name for name in asked if _has(top, name)]
        columns = {name: [_value(row, name) for _, row in batch] for name in names}
        lines = [line for line, _ in batch]
        yield RawRows(first, columns, None if None in lines else lines)


def _has(row: Mapping, name: str) -> bool:
    return any(True for _ in _values(row, name))


def _value(row: Mapping, name: str) -> object:
    """Return an object's value by a key, or by the keys of nested objects joined with dots; else None."""
    return next(_values(row, name), None)


def _values(row: Mapping, name: str) -> Iterator[object]:
    """Yield the values that a name may stand for, first that of the key with this very name, dots included."""
    if name in row:
        yield row[name]
    for match in re.finditer(r"\.", name):
        inner = row.get(name[: match.start()])
        if isinstance(inner, dict):
            yield from _values(inner, name[match.end() :])


def _keys_within(row: Mapping, depth: int = DEEPEST_KEY) -> list[str]:
    """Return the keys of nested objects, as `a.b`."""
    names: list[str] = []
    for key, value in row.items():
        if isinstance(value, dict) and depth and len(names) < MOST_KEYS:
            names += [
                name for inner in (*value, *_keys_within(value, depth - 1)) if (name := f"{key}.{inner}") not in row
            ]
    return list(dict.fromkeys(names))


def _objects(path: Path, shown: str, encoding: str | None) -> Iterator[tuple[int | None, dict]]:
    """Yield the objects of a file, with the line of each if the file has lines."""
    lines = lines_of(path, shown, encoding)
    is_of_lines = format_of(path.name)[0] == ".jsonl"
    values = _values_of_lines(lines, shown) if is_of_lines else _values_of_text("".join(lines), shown)
    for number, (line, value) in enumerate(values):
        if not isinstance(value, dict):
            raise DataError(f"{shown}: row {number} is {quoted(value)}, not an object")
        yield line, value


def _values_of_lines(stream: Iterable[str], shown: str) -> Iterator[tuple[int, object]]:
    for line, text in enumerate(stream, start=1):
        if text.strip():
            yield line, _parsed(text, f"{shown}: line {line}")


def _values_of_text(text: str, shown: str) -> Iterator[tuple[int | None, object]]:
    """Yield the values of a list, or of lines, which some .json files have."""
    try:
        content = json.loads(text, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        if getattr(error, "msg", "") == "Extra data" and text.lstrip().startswith("{"):
            return _values_of_lines(io.StringIO(text), shown)
        raise _unreadable(shown, error) from error
    rows = content.get(LIST_KEY) if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise DataError(f"{shown}: must hold a list of objects, at its top level or under {LIST_KEY!r}")
    return ((None, row) for row in rows)


def _parsed(text: str, where: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise _unreadable(where, error) from error


def _unreadable(where: str, error: Exception) -> DataError:
    return DataError(f"{where}: cannot be read as JSON: {in_one_line(error)}")


READERS = {
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".json": _read_json,
    ".jsonl": _read_json,
    ".parquet": _read_table,
    ".arrow": _read_table,
}
