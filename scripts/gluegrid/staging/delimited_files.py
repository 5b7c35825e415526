"""CSV and TSV files as people and spreadsheets write them: a header, and quotes around what holds separators or lines.

Python's own reader is strict about quotes where pyarrow's is not: of `"one,1` and `"two,0` that makes a single row.
Where even it takes several lines for a row, RawRows.spans says so. A .tsv may also be written without quoting, as
GLUE's own are, and is read so where it can be read in no other way.
"""

import csv
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from gluegrid.common.errors import DataError
from gluegrid.staging.raw_rows import LIKE_ROWS, RawRows, Span, check_columns, in_batches

logger = logging.getLogger(__name__)

DELIMITERS = {".csv": ",", ".tsv": "\t"}
WITH_QUOTES, WITHOUT_QUOTES = csv.QUOTE_MINIMAL, csv.QUOTE_NONE

Row = tuple[list[str], list[str]]  # its fields, and the lines that it was read from


def read_delimited(path: Path, shown: str, wanted: list[str], optional: list[str]) -> Iterator[RawRows]:
    """Yield a file's rows: the wanted columns, and the optional ones that it has, all as text; empty lines are no rows.

    `shown` names the file in messages. Bytes that are not UTF-8 become halves of surrogate pairs. Raises DataError.
    """
    delimiter = DELIMITERS[path.suffix.lower()]
    csv.field_size_limit(sys.maxsize)
    quoting = _quoting_of_tsv(path, shown, wanted) if delimiter == "\t" else WITH_QUOTES
    with _open(path) as stream:
        rows = _rows(stream, shown, delimiter, quoting, wanted)
        _, (header, _) = next(rows)
        there = [*wanted, *(name for name in optional if name in header)]
        check_columns(shown, header, there)
        places = {name: header.index(name) for name in there}
        for first, batch in in_batches(rows):
            columns = {name: [fields[place] for _, (fields, _) in batch] for name, place in places.items()}
            spans = [
                Span(first + row, line, line + len(lines) - 1, _as_rows_of_their_own(lines, delimiter, header))
                for row, (line, (_, lines)) in enumerate(batch)
                if len(lines) > 1
            ]
            yield RawRows(first, columns, [line for line, _ in batch], spans)


def _open(path: Path) -> TextIO:
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _quoting_of_tsv(path: Path, shown: str, wanted: list[str]) -> int:
    """Return whether a file of tabs is written with quotes around texts. DataError says where the better try ended."""
    ends: list[tuple[int, DataError]] = []
    for quoting in (WITH_QUOTES, WITHOUT_QUOTES):
        reached = 0
        try:
            with _open(path) as stream:
                for line, _ in _rows(stream, shown, "\t", quoting, wanted):
                    reached = line
            if quoting == WITHOUT_QUOTES:
                logger.info("%s: is written without quoting; quotes are signs of its texts", shown)
            return quoting
        except DataError as error:
            ends.append((reached, error))
    _, error = max(ends, key=lambda end: end[0])
    raise error


def _rows(stream: TextIO, shown: str, delimiter: str, quoting: int, wanted: list[str]) -> Iterator[tuple[int, Row]]:
    """Yield the header, which has the wanted columns, and each row with the number of the line it begins in."""
    rows = _parsed(stream, shown, delimiter, quoting)
    line, (header, lines) = first = next(rows, (0, ([], [])))
    _check_header(header, shown, delimiter, wanted)
    if len(lines) > 1 and _as_rows_of_their_own(lines, delimiter, header):
        where = f"from line {line} to line {line + len(lines) - 1}"
        raise DataError(f"{shown}: the header is in quotes {where}, {LIKE_ROWS}")
    yield first
    for number, (line, (fields, lines)) in enumerate(rows):
        if len(fields) != len(header):
            problem = f"has {len(fields)} columns and the header {len(header)}"
            is_quoted = quoting == WITH_QUOTES
            advice = "put texts that hold separators in quotes" if is_quoted else r"a text without quotes holds no \t"
            raise DataError(f"{shown}: row {number} (line {line}) {problem}; {advice}{_goes_on(line, lines)}")
        # Files that do not use quotes have texts that begin with one; it would swallow rows up to the next.
        if delimiter == "\t" and quoting == WITH_QUOTES and any("\t" in field for field in fields):
            advice = "write the file as .csv or .jsonl" + _goes_on(line, lines)
            raise DataError(f"{shown}: row {number} (line {line}) has a tab within quotes; {advice}")
        yield line, (fields, lines)


def _parsed(stream: TextIO, shown: str, delimiter: str, quoting: int) -> Iterator[tuple[int, Row]]:
    """Yield the fields of each row that has any, and its lines, with the number of the first."""
    lines: list[str] = []
    reader = csv.reader(_kept(stream, lines), delimiter=delimiter, quoting=quoting, strict=True)
    line = 1
    try:
        for fields in reader:
            if fields:
                yield line, (fields, lines.copy())
            line = reader.line_num + 1
            lines.clear()
    except csv.Error as error:
        problem = str(error).replace("\t", r"\t")
        advice = "a text that holds quotes stands in quotes, and its own are doubled" + _goes_on(line, lines)
        raise DataError(f"{shown}: cannot be read at line {line}: {problem}; {advice}") from error


def _kept(stream: TextIO, lines: list[str]) -> Iterator[str]:
    for line in stream:
        lines.append(line)
        yield line


def _goes_on(line: int, lines: list[str]) -> str:
    """Return, for the end of a message, how far quotes have led that begin in a line and end in another."""
    return f" (by its quotes, the text goes on to line {line + len(lines) - 1})" if len(lines) > 1 else ""


def _check_header(header: list[str], shown: str, delimiter: str, wanted: list[str]) -> None:
    if not header:
        raise DataError(f"{shown}: is empty; its first line must name the columns")
    if "\0" in "".join(header):
        raise DataError(f"{shown}: is not UTF-8; save it as UTF-8")
    is_split = len(header) > 1 or not any(mark in header[0] for mark in ";\t,|")
    name = {",": "commas (.csv)", "\t": "tabs (.tsv)"}[delimiter]
    check_columns(shown, header, wanted, "" if is_split else f"; columns must be separated by {name}")


def _as_rows_of_their_own(lines: list[str], delimiter: str, header: list[str]) -> list[dict[str, str]]:
    """Return a row's first and last line as the two rows that they may be; none where their columns are not enough.

    The quotes that lead from one to the other are then those of texts, and what stands between them is not looked at.
    """
    *before, opened = next(csv.reader([lines[0].rstrip("\r\n")], delimiter=delimiter))
    closed, *after = next(csv.reader([f'"{lines[-1]}'], delimiter=delimiter))
    rows = [[*before, *opened.split(delimiter)], [*closed.split(delimiter), *after]]
    is_enough = all(len(fields) == len(header) for fields in rows)
    return [dict(zip(header, fields, strict=True)) for fields in rows] if is_enough else []
