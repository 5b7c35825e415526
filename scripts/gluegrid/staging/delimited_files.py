"""CSV and TSV files as people and spreadsheets write them: a header, and quotes around texts with separators or lines.

Python's csv module is strict about quotes where pyarrow is not: pyarrow makes a single row of `"one,1` and `"two,0`.
RawRows.spans lists the rows that take several lines nevertheless. Files may also be written without quoting, as GLUE's
own are: a task declares this with `quoting: none`, and a .tsv that cannot be read otherwise is read this way.
"""

import csv
import logging
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.experiment.file_formats import format_of
from gluegrid.experiment.task import Task
from gluegrid.staging.columns import NUMBER
from gluegrid.staging.raw_rows import LIKE_ROWS, RawRows, Span, check_columns, in_batches
from gluegrid.staging.text_files import advice_on_encoding, lines_of

logger = logging.getLogger(__name__)

DELIMITERS = {".csv": ",", ".tsv": "\t"}
WITH_QUOTES, WITHOUT_QUOTES = csv.QUOTE_MINIMAL, csv.QUOTE_NONE
WORDS_OF_A_NAME = 4  # a field with more words is a text rather than the name of a column

Row = tuple[list[str], list[str]]  # its fields and the lines that it was read from


def read_delimited(path: Path, shown: str, task: Task, wanted: list[str], optional: list[str]) -> Iterator[RawRows]:
    """Yield a file's rows, without empty lines: the wanted columns and the optional ones that it has, all as text.

    `shown` names the file in messages. Bytes that the encoding does not allow become lone surrogates. Raise DataError
    for a file that cannot be read.
    """
    csv.field_size_limit(sys.maxsize)
    table = _Table(path, shown, task, wanted, optional)
    quoting = table.quoting()
    skipped: list[int] = []
    rows = table.rows(quoting, skipped)
    _, (header, _) = next(rows)
    there = [*wanted, *(name for name in optional if name in header)]
    check_columns(shown, header, there)
    places = {name: header.index(name) for name in there}
    is_empty = True
    for first, batch in in_batches(rows):
        is_empty = False
        columns = {name: [fields[place] for _, (fields, _) in batch] for name, place in places.items()}
        spans = [
            table.span(first + row, line, lines, header)
            for row, (line, (_, lines)) in enumerate(batch)
            if len(lines) > 1
        ]
        yield RawRows(first, columns, [line for line, _ in batch], spans, tuple(skipped))
    if is_empty and skipped:
        problem = f"none of its {len(skipped)} rows has the {len(header)} columns of its header or of `columns`"
        raise DataError(f"{shown}: {problem}; separate columns with commas in a .csv, with tabs in a .tsv")


class _Table:
    """A file of rows, to be read with or without quoting."""

    def __init__(self, path: Path, shown: str, task: Task, wanted: list[str], optional: list[str]):
        self.path, self.shown, self.task = path, shown, task
        self.wanted, self.optional = wanted, optional
        self.delimiter = DELIMITERS[format_of(path.name)[0]]

    def quoting(self) -> int:
        """Return the quoting with which the file can be read. If there is none, raise the error of the better try."""
        if self.task.quoting == "none":
            return WITHOUT_QUOTES
        if self.delimiter == ",":
            return WITH_QUOTES
        ends: list[tuple[int, DataError]] = []
        for quoting in (WITH_QUOTES, WITHOUT_QUOTES):
            reached = 0
            try:
                for line, _ in self.rows(quoting, []):
                    reached = line
                if quoting == WITHOUT_QUOTES:
                    logger.info("%s: read without quoting: quotes belong to the texts", self.shown)
                return quoting
            except DataError as error:
                ends.append((reached, error))
        _, error = max(ends, key=lambda end: end[0])
        raise error

    def rows(self, quoting: int, skipped: list[int]) -> Iterator[tuple[int, Row]]:
        """Yield the header, checked for the wanted columns, and each row with the number of its first line.

        Append the lines of rows that are skipped for their number of columns to `skipped`.
        """
        rows = _parsed(lines_of(self.path, self.shown, self.task.encoding), self.shown, self.delimiter, quoting)
        line, (fields, lines) = first = next(rows, (0, ([], [])))
        header = self._header(fields)
        if header is not fields:
            rows, first = chain([first], rows), (0, (header, []))
        elif len(lines) > 1 and self._as_rows_of_their_own(lines, header):
            where = f"from line {line} to line {line + len(lines) - 1}"
            raise DataError(f"{self.shown}: the header is in quotes {where}, {LIKE_ROWS}")
        yield first
        number = 0
        for line, row in rows:
            if len(row[0]) != len(header) and self.task.uneven_rows == "skip":
                skipped.append(line)
            else:
                self._check(number, line, row, header, quoting)
                yield line, row
                number += 1

    def _header(self, fields: list[str]) -> list[str]:
        """Return the names of the columns: the first line, or `columns` if the first line lacks the wanted names.

        A split with hidden labels may have no column for them.
        """
        named = self.task.columns
        if not named or set(self.wanted) <= set(fields):
            self._check_header(fields)
            return fields
        without_label = [name for name in named if name not in self.optional]
        return without_label if len(without_label) == len(fields) != len(named) else named

    def _check_header(self, header: list[str]) -> None:
        if not header:
            raise DataError(f"{self.shown}: is empty; its first line must name the columns")
        check_columns(self.shown, header, self.wanted, self._advice_on_header(header))

    def _advice_on_header(self, header: list[str]) -> str:
        """Return advice on a header without the wanted columns; '' if a column was probably misspelled."""
        if len(header) == 1 and any(mark in header[0] for mark in ";\t,|"):
            return f"; columns must be separated by {({',': 'commas (.csv)', chr(9): 'tabs (.tsv)'})[self.delimiter]}"
        if any(ord(letter) in range(0xDC80, 0xDD00) for name in header for letter in name):
            return advice_on_encoding(self.path, self.shown, self.task.encoding)
        if any(map(self._is_value, header)):
            return f"; if its first line is a row, not a header, name its {len(header)} columns in `columns: [...]`"
        return ""

    def _is_value(self, field: str) -> bool:
        is_label = field in (self.task.labels or ())
        return is_label or bool(NUMBER.fullmatch(field.strip())) or len(field.split()) > WORDS_OF_A_NAME

    def _check(self, number: int, line: int, row: Row, header: list[str], quoting: int) -> None:
        fields, lines = row
        if len(fields) != len(header):
            those = "`columns`" if header == self.task.columns else "the header"
            problem = f"has {len(fields)} columns, but {those} has {len(header)}"
            is_quoted = quoting == WITH_QUOTES
            separator = {",": "commas", "\t": "tabs"}[self.delimiter]
            advice = (
                f"without quoting, texts must not contain {separator}"
                if not is_quoted
                else "put texts that contain separators in quotes"
            )
            raise DataError(f"{self.shown}: row {number} (line {line}) {problem}; {advice}{_goes_on(line, lines)}")
        # In a file without quoting, a text may begin with a quote, which would swallow all rows up to the next quote.
        if self.delimiter == "\t" and quoting == WITH_QUOTES and any("\t" in field for field in fields):
            advice = "write the file as .csv or .jsonl" + _goes_on(line, lines)
            raise DataError(f"{self.shown}: row {number} (line {line}) has a tab within quotes; {advice}")

    def span(self, row: int, line: int, lines: list[str], header: list[str]) -> Span:
        """Describe a row that spans several lines."""
        as_rows = self._as_rows_of_their_own(lines, header)
        inner = [next(csv.reader([each], delimiter=self.delimiter), []) for each in lines[1:-1] if each.strip()]
        is_enough = len(inner) > 1 and all(len(fields) == len(header) for fields in inner)
        between = [dict(zip(header, fields, strict=True)) for fields in inner] if is_enough else []
        return Span(row, line, line + len(lines) - 1, as_rows, between)

    def _as_rows_of_their_own(self, lines: list[str], header: list[str]) -> list[dict[str, str]]:
        """Return a row's first and last line as rows of their own; [] if their number of columns does not fit.

        The quotes that join them then belong to the texts; the lines between them are ignored.
        """
        *before, opened = next(csv.reader([lines[0].rstrip("\r\n")], delimiter=self.delimiter))
        closed, *after = next(csv.reader([f'"{lines[-1]}'], delimiter=self.delimiter))
        rows = [[*before, *opened.split(self.delimiter)], [*closed.split(self.delimiter), *after]]
        is_enough = all(len(fields) == len(header) for fields in rows)
        return [dict(zip(header, fields, strict=True)) for fields in rows] if is_enough else []


def _parsed(stream: Iterator[str], shown: str, delimiter: str, quoting: int) -> Iterator[tuple[int, Row]]:
    """Yield the fields and lines of each row that is not empty, with the number of its first line."""
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
        unquoted = "" if quoting == WITHOUT_QUOTES else "; if no text is enclosed in quotes, set `quoting: none`"
        advice = f"put texts that contain quotes in quotes, and double those inside{_goes_on(line, lines)}{unquoted}"
        raise DataError(f"{shown}: cannot be read at line {line}: {problem}; {advice}") from error


def _kept(stream: Iterator[str], lines: list[str]) -> Iterator[str]:
    for line in stream:
        lines.append(line)
        yield line


def _goes_on(line: int, lines: list[str]) -> str:
    """Return, for the end of a message, how far a quoted text runs that spans several lines."""
    return f" (a quote in it makes the text run on to line {line + len(lines) - 1})" if len(lines) > 1 else ""
