"""Rows as they stand in a file, whatever its format is."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from gluegrid.common.errors import MisfitError
from gluegrid.common.escaping import listed, nearest

ROWS_AT_ONCE = 10_000
LIKE_ROWS = (
    "and both look like whole rows; double the quotes of a text and put it in quotes, or write the file as .jsonl,"
    " or `quoting: none` if quotes enclose none of its texts"
)


@dataclass(frozen=True)
class Span:
    """A row that quotes lead over several lines, of which it takes the first and the last one.

    `as_rows` are these two lines as rows by themselves, should the quotes be none but signs of the texts: their columns
    by name; nothing where they cannot be. So for the lines between them, `between`.
    """

    row: int
    first_line: int
    last_line: int
    as_rows: list[dict[str, str]]
    between: list[dict[str, str]]


@dataclass(frozen=True)
class RawRows:
    """Some consecutive rows of a file: the values of each column, and the lines they begin in, of a file of lines.

    Rows are counted from 0, lines from 1. `skipped` are the lines of rows before the end of these that were left out.
    """

    first_row: int
    columns: dict[str, list]
    lines: list[int] | None = None
    spans: Sequence[Span] = ()
    skipped: Sequence[int] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


def check_columns(shown: str, names: list[str], wanted: Iterable[str], advice: str = "") -> None:
    """Check that a file's columns include the wanted ones, once each; MisfitError has the nearest match or `advice`."""
    for column in wanted:
        if column not in names:
            meant = nearest(column, names)
            hint = advice or (f". Did you mean {meant!r}?" if meant else "")
            raise MisfitError(f"{shown}: has no column {column!r}; it has: {listed(names)}{hint}", column=column)
        if names.count(column) > 1:
            raise MisfitError(
                f"{shown}: has {names.count(column)} columns {column!r}; rename all but one", column=column
            )


def in_batches(rows: Iterable) -> Iterator[tuple[int, list]]:
    """Yield rows, many at once, with the number of the first of them."""
    rows, first = iter(rows), 0
    while batch := list(islice(rows, ROWS_AT_ONCE)):
        yield first, batch
        first += len(batch)
