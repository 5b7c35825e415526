"""Files of rows in the formats that a task's data may have."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from gluegrid.common.errors import DataError, in_one_line
from gluegrid.common.escaping import quoted
from gluegrid.common.files import unique_keys
from gluegrid.staging.columns import Place, values_of
from gluegrid.staging.delimited_files import read_delimited
from gluegrid.staging.parquet_files import label_names, read_batches
from gluegrid.staging.raw_rows import RawRows, check_columns, in_batches

LIST_KEY = "data"  # as in SQuAD's files, and with run_glue.py's neighbours that read such


def read_rows(path: Path, shown: str, wanted: list[str], optional: list[str]) -> Iterator[RawRows]:
    """Yield a file's rows: the wanted columns, and the optional ones that it has. `shown` names it in messages.

    Raises DataError for a file that cannot be read, and for columns that are not there.
    """
    return READERS[path.suffix.lower()](path, shown, wanted, optional)


def own_label_names(path: Path) -> dict[str, list[str]]:
    """Return the names that a file itself has for the numbers of its columns: only parquet files may have any."""
    return label_names(path) if READERS[path.suffix.lower()] is _read_parquet else {}


def _read_parquet(path: Path, shown: str, wanted: list[str], optional: list[str]) -> Iterator[RawRows]:
    first = 0
    for batch in read_batches(path, shown, wanted, optional=optional):
        names = batch.schema.names
        yield RawRows(first, {name: values_of(Place(shown, name, first), batch.column(name)) for name in names})
        first += len(batch)


def _read_json(path: Path, shown: str, wanted: list[str], optional: list[str]) -> Iterator[RawRows]:
    """Yield a file's objects: the wanted keys, and the optional ones that the first has; what one lacks is None."""
    names: list[str] = []
    for first, batch in in_batches(_objects(path, shown)):
        if first == 0:
            there = list(batch[0][1])
            check_columns(shown, there, wanted)
            names = [name for name in (*wanted, *optional) if name in there]
        columns = {name: [row.get(name) for _, row in batch] for name in names}
        lines = [line for line, _ in batch]
        yield RawRows(first, columns, None if None in lines else lines)


def _objects(path: Path, shown: str) -> Iterator[tuple[int | None, dict]]:
    """Yield the objects of a file with the line of each, where they stand in lines."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as stream:
        is_of_lines = path.suffix.lower() == ".jsonl"
        values = _values_of_lines(stream, shown) if is_of_lines else _values_of_list(stream.read(), shown)
        for number, (line, value) in enumerate(values):
            if not isinstance(value, dict):
                raise DataError(f"{shown}: row {number} is no object but {quoted(value)}")
            yield line, value


def _values_of_lines(stream: TextIO, shown: str) -> Iterator[tuple[int, object]]:
    for line, text in enumerate(stream, start=1):
        if text.strip():
            yield line, _parsed(text, f"{shown}: line {line}")


def _values_of_list(text: str, shown: str) -> Iterator[tuple[None, object]]:
    content = _parsed(text, shown)
    rows = content.get(LIST_KEY) if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise DataError(f"{shown}: holds no list of objects, neither as it is nor under {LIST_KEY!r}")
    return ((None, row) for row in rows)


def _parsed(text: str, where: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: cannot be read as JSON: {in_one_line(error)}") from error


READERS = {
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".json": _read_json,
    ".jsonl": _read_json,
    ".parquet": _read_parquet,
}
