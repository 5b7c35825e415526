"""The examples of a split: its parquet files, each row checked to be what the task says."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow

from gluegrid.columns import Place, idx_of, labels_of, texts_of
from gluegrid.errors import DataError
from gluegrid.manifests import check_file
from gluegrid.parquet_files import listed, read_batches
from gluegrid.paths import is_local
from gluegrid.sources import split_of
from gluegrid.tasks import Task

PART = re.compile(r"-(\d{5})-of-(\d{5})\.parquet$")


@dataclass(frozen=True)
class Examples:
    """Some consecutive rows of a file."""

    file: str
    first_row: int  # its number in the file, from 0
    text_columns: list[str]
    texts: list[list[str]]  # one list for each text column
    labels: list[int] | list[float]
    idx: list[int]

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, row: int) -> "Examples":
        """Return one of these rows, counted from the first one."""
        texts = [[column[row]] for column in self.texts]
        return Examples(self.file, self.first_row + row, self.text_columns, texts, [self.labels[row]], [self.idx[row]])


class Split:
    """One split of a staged task. Messages name the user's own file where the source is a folder.

    Raises DataError when a file is missing from the set that their names speak of.
    """

    def __init__(self, task_manifest: Path, data: dict, task: Task, name: str):
        self.manifest = task_manifest
        self.data = data
        self.task = task
        self.name = name
        self.files = [file for file in data["files"] if split_of(file) == name]
        self._check_files_are_there()

    def check(self) -> int:
        """Read everything once; return the number of rows. Raises DataError for the first thing that is wrong."""
        for file in self.files:
            check_file(self.manifest, file, self.data["files"][file]["sha256"])
        rows = sum(map(len, self))
        if rows == 0:
            raise DataError(f"{self._shown(self.files[0])}: has no rows")
        return rows

    def __iter__(self) -> Iterator[Examples]:
        """Yield the rows of all files in their order; rows without a number of their own are numbered from 0."""
        wanted = [*self.task.text_columns, self.task.label_column]
        rows = 0
        for file in self.files:
            start = rows
            for batch in read_batches(self.manifest.parent / file, self._shown(file), wanted, numbers="idx"):
                yield self._checked(batch, self._shown(file), rows - start, rows)
                rows += len(batch)

    def _checked(self, batch: pyarrow.RecordBatch, file: str, first_row: int, first_number: int) -> Examples:
        def values(column: str) -> tuple[Place, pyarrow.Array]:
            return Place(file, column, first_row), batch.column(column)

        texts = [texts_of(*values(column)) for column in self.task.text_columns]
        labels = labels_of(*values(self.task.label_column), self.task, self._is_only_predicted())
        has_numbers = "idx" in batch.schema.names and pyarrow.types.is_integer(batch.schema.field("idx").type)
        idx = idx_of(*values("idx")) if has_numbers else list(range(first_number, first_number + len(batch)))
        return Examples(file, first_row, self.task.text_columns, texts, labels, idx)

    def _is_only_predicted(self) -> bool:
        return self.name in self.task.test and self.name not in (self.task.train, *self.task.validation)

    def _check_files_are_there(self) -> None:
        if not self.files:
            known = listed(sorted(self.data["rows"]))
            raise DataError(
                f"{self.manifest.parent}: task {self.task.name!r} has no split {self.name!r}; it has: {known}"
            )
        parts = [tuple(map(int, PART.search(file).groups())) for file in self.files]
        totals = {total for _, total in parts}
        if len(totals) > 1:
            raise DataError(
                f"{self._shown(self.files[0])}: split {self.name!r} has files of several sets, {listed(self.files)};"
                " remove those that do not belong to it"
            )
        total = totals.pop()
        if len(parts) < total:
            missing = next(number for number in range(total) if (number, total) not in parts)
            name = PART.sub(f"-{missing:05}-of-{total:05}.parquet", self.files[0])
            raise DataError(
                f"{self._shown(name)}: is missing; split {self.name!r} has {len(parts)} of its {total} files"
            )

    def _shown(self, name: str) -> str:
        source = self.data["source"]
        return str(Path(source) / name if is_local(source) else self.manifest.parent / name)
