"""Files of rows in the formats that a task's data may have."""

from collections.abc import Iterator
from pathlib import Path

from gluegrid.columns import Place, values_of
from gluegrid.delimited_files import read_delimited
from gluegrid.json_files import read_json_rows
from gluegrid.parquet_files import label_names, read_batches
from gluegrid.raw_rows import RawRows


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
