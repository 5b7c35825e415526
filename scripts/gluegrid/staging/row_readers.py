"""Files of rows in the formats that a task's data may have."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from gluegrid.common.errors import DataError, in_one_line
from gluegrid.common.escaping import quoted
from gluegrid.staging.columns import Place, values_of
from gluegrid.staging.delimited_files import read_delimited
from gluegrid.staging.parquet_files import label_names, read_batches
from gluegrid.staging.raw_rows import RawRows, check_columns, in_batches

LIST_KEY = "data"  # as in SQuAD's files, and with run_glue.py's neighbours that read such


def read_json_rows(path: Path, shown: str, wanted: list[str], optional: list[str]) -> Iterator[RawRows]:
    """Yield a file's objects as rows: the wanted keys, and the optional ones that the first object has.

    What an object lacks is None. `shown` names the file in messages. Raises DataError.
    """
    read = _objects_of_lines if path.suffix.lower() == ".jsonl" else _objects_of_list
    names: list[str] = []
    for first, batch in in_batches(_checked(read(path, shown), shown)):
        if first == 0:
            there = list(batch[0][1])
            check_columns(shown, there, wanted)
            names = [name for name in (*wanted, *optional) if name in there]
        columns = {name: [row.get(name) for _, row in batch] for name in names}
        lines = [line for line, _ in batch]
        yield RawRows(first, columns, None if None in lines else lines)


def _objects_of_lines(path: Path, shown: str) -> Iterator[tuple[int, object]]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as stream:
        for line, text in enumerate(stream, start=1):
            if text.strip():
                yield line, _parsed(text, f"{shown}: line {line}")


def _objects_of_list(path: Path, shown: str) -> Iterator[tuple[None, object]]:
    content = _parsed(path.read_text(encoding="utf-8-sig", errors="surrogateescape"), shown)
    rows = content.get(LIST_KEY) if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise DataError(f"{shown}: holds no list of objects, neither as it is nor under {LIST_KEY!r}")
    for row in rows:
        yield None, row


def _checked(rows: Iterable[tuple[int | None, object]], shown: str) -> Iterator[tuple[int | None, dict]]:
    for number, (line, row) in enumerate(rows):
        if not isinstance(row, dict):
            raise DataError(f"{shown}: row {number} is no object but {quoted(row)}")
        yield line, row


def _parsed(text: str, where: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: cannot be read as JSON: {in_one_line(error)}") from error


def _object(pairs: list[tuple[str, object]]) -> dict:
    """Return an object; ValueError where a key stands twice, of which Python would take the last."""
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = next(name for name, _ in pairs if [other for other, _ in pairs].count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in an object")
    return content


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


READERS = {
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".json": read_json_rows,
    ".jsonl": read_json_rows,
    ".parquet": _read_parquet,
}
