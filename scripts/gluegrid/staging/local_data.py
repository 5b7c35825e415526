"""What a task's local data are before they are staged: read as staging reads them, where they lie, and in bounds."""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

from pyarrow.parquet import read_metadata

from gluegrid.common.errors import DataError, GluegridError, one_line_errors
from gluegrid.experiment.file_formats import format_of
from gluegrid.experiment.sources import listed_task, split_of, wanted_files
from gluegrid.experiment.task import Task
from gluegrid.experiment.task_files import check_all_parts, files_of_splits, is_converted
from gluegrid.staging.convert import CheckedRows
from gluegrid.staging.examples import LABEL_NAMES, Examples, Split, rows_of_cuts
from gluegrid.staging.label_names import names_in_cards
from gluegrid.staging.text_files import lines_of

READ_WHOLE = 20_000_000  # bytes of a split's files; of more, as many rows are read as below
ROWS_OF_MORE = 20_000
MOST_ROWS = 500_000  # of a split, however small its files are
# Files of other formats are read whole before their first row is known.
READ_IN_PARTS = (".csv", ".jsonl", ".parquet", ".arrow")
TIMES_COMPRESSED = 3  # that texts are larger than what they are compressed to
LINES_TO_COUNT_IN, CHARACTERS_TO_COUNT_IN = 1_000, 1_000_000
# Of a tokenizer of some ten thousand tokens: English text has 4 characters for each; of other alphabets' letters, which
# take 2 bytes each, 1.6 make one, and every sign of Chinese, of 3 bytes, is one.
TOKENS_OF_A_CHARACTER, TOKENS_OF_A_FURTHER_BYTE = 1 / 4, 3 / 8

Seen = tuple[int, Mapping[int, int]]  # rows of a split, and of those that were read how many have so many tokens


def look(task: Task) -> tuple[dict[str, Seen], list[GluegridError]]:
    """Return what was seen of each split of a local task, and for each the first thing that is wrong with it."""
    seen: dict[str, Seen] = {}
    problems: list[GluegridError] = []
    try:
        with one_line_errors(task.source):
            folder, splits = _rows_of_splits(task)
    except GluegridError as error:
        return {}, [error]
    for split, (rows, names) in splits.items():
        try:
            with one_line_errors(task.source):
                seen |= _look_at_split(task, split, rows, [folder / name for name in names])
        except GluegridError as error:
            problems.append(error)
    return seen, problems


def _rows_of_splits(task: Task) -> tuple[Path, dict[str, tuple[Iterable[Examples], list[str]]]]:
    """Return the folder of a task's data, and the rows and the files in it of each split that is not cut."""
    folder, names = listed_task(vars(task))
    if is_converted(vars(task)):
        files = files_of_splits(names, vars(task))
        check_all_parts(files)
        return folder, {split: (CheckedRows(folder, task, split, of), of) for split, of in files.items()}
    names = wanted_files(names, "tasks", vars(task))
    data = {
        "source": task.source,
        "files": names,
        "rows": dict.fromkeys(map(split_of, names)),
        LABEL_NAMES: names_in_cards(folder, names, task.folder),
    }
    splits = {}
    for name in task.splits:
        split = Split(folder / "manifest.json", data, task, name)
        splits[name] = split, split.files
    return folder, splits


def _look_at_split(task: Task, split: str, rows: Iterable[Examples], files: list[Path]) -> dict[str, Seen]:
    """Read rows of a split, and return what was seen of it and of those that are cut from it."""
    _check_that_they_are_files(files)
    size = sum(map(_size, files))
    if size > READ_WHOLE and not all(format_of(file.name)[0] in READ_IN_PARTS for file in files):
        return _cut(task, split, _guessed(files[0], size, task.text_columns[0]))
    count, lengths = 0, Counter()
    for examples in rows:
        count += len(examples)
        lengths.update(map(_tokens, *examples.texts))
        if count >= (ROWS_OF_MORE if size > READ_WHOLE else MOST_ROWS):
            count = _rows_in(files, size, task.text_columns[0], lengths)
            break
    return _cut(task, split, (count, lengths))


def _check_that_they_are_files(files: list[Path]) -> None:
    for file in files:
        if not file.is_file():  # to open a named pipe is to wait for its writer
            raise DataError(f"{file}: is no file, or a link to none")


def _cut(task: Task, split: str, seen: Seen) -> dict[str, Seen]:
    count, lengths = seen
    counts = rows_of_cuts(count, split, task.cut_from_train or {}) if split == task.train else {}
    return {split: (count - sum(counts.values()), lengths)} | {name: (rows, lengths) for name, rows in counts.items()}


def _tokens(*texts: str) -> int:
    """Return about how many tokens a row has, with those that begin, part and end its texts."""
    characters = sum(map(len, texts))
    further = sum(len(text.encode()) - len(text) for text in texts if not text.isascii())
    of_texts = characters * TOKENS_OF_A_CHARACTER + further * TOKENS_OF_A_FURTHER_BYTE
    return round(of_texts) + 1 + len(texts)


def _size(file: Path) -> int:
    """Return about how many bytes a file has that is not compressed, or no more than tables are."""
    return file.stat().st_size * (TIMES_COMPRESSED if format_of(file.name)[1] else 1)


def _rows_in(files: list[Path], size: int, column: str, lengths: Counter[int]) -> int:
    """Return how many rows files of such a size in all have: as they say, else as what was read of them tells."""
    formats = {format_of(file.name)[0] for file in files}
    if formats == {".parquet"}:
        return sum(read_metadata(file).num_rows for file in files)
    if formats & {".parquet", ".arrow"}:
        tokens = sum(length * rows for length, rows in lengths.items())
        return round(size * TOKENS_OF_A_CHARACTER * lengths.total() / tokens)
    return round(size / _bytes_of_a_row(files[0], column))


def _guessed(file: Path, size: int, column: str) -> Seen:
    """Return what a split is like of which nothing but its size, and the beginning of its first file, are known."""
    of_a_row = _bytes_of_a_row(file, column)
    rows = round(size / of_a_row)
    return rows, {round(of_a_row * TOKENS_OF_A_CHARACTER): rows}


def _bytes_of_a_row(file: Path, column: str) -> float:
    beginning = "".join(islice(lines_of(file, str(file)), LINES_TO_COUNT_IN))[:CHARACTERS_TO_COUNT_IN]
    sign = f'"{column.rpartition(".")[2]}"' if format_of(file.name)[0] == ".json" else "\n"
    return len(beginning.encode(errors="surrogateescape")) / max(beginning.count(sign), 1)
