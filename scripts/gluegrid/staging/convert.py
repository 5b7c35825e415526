"""Convert a task's own files, of any supported format and name, to the parquet files that all later rules read."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pyarrow
from pyarrow.parquet import ParquetWriter

from gluegrid.common.errors import DataError
from gluegrid.common.escaping import listed
from gluegrid.common.files import sync
from gluegrid.experiment.task import Task
from gluegrid.experiment.task_files import is_one_file
from gluegrid.staging.columns import HIDDEN_LABEL, NUMBER, LabelReader, Place, labels_in, texts_in
from gluegrid.staging.examples import NUMBERS, Examples, splits_of_rows
from gluegrid.staging.label_names import names_in_cards, names_to_go_by
from gluegrid.staging.raw_rows import LIKE_ROWS, RawRows, Span
from gluegrid.staging.row_readers import own_label_names, read_rows

logger = logging.getLogger(__name__)

MADE = ".made"  # the files of a task may not have this name


def convert(folder: Path, task: Task, files: dict[str, list[str]]) -> None:
    """Replace each split's files in `folder` with one parquet file of checked rows, and make the cuts of the task.

    If a file, or a dataset card in `folder`, names the class numbers, labels are read by these names. Raise DataError
    with file, column and row for the first thing that does not fit.
    """
    made = folder / MADE
    made.mkdir(exist_ok=True)
    for split, names in files.items():
        rows = CheckedRows(folder, task, split, names)
        cut = (task.cut_from_train or {}) if split == task.train else {}
        owners = splits_of_rows(rows.count(), split, cut) if cut else None
        _write(made, rows, [split, *cut], owners)
    for name in {name for of_split in files.values() for name in of_split}:
        (folder / name).unlink()
    for path in made.iterdir():
        path.replace(folder / path.name)
    made.rmdir()


class CheckedRows:
    """The checked rows of a split, from all its files; `idx` numbers them from 0."""

    def __init__(self, folder: Path, task: Task, split: str, names: list[str]):
        self.folder, self.task, self.names = folder, task, names
        self.may_be_hidden = split in task.predicted_only
        self.names_of_card = names_in_cards(folder, names, task.folder)
        self.over_lines: dict[str, list[Span]] = {}  # by file
        self.skipped: dict[str, Sequence[int]] = {}  # the lines of skipped rows, by file

    def count(self) -> int:
        """Read all files and return the number of rows. Raise DataError if there are none."""
        return sum(map(len, self))

    def __iter__(self) -> Iterator[Examples]:
        rows = 0
        self.over_lines.clear()
        for name in self.names:
            shown = shown_name(self.task.source, name)
            reader = self._label_reader(name, shown)
            for raw in read_rows(self.folder / name, shown, self.task, self.may_be_hidden):
                self.skipped[shown] = raw.skipped
                self._check_spans(raw.spans, shown, reader)
                yield self._checked(raw, shown, reader, rows)
                rows += len(raw)
        if rows == 0:
            raise DataError(f"{shown_name(self.task.source, self.names[0])}: has no rows")

    def _label_reader(self, name: str, shown: str) -> LabelReader:
        own, of_card = own_label_names(self.folder / name), self.names_of_card.get(name, {})
        names = names_to_go_by(shown, self.task.label_column, own, of_card)
        return LabelReader(self.task, self.may_be_hidden, as_written=True, names=names)

    def _check_spans(self, spans: Sequence[Span], shown: str, reader: LabelReader) -> None:
        """Record the rows that span several lines. Raise DataError for one that seems to swallow other rows."""
        for span in spans:
            self.over_lines.setdefault(shown, []).append(span)
            if self._look_like_rows(span.as_rows, reader) or self._look_like_rows(span.between, reader):
                lines = f"from line {span.first_line} to line {span.last_line}"
                raise DataError(f"{shown}: row {span.row} is in quotes {lines}, {LIKE_ROWS}")

    def _look_like_rows(self, lines: list[dict[str, str]], reader: LabelReader) -> bool:
        """Tell whether each line has a label or, if labels are hidden, a number in some other column."""
        labels = [line.get(self.task.label_column) for line in lines]
        if any(labels):
            return all(label and reader.read(label) is not None for label in labels)
        others = [name for name in (lines[0] if lines else ()) if name not in self.task.text_columns]
        return any(all(NUMBER.fullmatch(line[name]) for line in lines) for name in others)

    def _checked(self, raw: RawRows, shown: str, reader: LabelReader, first_number: int) -> Examples:
        def place(column: str) -> Place:
            return Place(shown, column, raw.first_row, raw.lines)

        label = self.task.label_column
        texts = [texts_in(place(column), raw.columns[column]) for column in self.task.text_columns]
        labels = labels_in(place(label), raw.columns.get(label) or [HIDDEN_LABEL] * len(raw), reader)
        idx = list(range(first_number, first_number + len(raw)))
        return Examples(shown, raw.first_row, self.task.text_columns, texts, labels, idx)


def shown_name(source: str, name: str) -> str:
    """Return the name of a source's file for messages."""
    return source if is_one_file(source) else str(Path(source) / name)


def _write(folder: Path, rows: CheckedRows, splits: list[str], owners: list[str] | None) -> None:
    """Write each row to the file of the split that owns it, or all rows to the only split."""
    schema = _schema(rows.task)
    paths = {split: folder / f"{split}-00000-of-00001.parquet" for split in splits}
    with ExitStack() as stack:
        writers = {
            split: stack.enter_context(ParquetWriter(path, schema, write_page_checksum=True))
            for split, path in paths.items()
        }
        for examples in rows:
            values = {NUMBERS: examples.idx, rows.task.label_column: examples.labels}
            values |= dict(zip(rows.task.text_columns, examples.texts, strict=True))
            table = pyarrow.table(values, schema)
            for split, writer in writers.items():
                is_its = owners and pyarrow.array([owners[row] == split for row in examples.idx])
                writer.write_table(table.filter(is_its) if owners else table)
    for split, path in paths.items():
        sync(path)
        logger.info("%s: converted from %s", split, listed(rows.names))
    for file, spans in rows.over_lines.items():
        logger.info("%s: %s", file, _in_words(spans))
    for file, lines in rows.skipped.items():
        if lines:
            where = listed(list(map(str, lines)))
            logger.warning(
                "%s: skipped %d rows whose number of columns differs from the header's: line %s",
                file,
                len(lines),
                where,
            )


def _in_words(spans: Sequence[Span]) -> str:
    longest = max(spans, key=lambda span: span.last_line - span.first_line)
    lines = sum(span.last_line - span.first_line for span in spans)
    where = f"the longest is row {longest.row}, from line {longest.first_line} to line {longest.last_line}"
    return f"{lines} fewer rows than lines: {len(spans)} rows with quotes span several lines; {where}"


def _schema(task: Task) -> pyarrow.Schema:
    # large_string, since a batch of long texts may exceed 2 GB.
    texts = dict.fromkeys(task.text_columns, pyarrow.large_string())
    label = {task.label_column: pyarrow.type_for_alias(task.kind.staged_type)}
    return pyarrow.schema({NUMBERS: pyarrow.int64()} | texts | label)
