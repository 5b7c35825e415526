"""The examples of a split, read from its parquet files and checked row by row against the task."""

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow

from gluegrid.common.errors import DataError, MisfitError
from gluegrid.common.escaping import listed
from gluegrid.common.manifests import check_file
from gluegrid.common.paths import is_local
from gluegrid.experiment.sources import split_of
from gluegrid.experiment.task import Task
from gluegrid.experiment.task_files import check_parts, key_of_split
from gluegrid.staging.columns import LabelReader, Place, idx_of, labels_of, texts_of
from gluegrid.staging.label_names import LabelNames, names_to_go_by
from gluegrid.staging.parquet_files import holds_text, label_names, read_batches

NUMBERS = "idx"  # the column of the examples' own numbers, unless the task uses a column of this name
SALT = "gluegrid"  # of the hashes that decide cuts from train; changing it would change every cut
LABEL_NAMES = "label_names"  # a manifest's key for the names in the dataset's card


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
    """One split of a staged task. Messages name the user's own file if the source is a folder.

    Raise DataError if the files' names (`-00000-of-00003`) show that one is missing.
    """

    def __init__(self, task_manifest: Path, data: dict, task: Task, name: str):
        self.manifest = task_manifest
        self.data = data
        self.task = task
        self.name = name
        self.columns = [*task.text_columns, task.label_column]
        self.numbers = None if NUMBERS in self.columns else NUMBERS
        self.files = [file for file in data["files"] if split_of(file) == name]
        if not self.files:
            known = listed(sorted(data["rows"]))
            key = key_of_split(vars(task), name)
            advice = "; write `test: []` to predict none" if key == "test" else ""
            problem = f"{self.manifest.parent}: task {task.name!r} has no split {name!r}; it has: {known}{advice}"
            raise MisfitError(problem, key)
        check_parts(name, self.files, self._shown)

    def check(self) -> int:
        """Read all rows once and return their number. Raise DataError for the first thing that is wrong."""
        for file in self.files:
            check_file(self.manifest, file, self.data["files"][file]["sha256"])
        rows = sum(map(len, self))
        if rows == 0:
            raise DataError(f"{self._shown(self.files[0])}: has no rows")
        return rows

    def __iter__(self) -> Iterator[Examples]:
        """Yield the rows of all files in order; number those that have no number of their own."""
        counted = self._counted()
        rows = 0
        for file in self.files:
            start, reader = rows, self._label_reader(file)
            for batch in read_batches(self.manifest.parent / file, self._shown(file), self.columns, self.numbers):
                numbers = counted[rows : rows + len(batch)]
                yield self._checked(batch, self._shown(file), reader, rows - start, numbers)
                rows += len(batch)

    def _counted(self) -> Sequence[int]:
        """Return numbers for rows that have none of their own: from 0, or those from before a cut.

        After a cut, the file holds each row's number unless a column of the task takes that name.
        """
        cut = self.task.cut_from_train
        if cut and self.numbers is None and self.name in (self.task.train, *cut):
            return rows_of_split(self.name, self.data["rows"], self.task.train, cut)
        return range(sys.maxsize)

    def _label_reader(self, file: str) -> LabelReader:
        names = _label_names(self.manifest, self.data, self.task, file)
        if LABEL_NAMES not in self.data and names and names.are_strange_to(self.task.labels or []):
            names = None  # staged by a release that ignored names; cells may have been trained on these data
        return LabelReader(self.task, self.name in self.task.predicted_only, names=names)

    def _checked(
        self, batch: pyarrow.RecordBatch, file: str, reader: LabelReader, first_row: int, counted: Sequence[int]
    ) -> Examples:
        def values(column: str) -> tuple[Place, pyarrow.Array]:
            return Place(file, column, first_row), batch.column(column)

        texts = [texts_of(*values(column)) for column in self.task.text_columns]
        labels = labels_of(*values(self.task.label_column), reader)
        idx = idx_of(*values(self.numbers)) if self.numbers in batch.schema.names else list(counted)
        return Examples(file, first_row, self.task.text_columns, texts, labels, idx)

    def _shown(self, name: str) -> str:
        return _shown(self.manifest, self.data, name)


def check_label_names(task_manifest: Path, data: dict, task: Task) -> None:
    """Raise DataError if a scored file's own names of its class numbers contradict the task's labels.

    Such files are not tokenized any more, but earlier releases, which ignored the names, did so.
    """
    for file in data["files"] if task.labels else ():
        if split_of(file) not in task.splits or split_of(file) in task.predicted_only:
            continue
        names = _label_names(task_manifest, data, task, file)
        if names and names.contradict(task.labels) and not holds_text(task_manifest.parent / file, task.label_column):
            where = f"{_shown(task_manifest, data, file)}: column {task.label_column!r}"
            raise DataError(f"{where}: {names.difference(task.labels)}; write `labels: [{listed(names.names)}]`")


def _label_names(task_manifest: Path, data: dict, task: Task, file: str) -> LabelNames | None:
    """Return the names of the class numbers in a staged file, from its metadata or the dataset's card."""
    folder, shown = task_manifest.parent, _shown(task_manifest, data, file)
    of_card = data.get(LABEL_NAMES, {}).get(file, {})
    card = f"the dataset's card (as it was when {folder} was staged)"
    return names_to_go_by(shown, task.label_column, label_names(folder / file), of_card, card)


def _shown(task_manifest: Path, data: dict, file: str) -> str:
    source = data["source"]
    is_the_users = is_local(source) and "source_files" not in data
    return str((Path(source) if is_the_users else task_manifest.parent) / file)


def splits_of_rows(rows: int, train: str, shares: Mapping[str, float]) -> list[str]:
    """Return the split to which each row of a training split belongs.

    Sort the row numbers by their hashes and deal them out to the splits, sorted by name: to each its share of all
    rows, rounded. The rest stays in the training split. The cut depends neither on a library's random numbers nor on
    the rows' content. Raise MisfitError if a split would be empty.
    """
    counts = rows_of_cuts(rows, train, shares)
    owners = [train] * rows
    shuffled = iter(sorted(range(rows), key=lambda row: hashlib.sha256(f"{SALT} {row}".encode()).digest()))
    for split, count in counts.items():
        for _ in range(count):
            owners[next(shuffled)] = split
    return owners


def rows_of_cuts(rows: int, train: str, shares: Mapping[str, float]) -> dict[str, int]:
    """Return how many rows each split gets that is cut from a training split. Raise MisfitError if one gets none."""
    counts = {split: round(rows * share) for split, share in sorted(shares.items())}
    if 0 in counts.values() or sum(counts.values()) >= rows:
        wanted = ", ".join(f"{split} {share:g}" for split, share in sorted(shares.items()))
        problem = f"cut_from_train ({wanted}) would leave a split without rows; the split {train!r} has {rows}"
        raise MisfitError(problem, "cut_from_train")
    return counts


def rows_of_split(split: str, rows: Mapping[str, int], train: str, shares: Mapping[str, float]) -> list[int]:
    """Return the numbers of a training split's rows that a split got in the cut; `rows` counts those of each split.

    Raise DataError as `splits_of_rows` does.
    """
    owners = splits_of_rows(sum(rows.get(name, 0) for name in (train, *shares)), train, shares)
    return [row for row, owner in enumerate(owners) if owner == split]
