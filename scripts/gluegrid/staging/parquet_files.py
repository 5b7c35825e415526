"""Parquet files, read some rows at a time, so that memory does not grow with them; what is damaged is named."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet
from pyarrow.parquet import ParquetFile

from gluegrid.common.errors import DataError, in_one_line
from gluegrid.staging.columns import is_text
from gluegrid.staging.label_names import names_in_features
from gluegrid.staging.raw_rows import ROWS_AT_ONCE, check_columns

BYTES_AT_ONCE = 8_000_000  # of a row group's content; texts take about 50 times that while they become tokens
# What pyarrow raises for damaged files: names that are no UTF-8 are ValueErrors, columns out of range IndexErrors.
UNREADABLE = (pyarrow.ArrowException, OSError, ValueError, LookupError)


def read_batches(
    path: Path, shown: str, wanted: list[str], numbers: str | None = None, optional: Sequence[str] = ()
) -> Iterator[pyarrow.RecordBatch]:
    """Yield a file's rows: the wanted columns, one of whole `numbers` and the optional ones if the file has them.

    Batches never span row groups. `shown` names the file in messages. Raises DataError for a damaged file and for
    columns that are not there.
    """
    try:
        file = ParquetFile(path, page_checksum_verification=True)
        names = file.schema_arrow.names
        columns = [*wanted, *(name for name in optional if name in names)]
        check_columns(shown, names, [*columns, numbers] if numbers in names else columns)
        if numbers in names and pyarrow.types.is_integer(file.schema_arrow.field(numbers).type):
            columns.append(numbers)
    except UNREADABLE as error:
        raise DataError(f"{shown}: is no readable parquet file: {in_one_line(error)}") from error
    rows = 0
    with file:
        for group in range(file.num_row_groups):
            for batch in _read_group(file, group, columns, shown, rows):
                rows += len(batch)
                yield batch
        if rows != file.metadata.num_rows:
            claim = f"it has {rows} rows and claims {file.metadata.num_rows}"
            raise DataError(f"{shown}: is damaged, for {claim}; write it again")


def label_names(path: Path) -> dict[str, list[str]]:
    """Return the names that a file's metadata, as `datasets` writes them, have for the numbers of its columns.

    A file that cannot be read has none: whoever reads its rows says what is wrong.
    """
    try:
        with ParquetFile(path) as file:
            written = json.loads((file.schema_arrow.metadata or {}).get(b"huggingface", b"null"))
    except (*UNREADABLE, RecursionError):
        return {}
    info = written.get("info") if isinstance(written, dict) else None
    return names_in_features(info.get("features")) if isinstance(info, dict) else {}


def holds_text(path: Path, column: str) -> bool:
    """Tell whether a column holds text, so that its labels are read by name; not where the file cannot be read."""
    try:
        kind = pyarrow.parquet.read_schema(path).field(column).type
    except UNREADABLE:
        return False
    return is_text(kind)


def _read_group(
    file: ParquetFile, group: int, columns: list[str], shown: str, first_row: int
) -> Iterator[pyarrow.RecordBatch]:
    content = file.metadata.row_group(group)
    rows_of_that_size = BYTES_AT_ONCE * content.num_rows // max(1, content.total_byte_size)
    try:
        yield from file.iter_batches(max(1, min(ROWS_AT_ONCE, rows_of_that_size)), [group], columns)
    except UNREADABLE as error:
        broken = [column for column in columns if not _is_readable(file, group, column)]
        where = f"{shown}: {f'column {broken[0]!r}' if broken else 'it'} cannot be read at row {first_row} or after it"
        raise DataError(f"{where}: {in_one_line(error)}") from error


def _is_readable(file: ParquetFile, group: int, column: str) -> bool:
    try:
        for _ in file.iter_batches(ROWS_AT_ONCE, [group], [column]):
            pass
    except UNREADABLE:
        return False
    return True
