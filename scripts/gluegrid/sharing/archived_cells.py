"""The cells in an archive: what each ran, what it was made from, and its files, all checked against each other."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.common.files import canonical_json
from gluegrid.execution.reasons import Cause, reason_elsewhere
from gluegrid.experiment.cell import Cell, run_hash
from gluegrid.experiment.options import RECIPES
from gluegrid.experiment.references import completed_row, problems_of_row
from gluegrid.sharing.archive import ALL_RESULTS, CELLS, CONFIG, JSON, RUN, RUN_RECORD, RUNS, ArchiveFile, opened
from gluegrid.verification.file_shapes import RECORD, RESULTS, config_shape, listed_cell, object_of, run_shape

MADE_FROM = ("model_files", "task_files", "tokens_files")  # hashes in run_record.json


@dataclass(frozen=True)
class ArchivedCell:
    """A cell in an archive. Without a result it has a `reason`, and `made_from` and `predictions` are empty.

    `made_from` has a hash for each of MADE_FROM, `predictions` one for each split. `parts` are its files in the
    archive, by their names in the cell's folder.
    """

    cell: Cell
    log: str
    reason: str | None
    parts: dict[str, str]
    made_from: dict[str, str]
    predictions: dict[str, str]

    @property
    def is_done(self) -> bool:
        """Whether there is a result."""
        return self.reason is None

    @property
    def was_tried(self) -> bool:
        """Whether a call has started it."""
        return self.is_done or reason_elsewhere(self.reason).cause != Cause.NOT_RUN


@dataclass(frozen=True)
class Archive:
    """What an archive holds: the config of its experiment, its cells, and the names of other files."""

    file: ArchiveFile
    config: dict
    cells: list[ArchivedCell]
    others: list[str]

    @property
    def name(self) -> str:
        """The archive's file, as the user named it."""
        return str(self.file.path)

    @property
    def experiment(self) -> str:
        """The experiment's name in its clone."""
        return self.config["experiment"]


@contextmanager
def opened_archive(path: Path) -> Iterator[Archive]:
    """Open an archive and read all but predictions and reports. Raise DataError if it is damaged."""
    with opened(path) as file:
        yield _Reader(file).archive()


class _Reader:
    """Reads the lists and the small files of an archive, and compares them."""

    def __init__(self, file: ArchiveFile):
        self.file = file
        self.config = file.read_json(CONFIG, config_shape())
        self._check_references()
        self.folders: dict[str, dict[str, str]] = {}  # folder -> name in it -> name in the archive
        for name in file.files:
            folder, _, own = name.rpartition("/")
            self.folders.setdefault(folder, {})[own] = name

    def archive(self) -> Archive:
        """Return the whole archive. Raise DataError if its parts contradict each other."""
        listed = self.file.read_json(CELLS, object_of(cells={"type": "array", "items": listed_cell()}))["cells"]
        cells = [self._cell(entry) for entry in listed]
        others = dict.fromkeys(name for name in self.file.files if name not in (CONFIG, CELLS))
        for name in (name for cell in cells for name in cell.parts.values()):
            if name not in others:
                raise self._wrong(CELLS, f"has the cell of {name} twice")
            del others[name]
        for name in others:
            if name.startswith(f"{RUNS}/"):
                raise self._wrong(name, f"is of no cell in {CELLS}")
        return Archive(self.file, self.config, cells, sorted(others))

    def _cell(self, entry: dict) -> ArchivedCell:
        key = (entry["model"], entry["task"], entry["variant"], entry["seed"])
        folder = f"{RUNS}/{Cell(*key, {}).name}"
        parts = self.folders.get(folder, {})
        if entry["model"] not in self.config["models"] or entry["task"] not in self.config["tasks"]:
            raise self._wrong(CELLS, f"{folder} is of a model or a task that {CONFIG} has not")
        text = self._text(folder, RUN)
        cell = Cell(*key, self._run(f"{folder}/{RUN}", text))
        if entry["reason"] is not None:
            return ArchivedCell(cell, entry["log"], entry["reason"], {RUN: parts[RUN]}, {}, {})
        record = self.file.parsed(f"{folder}/{RUN_RECORD}", self._text(folder, RUN_RECORD), RECORD)
        self.file.parsed(f"{folder}/{ALL_RESULTS}", self._text(folder, ALL_RESULTS), RESULTS)
        if record["run_sha256"] != run_hash(text):
            raise self._wrong(f"{folder}/{RUN_RECORD}", f"is of another {RUN} than the one beside it")
        self._check_predictions(folder, record["predictions_sha256"])
        made_from = {key: _digest(record[key]) for key in MADE_FROM}
        return ArchivedCell(cell, entry["log"], None, parts, made_from, record["predictions_sha256"])

    def _check_references(self) -> None:
        for content in self.config.get("references", []):
            for row in content["rows"]:
                for problem in problems_of_row(completed_row(content, row)):
                    raise self._wrong(CONFIG, f"a row of references {problem}")

    def _text(self, folder: str, name: str) -> str:
        if name not in self.folders.get(folder, {}):
            raise self._wrong(CELLS, f"names a cell of which {folder}/{name} is not there")
        return self.file.read_text(f"{folder}/{name}")

    def _run(self, name: str, text: str) -> dict:
        run = self.file.parsed(name, text, run_shape())
        if run["recipe"] not in RECIPES:
            raise self._wrong(name, f"recipe {run['recipe']} is of a later release; import it with that")
        if canonical_json(run) != text:
            raise self._wrong(name, "was not written by gluegrid")
        return run

    def _check_predictions(self, folder: str, recorded: dict[str, str]) -> None:
        expected = {f"predictions_{split}.parquet": digest for split, digest in recorded.items()}
        present = {
            own: self.file.files[name]["sha256"] for own, name in self.folders[folder].items() if own not in JSON
        }
        if present != expected:
            different = min(name for name in {*present, *expected} if present.get(name) != expected.get(name))
            raise self._wrong(f"{folder}/{different}", f"is not what {RUN_RECORD} says of it")

    def _wrong(self, name: str, problem: str) -> DataError:
        return DataError(f"{self.file.path}: {name}: {problem}")


def _digest(value: object) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
