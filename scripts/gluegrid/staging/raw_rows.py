"""Rows as they stand in a file of any format."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from gluegrid.common.errors import MisfitError
from gluegrid.common.escaping import listed, nearest

ROWS_AT_ONCE = 10_000
LIKE_ROWS = (
    "but its lines look like whole rows; put texts that contain quotes in quotes and double those inside, write the"
    " file as .jsonl, or set `quoting: none` if no text is enclosed in quotes"
)


@dataclass(frozen=True)
class Span:
    """A row that spans several lines because of quotes.

    `as_rows` are its first and last line as rows of their own, in case the quotes belong to the texts: their columns by
    name, or nothing if they cannot be rows. `between` is the same for the lines between them.
    """

    row: int
    first_line: int
    last_line: int
    as_rows: list[dict[str, str]]
    between: list[dict[str, str]]


@dataclass(frozen=True)
class RawRows:
    """Consecutive rows of a file: the values of each column, and the lines in which rows begin if the file has lines.

    Rows are counted from 0, lines from 1. `skipped` are the lines of all rows up to here that were skipped.
    """

    first_row: int
    columns: dict[str, list]
    lines: list[int] | None = None
    spans: Sequence[Span] = ()
    skipped: Sequence[int] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


def check_columns(shown: str, names: list[str], wanted: Iterable[str], advice: str = "") -> None:
    """Check that a file has each wanted column once. Raise MisfitError with the nearest match or `advice` if not."""
    for column in wanted:
        if column not in names:
            meant = nearest(column, names)
            hint = advice or (f". Did you mean {meant!r}?" if meant else "")
            raise MisfitError(f"{shown}: has no column {column!r}; it has: {listed(names)}{hint}", column=column)
        if names.count(column) > 1:
            raise MisfitError(
                f"{shown}: has {names.count(column)} columns named {column!r}; rename all but one", column=column
            )


def in_batches(rows: Iterable) -> Iterator[tuple[int, list]]:
    """Yield rows in batches, each with the number of its first row."""
    rows, first = iter(rows), 0
    while batch := list(islice(rows, ROWS_AT_ONCE)):
        yield first, batch
        first += len(batch)
