"""Read parquet and Arrow files some rows at a time, so that memory stays bounded; errors name the damaged file."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow
import pyarrow.compute
import pyarrow.ipc
import pyarrow.parquet
from pyarrow.parquet import ParquetFile

from gluegrid.common.errors import DataError, in_one_line
from gluegrid.staging.columns import is_text
from gluegrid.staging.label_names import names_in_features
from gluegrid.staging.raw_rows import ROWS_AT_ONCE, check_columns

BYTES_AT_ONCE = 8_000_000  # of a row group's content; tokenizing takes about 50 times that
ARROW_FILE, END_OF_STREAM = b"ARROW1", b"\xff\xff\xff\xff\0\0\0\0"
# What pyarrow raises for damaged files: ValueError for names that are not UTF-8, IndexError for columns out of range.
UNREADABLE = (pyarrow.ArrowException, OSError, ValueError, LookupError)


def read_batches(
    path: Path, shown: str, wanted: list[str], numbers: str | None = None
) -> Iterator[pyarrow.RecordBatch]:
    """Yield a file's rows: the wanted columns, and the integer column `numbers` if the file has it.

    Batches never span row groups. `shown` names the file in messages. Raise DataError for a damaged file and for
    missing columns.
    """
    try:
        file = ParquetFile(path, page_checksum_verification=True)
        names = file.schema_arrow.names
        columns = list(wanted)
        in_structs = [column for column in wanted if column not in names and column.partition(".")[0] in names]
        advice = "; to read a column inside a struct, list the files under `files:`" if in_structs else ""
        check_columns(shown, names, [*columns, numbers] if numbers in names else columns, advice)
        if numbers in names and pyarrow.types.is_integer(file.schema_arrow.field(numbers).type):
            columns.append(numbers)
    except UNREADABLE as error:
        raise DataError(f"{shown}: is not a readable parquet file: {in_one_line(error)}") from error
    rows = 0
    with file:
        for group in range(file.num_row_groups):
            for batch in _read_group(file, group, columns, shown, rows):
                rows += len(batch)
                yield batch
        if rows != file.metadata.num_rows:
            claim = f"it has {rows} rows but claims {file.metadata.num_rows}"
            raise DataError(f"{shown}: is damaged: {claim}; write it again")


def read_columns(path: Path, shown: str, wanted: list[str], optional: list[str]) -> Iterator[dict[str, pyarrow.Array]]:
    """Yield columns of a parquet or Arrow file, some rows at a time: the wanted ones, and the optional ones it has.

    `a.b` is a column inside a struct, unless a column has that very name. Raise DataError as read_batches does.
    """
    schema = _schema_of(path, shown)
    fields = {field.name: field.type for field in schema}
    names = [*schema.names, *_names_in_structs(fields)]
    columns = [*wanted, *(name for name in optional if name in names)]
    check_columns(shown, names, columns)
    paths = {name: _path_of(fields, name) for name in columns}
    tops = list(dict.fromkeys(path_of[0] for path_of in paths.values()))
    batches = read_batches(path, shown, tops) if _is_parquet(path) else arrow_batches(path, shown)
    for batch in batches:
        yield {name: _column_at(batch, path_of) for name, path_of in paths.items()}


def _column_at(batch: pyarrow.RecordBatch, path: list[str]) -> pyarrow.Array:
    column = batch.column(path[0])
    return pyarrow.compute.struct_field(column, path[1:]) if path[1:] else column


def _path_of(fields: Mapping[str, pyarrow.DataType], name: str) -> list[str]:
    """Return the names of the structs around a column, and its own; [] if there is no such column."""
    if name in fields:
        return [name]
    for match in re.finditer(r"\.", name):
        outer = name[: match.start()]
        if rest := _path_of(_fields_of(fields.get(outer)), name[match.end() :]):
            return [outer, *rest]
    return []


def _names_in_structs(fields: Mapping[str, pyarrow.DataType]) -> list[str]:
    inner = {outer: _fields_of(kind) for outer, kind in fields.items()}
    return [f"{outer}.{name}" for outer, of_it in inner.items() for name in (*of_it, *_names_in_structs(of_it))]


def _fields_of(kind: pyarrow.DataType | None) -> dict[str, pyarrow.DataType]:
    return {field.name: field.type for field in kind} if kind is not None and pyarrow.types.is_struct(kind) else {}


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def _schema_of(path: Path, shown: str) -> pyarrow.Schema:
    try:
        if _is_parquet(path):
            return pyarrow.parquet.read_schema(path)
        with _open_arrow(path) as reader:
            return reader.schema
    except UNREADABLE as error:
        kind = "parquet" if _is_parquet(path) else "Arrow"
        raise DataError(f"{shown}: is not a readable {kind} file: {in_one_line(error)}") from error


def _open_arrow(path: Path) -> pyarrow.ipc.RecordBatchStreamReader | pyarrow.ipc.RecordBatchFileReader:
    """Open an Arrow stream, as `save_to_disk` of `datasets` writes it, or an Arrow file.

    Only its missing end shows that a stream was cut off between two batches.
    """
    with path.open("rb") as file:
        is_file = file.read(len(ARROW_FILE)) == ARROW_FILE
        file.seek(max(0, path.stat().st_size - len(END_OF_STREAM)))
        if not is_file and file.read() != END_OF_STREAM:
            raise ValueError("it is cut off, or not an Arrow stream")
    content = pyarrow.memory_map(str(path))
    return pyarrow.ipc.open_file(content) if is_file else pyarrow.ipc.open_stream(content)


def arrow_batches(path: Path, shown: str) -> Iterator[pyarrow.RecordBatch]:
    """Yield an Arrow file's rows with all columns. Raise DataError for a damaged file."""
    rows = 0
    try:
        with _open_arrow(path) as reader:
            is_file = isinstance(reader, pyarrow.ipc.RecordBatchFileReader)
            for batch in map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader:
                batch.validate(full=True)
                for start in range(0, len(batch), ROWS_AT_ONCE):
                    yield batch.slice(start, ROWS_AT_ONCE)
                rows += len(batch)
    except UNREADABLE as error:
        raise DataError(f"{shown}: cannot be read from row {rows} on: {in_one_line(error)}") from error


def label_names(path: Path) -> dict[str, list[str]]:
    """Return the class names of a file's columns from its metadata, as `datasets` writes them.

    Return none for a file that cannot be read: reading its rows will say what is wrong.
    """
    try:
        written = json.loads((_schema_of(path, "").metadata or {}).get(b"huggingface", b"null"))
    except (DataError, ValueError, RecursionError):
        return {}
    info = written.get("info") if isinstance(written, dict) else None
    return names_in_features(info.get("features")) if isinstance(info, dict) else {}


def holds_text(path: Path, column: str) -> bool:
    """Tell whether a column holds text, so that its labels are read by name; False if the file cannot be read."""
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
        where = f"{shown}: {f'column {broken[0]!r}' if broken else 'it'} cannot be read from row {first_row} on"
        raise DataError(f"{where}: {in_one_line(error)}") from error


def _is_readable(file: ParquetFile, group: int, column: str) -> bool:
    try:
        for _ in file.iter_batches(ROWS_AT_ONCE, [group], [column]):
            pass
    except UNREADABLE:
        return False
    return True
