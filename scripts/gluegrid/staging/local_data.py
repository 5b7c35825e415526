"""Look at a task's local data before they are staged: read them in place as staging does, but only so many rows."""

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from pyarrow.parquet import read_metadata

from gluegrid.common.errors import DataError, GluegridError, one_line_errors
from gluegrid.common.files import check_no_lfs_pointer
from gluegrid.experiment.file_formats import TABLES, format_of
from gluegrid.experiment.sources import listed_task, split_of, wanted_files
from gluegrid.experiment.task import Task
from gluegrid.experiment.task_files import check_all_parts, files_of_splits, is_converted
from gluegrid.staging.convert import CheckedRows
from gluegrid.staging.examples import LABEL_NAMES, Examples, Split, rows_of_cuts
from gluegrid.staging.label_names import names_in_cards
from gluegrid.staging.parquet_files import arrow_batches
from gluegrid.staging.text_files import beginning_of

READ_WHOLE = 20_000_000  # bytes of a split's files; of larger ones only ROWS_OF_MORE are read
ROWS_OF_MORE = 20_000
MOST_ROWS = 500_000  # of a split, however small its files are
READ_IN_PARTS = (".csv", ".jsonl", *TABLES)  # files of other formats are read whole before their first row is known
BYTES_TO_COUNT_IN = 1_000_000
EXPANSION = 4  # how many times larger compressed text becomes
# With a vocabulary of some ten thousand tokens, a token is 4 characters of English, 1.6 letters of other alphabets (2
# bytes each), or one Chinese character (3 bytes).
TOKENS_OF_A_CHARACTER, TOKENS_OF_A_FURTHER_BYTE = 1 / 4, 3 / 8

Seen = tuple[int, Mapping[int, int]]  # the rows of a split, and how many of those read have so many tokens


def look(task: Task) -> tuple[dict[str, Seen], list[GluegridError]]:
    """Return what was seen of each split of a local task, and the first problem of each."""
    seen: dict[str, Seen] = {}
    problems: list[GluegridError] = []
    try:
        with one_line_errors(task.source):
            folder, splits = _rows_of_splits(task)
    except GluegridError as error:
        return {}, [error]
    for split, (rows, names) in splits.items():
        files = [folder / name for name in names]
        try:
            with one_line_errors(task.source):
                seen |= _look_at_split(task, split, rows, files)
        except GluegridError as error:
            problems.append(error)
            seen |= _guessed_of_broken(task, split, files)
    return seen, problems


def _rows_of_splits(task: Task) -> tuple[Path, dict[str, tuple[Iterable[Examples], list[str]]]]:
    """Return the folder of a task's data, and the rows and files of each split that is not cut from train."""
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
    """Read rows of a split; return what was seen of it and of the splits cut from it."""
    _check_that_they_are_files(files)
    is_large = sum(file.stat().st_size * (EXPANSION if format_of(file.name)[1] else 1) for file in files) > READ_WHOLE
    if is_large and not all(format_of(file.name)[0] in READ_IN_PARTS for file in files):
        return _cut(task, split, _guessed(files, task))
    count, lengths = 0, Counter()
    for examples in rows:
        count += len(examples)
        lengths.update(map(_tokens, *examples.texts))
        if count >= (ROWS_OF_MORE if is_large else MOST_ROWS):
            count, _ = _guessed(files, task)
            break
    return _cut(task, split, (count, lengths))


def _guessed_of_broken(task: Task, split: str, files: list[Path]) -> dict[str, Seen]:
    """Return what a split may be like of which a file cannot be read; nothing where not even that can be told."""
    with suppress(GluegridError), one_line_errors(task.source):
        _check_that_they_are_files(files)
        return _cut(task, split, _guessed(files, task))
    return {}


def _check_that_they_are_files(files: list[Path]) -> None:
    for file in files:
        if not file.is_file():  # to open a named pipe is to wait for its writer
            raise DataError(f"{file}: is not a file, or is a broken link; put the file itself there")
        check_no_lfs_pointer(file)


def _cut(task: Task, split: str, seen: Seen) -> dict[str, Seen]:
    count, lengths = seen
    counts = rows_of_cuts(count, split, task.cut_from_train or {}) if split == task.train else {}
    return {split: (count - sum(counts.values()), lengths)} | {name: (rows, lengths) for name, rows in counts.items()}


def _tokens(*texts: str) -> int:
    """Estimate how many tokens a row has, with special tokens."""
    characters = sum(map(len, texts))
    further = sum(len(text.encode()) - len(text) for text in texts if not text.isascii())
    of_texts = characters * TOKENS_OF_A_CHARACTER + further * TOKENS_OF_A_FURTHER_BYTE
    return round(of_texts) + 1 + len(texts)


def _guessed(files: list[Path], task: Task) -> Seen:
    """Estimate a split's rows from its parquet files' metadata, or else from the beginning of its first file."""
    if all(format_of(file.name)[0] == ".parquet" for file in files):
        return sum(read_metadata(file).num_rows for file in files), {}
    size = sum(file.stat().st_size for file in files)
    rows, of_text, on_disk = _beginning(files[0], task)
    count = round(size * rows / on_disk)
    return count, {round(of_text / rows * TOKENS_OF_A_CHARACTER): count}


def _beginning(file: Path, task: Task) -> tuple[int, int, int]:
    """Return about how many rows a file's beginning has, and its size in bytes as text and on disk."""
    kind, compression = format_of(file.name)
    if kind == ".arrow":
        batch = next(arrow_batches(file, file.name))
        return len(batch), batch.nbytes, batch.nbytes
    text = beginning_of(file, file.name, BYTES_TO_COUNT_IN)
    sign = f'"{task.text_columns[0]}"'.encode() if kind == ".json" else b"\n"
    return max(text.count(sign), 1), len(text), len(zlib.compress(text)) if compression else len(text)
