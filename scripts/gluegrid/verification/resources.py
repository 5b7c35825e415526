"""Check the resources that cells were made from: the hash of every file, and whether the parts fit together."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType

import numpy

from gluegrid.analysis.predictions import Labels, count_rows, holds_numbers, names_of_numbers, read_labels
from gluegrid.common import paths
from gluegrid.common.errors import DataError
from gluegrid.common.manifests import recorded_hashes
from gluegrid.experiment.cell import Cell
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.run import HOLDOUT
from gluegrid.experiment.sources import split_of
from gluegrid.experiment.staged_tokens import staged_tokens
from gluegrid.experiment.task import Task, definition
from gluegrid.staging.examples import rows_of_split
from gluegrid.verification.file_shapes import MODEL_MANIFEST, TASK_MANIFEST, TOKENS_MANIFEST, read_shaped
from gluegrid.verification.findings import Findings

NOTHING: Mapping[Path, dict] = MappingProxyType({})


@dataclass(frozen=True)
class Staged:
    """A folder with a manifest; its files have been compared with their hashes there."""

    manifest: Path
    content: dict

    @property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of each file in the manifest; a file that differs from it has been reported."""
        return {name: identity["sha256"] for name, identity in self.content["files"].items()}

    def files_of(self, split: str) -> list[Path]:
        """Return a split's parquet files, in the order of their rows."""
        return [self.manifest.parent / name for name in self.content["files"] if split_of(name) == split]


@dataclass(frozen=True)
class Resources:
    """The staged models, data, tokens and labels of an experiment; those that cannot be used are absent."""

    models: dict[str, Staged]
    tasks: dict[str, Staged]
    tokens: dict[tuple[str, str, int], Staged]  # by model, task and length
    labels: dict[tuple[str, str], Labels]  # by task and split


def verify_resources(
    experiment: Experiment, cells: Sequence[Cell], findings: Findings, recorded: Mapping[Path, dict] = NOTHING
) -> Resources:
    """Return the resources that these cells were made from; add their problems to the findings.

    `recorded` has the hashes of each manifest's files in an import's records. An import's resources are left out if
    they are not staged here or differ from those that the cells were run with: that is not a problem.
    """
    reader = _Reader(experiment, findings, recorded)
    holding_out = {cell.task for cell in cells if cell.values["do_train"] and cell.values["selection"] == HOLDOUT}
    for name in dict.fromkeys(name for cell in cells for name in (cell.model, experiment.tokenizer_of(cell.model))):
        reader.read_model(name)
    for task, cell in {cell.task: cell for cell in cells}.items():
        reader.read_task(task_of(experiment, cell), task in holding_out)
    for cell in {(cell.model, cell.task, cell.values["max_seq_length"]): cell for cell in cells}.values():
        reader.read_tokens(cell, task_of(experiment, cell))
    return reader.resources


def task_of(experiment: Experiment, cell: Cell) -> Task:
    """Return the task of a cell."""
    return Task(name=cell.task, **definition(experiment.tasks[cell.task]))


class _Reader:
    """Reads resources, each of which may serve many cells."""

    def __init__(self, experiment: Experiment, findings: Findings, recorded: Mapping[Path, dict]):
        self.experiment = experiment
        self.findings = findings
        self.recorded = recorded
        self.resources = Resources({}, {}, {}, {})

    def read_model(self, name: str) -> None:
        """Check the hashes of a model's files, including its tokenizer's."""
        manifest = Path(paths.MODEL_MANIFEST.format(model_key=self.experiment.model_key(name)))
        if self._is_elsewhere(manifest):
            return
        with self.findings.noting():
            staged = self._staged(manifest, MODEL_MANIFEST)
            self._check_source(staged, self.experiment.models[name])
            if tokenizer := staged.content["tokenizer"]:
                self._check_hash(manifest, tokenizer["file"], tokenizer["sha256"])
            self.resources.models[name] = staged

    def read_task(self, task: Task, holds_out: bool) -> None:
        """Check the hashes of a task's files, count their rows, and read the labels of scored and predicted splits.

        With `holds_out`, also read those of the training split, since a part of it is scored.
        """
        manifest = Path(paths.TASK_MANIFEST.format(task_key=self.experiment.task_key(task.name)))
        if self._is_elsewhere(manifest):
            return
        with self.findings.noting():
            staged = self._staged(manifest, TASK_MANIFEST)
            self._check_source(staged, self.experiment.tasks[task.name])
            self.resources.tasks[task.name] = staged
        for split in task.splits if task.name in self.resources.tasks else ():
            with self.findings.noting():
                self._read_split(staged, task, split, with_labels=holds_out or split != task.train)

    def _read_split(self, staged: Staged, task: Task, split: str, with_labels: bool) -> None:
        files = staged.files_of(split)
        if not files:
            raise DataError(f"{staged.manifest}: names no file of the split {split!r}")
        if not all(file.exists() for file in files):
            return
        rows = sum(count_rows(file) for file in files)
        self._check_rows(staged.manifest, split, staged.content["rows"].get(split), rows)
        if split not in task.predicted_only:
            self._check_label_names(staged, task, files)
        if with_labels:
            self.resources.labels[task.name, split] = labels_of(staged, task, split)

    def _check_label_names(self, staged: Staged, task: Task, files: list[Path]) -> None:
        """Compare the names that the data give to the numbers of their labels with the task's labels."""
        by_card = staged.content.get("label_names", {})
        for path in files:
            of_card = by_card.get(str(path.relative_to(staged.manifest.parent)), {}).get(task.label_column, [])
            for names in (names_of_numbers(path, task.label_column), of_card):
                if _are_moved(names, task.labels or []) and holds_numbers(path, task.label_column):
                    said, labels = ", ".join(names), ", ".join(task.labels)
                    self.findings.add(path, f"numbers its labels [{said}], the task's labels are [{labels}]")

    def read_tokens(self, cell: Cell, task: Task) -> None:
        """Check the hashes of a cell's tokens, and compare what they were made from with what is staged."""
        model, length = cell.model, cell.values["max_seq_length"]
        manifest = staged_tokens(self.experiment, cell)
        if self._is_elsewhere(manifest):
            return
        with self.findings.noting():
            tokens = self._staged(manifest, TOKENS_MANIFEST)
            self.resources.tokens[model, task.name, length] = tokens
            tokenizer = self.resources.models.get(self.experiment.tokenizer_of(model))
            data = self.resources.tasks.get(task.name)
            if tokenizer and data:
                self._check_origin(tokens, _origin(tokenizer, data, task, length))
                for split in task.splits:
                    rows = tokens.content["splits"].get(split, {}).get("rows")
                    self._check_rows(manifest, split, rows, data.content["rows"].get(split))

    def _is_elsewhere(self, manifest: Path) -> bool:
        """Tell whether a resource of an import is not here; if so, record it."""
        if not self.experiment.imported:
            return False
        staged = None
        with suppress(DataError, KeyError, TypeError, AttributeError):
            staged = recorded_hashes(manifest)
        is_elsewhere = staged is None or staged != self.recorded.get(manifest)
        if is_elsewhere:
            self.findings.elsewhere.add(manifest)
        return is_elsewhere

    def _staged(self, manifest: Path, shape: dict) -> Staged:
        if not manifest.exists():
            missing = "is missing, so the hashes of what cells were made from cannot be checked"
            raise DataError(f"{manifest}: {missing}; `snakemake stage` makes it again")
        content = read_shaped(manifest, shape)
        for name, identity in content["files"].items():
            self._check_hash(manifest, name, identity["sha256"])
        return Staged(manifest, content)

    def _check_hash(self, manifest: Path, name: str, recorded: str) -> None:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise DataError(f"{manifest}: names the file {name!r}, which is outside its folder")
        self.findings.check_hash(manifest.parent / name, recorded, "its manifest")

    def _check_source(self, staged: Staged, entry: dict) -> None:
        for key in ("source", "revision"):
            if staged.content[key] != entry[key]:
                problem = f"{key} is {staged.content[key]!r}, the experiment asks for {entry[key]!r}"
                self.findings.add(staged.manifest, problem)

    def _check_rows(self, manifest: Path, split: str, recorded: int | None, rows: int | None) -> None:
        if recorded != rows:
            self.findings.add(manifest, f"has {recorded} rows of {split}, the data have {rows}")

    def _check_origin(self, tokens: Staged, origin: dict) -> None:
        made_from = tokens.content["made_from"]
        key = "data_sha256"
        self.findings.check_hashes(tokens.manifest, f"made_from.{key}", made_from[key], origin.pop(key))
        for key, expected in origin.items():
            if made_from.get(key) != expected:
                problem = f"made_from.{key} is {made_from.get(key)!r}, the model and the task give {expected!r}"
                self.findings.add(tokens.manifest, problem)


def labels_of(staged: Staged, task: Task, split: str) -> Labels:
    """Return the labels and row numbers of a split; if train was cut, the rows keep their numbers from before."""
    labels = read_labels(staged.files_of(split), task)
    if not task.cut_from_train or split not in (task.train, *task.cut_from_train):
        return labels
    numbers = rows_of_split(split, staged.content["rows"], task.train, task.cut_from_train)
    if len(numbers) != len(labels.label):
        raise DataError(f"{staged.manifest}: a cut gives {len(numbers)} rows of {split}, the data {len(labels.label)}")
    return Labels(numpy.array(numbers), labels.label)


def _are_moved(names: list[str], labels: list[str]) -> bool:
    """Tell whether a name is that of a label with another number; ignore case unless it alone tells them apart.

    A name also stands for a label if one begins with the other, provided that this pairs all of them uniquely.
    """
    if len({name.lower() for name in names}) == len(names) and len({label.lower() for label in labels}) == len(labels):
        names, labels = [name.lower() for name in names], [label.lower() for label in labels]
    if any(name in labels and labels.index(name) != number for number, name in enumerate(names)):
        return True
    begun = [[label for label in labels if label.startswith(name) or name.startswith(label)] for name in names]
    is_clear = len(names) == len(labels) and sorted(map(len, begun)) == [1] * len(labels)
    return is_clear and sorted(meant := [label for (label,) in begun]) == sorted(labels) and meant != labels


def _origin(tokenizer: Staged, data: Staged, task: Task, length: int) -> dict:
    """Return what tokens must have been made from. Raise DataError if the model has no tokenizer."""
    described = tokenizer.content["tokenizer"]
    if described is None:
        raise DataError(f"{tokenizer.manifest}: has no tokenizer, and the tokens of {task.name} were made with it")
    limit = described["max_length"]
    return {
        "tokenizer_sha256": described["sha256"],
        "data_sha256": {name: digest for name, digest in data.hashes.items() if split_of(name) in task.splits},
        "text_columns": task.text_columns,
        "label_column": task.label_column,
        "labels": task.labels,
        "splits": task.splits,
        "truncated_to": min(length, limit) if limit else length,
    }
