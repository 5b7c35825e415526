"""CSV and TSV files as people and spreadsheets write them: a header, and quotes around what holds separators or lines.

Python's own reader is strict about quotes where pyarrow's is not: of `"one,1` and `"two,0` that makes a single row.
"""

import csv
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from gluegrid.errors import DataError
from gluegrid.raw_rows import RawRows, check_columns, in_batches

DELIMITERS = {".csv": ",", ".tsv": "\t"}


def read_delimited(path: Path, shown: str, wanted: list[str], optional: list[str]) -> Iterator[RawRows]:
    """Yield a file's rows: the wanted columns, and the optional ones that it has, all as text; empty lines are no rows.

    `shown` names the file in messages. Bytes that are not UTF-8 become halves of surrogate pairs. Raises DataError.
    """
    delimiter = DELIMITERS[path.suffix.lower()]
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        rows = _lines(csv.reader(stream, delimiter=delimiter, strict=True), shown)
        header = _header(rows, shown, delimiter, wanted)
        there = [*wanted, *(name for name in optional if name in header)]
        check_columns(shown, header, there)
        places = {name: header.index(name) for name in there}
        for first, batch in in_batches(_checked(rows, shown, header, delimiter)):
            columns = {name: [fields[place] for _, fields in batch] for name, place in places.items()}
            yield RawRows(first, columns, [line for line, _ in batch])


def _lines(reader: Iterator[list[str]], shown: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the fields of each row that has any, and the line it begins in."""
    line = 1
    try:
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        advice = "a text that holds quotes stands in quotes, and its own are doubled"
        raise DataError(f"{shown}: cannot be read at line {line}: {error}; {advice}") from error


def _header(rows: Iterator[tuple[int, list[str]]], shown: str, delimiter: str, wanted: list[str]) -> list[str]:
    _, header = next(rows, (0, []))
    if not header:
        raise DataError(f"{shown}: is empty; its first line must name the columns")
    if "\0" in "".join(header):
        raise DataError(f"{shown}: is not UTF-8; save it as UTF-8")
    is_split = len(header) > 1 or not any(mark in header[0] for mark in ";\t,|")
    name = {",": "commas (.csv)", "\t": "tabs (.tsv)"}[delimiter]
    if not is_split:
        check_columns(shown, header, wanted, f"; columns must be separated by {name}")
    return header


def _checked(
    rows: Iterable[tuple[int, list[str]]], shown: str, header: list[str], delimiter: str
) -> Iterator[tuple[int, list[str]]]:
    for number, (line, fields) in enumerate(rows):
        if len(fields) != len(header):
            problem = f"has {len(fields)} columns and the header {len(header)}"
            raise DataError(f"{shown}: row {number} (line {line}) {problem}; put texts that hold separators in quotes")
        # Files that do not use quotes have texts that begin with one; it would swallow rows up to the next.
        if delimiter == "\t" and any("\t" in field for field in fields):
            raise DataError(f"{shown}: row {number} (line {line}) has a tab within quotes; write the file as .csv")
        yield line, fields
