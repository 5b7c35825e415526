"""The files of one cell: whether its record is that of its files, and its results those of its predictions."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy

from gluegrid.analysis.predictions import Labels, Predictions, read_predictions
from gluegrid.common.errors import DataError
from gluegrid.common.formatting import agree, is_number
from gluegrid.common.paths import cell_beside
from gluegrid.experiment.cell import Cell, run_hash, run_text
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.run import HOLDOUT, HOLDOUT_SUFFIX, SCHEMA_VERSION
from gluegrid.experiment.task import Task, definition
from gluegrid.training.dataset import held_out
from gluegrid.verification.file_shapes import RECORD, RECORD_OF_TRAINING, RESULTS, read_shaped
from gluegrid.verification.findings import Findings, short
from gluegrid.verification.resources import Resources, Staged
from gluegrid.verification.results import measured_keys, recomputed_evaluation, recomputed_training


@dataclass(frozen=True)
class VerifiedRun:
    """A cell as verification found it: 'done', 'missing' (has no result) or 'broken' (has one that cannot be used).

    `values` is what tables may show: metrics that the predictions give, and the measured times. Metrics whose
    predictions cannot be read are absent.
    """

    cell: Cell
    task: Task
    state: str
    results: dict = field(default_factory=dict)
    record: dict = field(default_factory=dict)
    values: dict[str, object] = field(default_factory=dict)


def has_result(folder: Path) -> bool:
    """Tell whether a cell has a result: all_results.json, which is written last."""
    return (folder / "all_results.json").exists()


def verify_run(
    experiment: Experiment, cell: Cell, folder: Path, resources: Resources, findings: Findings
) -> VerifiedRun:
    """Return a cell with what can be shown of it; what does not fit in its folder goes to the findings."""
    task = Task(name=cell.task, **definition(experiment.tasks[cell.task]))
    if not has_result(folder):
        return VerifiedRun(cell, task, "missing")
    results, record = None, None
    with findings.noting():
        record = read_shaped(folder / "run_record.json", RECORD_OF_TRAINING if cell.values["do_train"] else RECORD)
    with findings.noting():
        results = read_shaped(folder / "all_results.json", RESULTS)
    if record is None or results is None:
        return VerifiedRun(cell, task, "broken")
    start = experiment.start_of_cell(cell)
    return _Verification(cell, task, folder, start, resources, findings, results, record).run()


@dataclass(frozen=True)
class _Verification:
    """The comparison of the files of one cell that has a result."""

    cell: Cell
    task: Task
    folder: Path
    start: Cell | None
    resources: Resources
    findings: Findings
    results: dict
    record: dict

    def run(self) -> VerifiedRun:
        self._check_run()
        self._check_record()
        expected = self._expected_results()
        self._check_results(expected)
        state = "done" if self._is_usable() else "broken"
        return VerifiedRun(self.cell, self.task, state, self.results, self.record, self._shown(expected))

    @property
    def _record_path(self) -> Path:
        return self.folder / "run_record.json"

    @property
    def _settings(self) -> dict:
        return self.cell.values

    def _check_run(self) -> None:
        """Compare run.json, what the record says of it, and what the experiment asks for."""
        asked_for = run_hash(run_text(self.cell))
        self.findings.check_hash(self.folder / "run.json", asked_for, "the experiment")
        if self.record["run_sha256"] != asked_for:
            found = short(self.record["run_sha256"])
            self.findings.add(self._record_path, f"run_sha256 is {found}, that of the experiment is {short(asked_for)}")

    def _check_record(self) -> None:
        model = self.resources.models.get(self.cell.model)
        data = self.resources.tasks.get(self.cell.task)
        tokens = self.resources.tokens.get((self.cell.model, self.cell.task, self._settings["max_seq_length"]))
        self._check_entry("schema_version", SCHEMA_VERSION)
        self._check_entry("identity", self._identity())
        for key, staged in (("model_files", model), ("task_files", data), ("tokens_files", tokens)):
            self._check_made_from(key, staged)
        self._check_start()
        if model:
            self._check_entry("model_revision", model.content["resolved_revision"] or model.content["revision"])
        if data and self._settings["do_train"]:
            self._check_entry("train_rows", data.content["rows"].get(self.task.train))

    def _check_start(self) -> None:
        """Compare the hashes of the model that the cell started from with those of the cell that trained it."""
        if self.start is None:
            return
        with self.findings.noting():
            path = cell_beside(self.folder / "run.json", self.start.task, self.start.variant) / "run_record.json"
            trained = read_shaped(path, RECORD)
            self.findings.check_hashes(
                self._record_path,
                "start_files",
                self.record.get("start_files", {}),
                trained.get("saved_model", {}).get("files", {}),
            )

    def _identity(self) -> dict:
        cell, run = self.cell, self.cell.run
        names = {key: run[key]["name"] for key in ("model", "task")}  # an import may call them otherwise
        return {"experiment": run["experiment"], **names, "variant": cell.variant, "seed": cell.seed}

    def _check_entry(self, key: str, expected: object) -> None:
        if self.record[key] != expected:
            self.findings.add(self._record_path, f"{key} is {self.record[key]!r}, it should be {expected!r}")

    def _check_made_from(self, key: str, staged: Staged | None) -> None:
        if staged:
            self.findings.check_hashes(self._record_path, key, self.record[key], staged.hashes)

    def _expected_results(self) -> dict:
        """Return what all_results.json must say, as far as the files that can be read tell."""
        expected = self._expected_training()
        degenerate = False
        predictions = self._predictions()
        for split, suffix in self._scored().items():
            if split not in predictions:
                continue
            with self.findings.noting():
                self._check_scorable(split, predictions[split])
                batch = self._settings["per_device_eval_batch_size"]
                scores = recomputed_evaluation(self.task, suffix, predictions[split], batch, self.results)
                degenerate |= scores.pop("degenerate")
                expected |= scores
        if not self._scored() and predictions.keys() == {*self.task.test}:
            expected["predict_samples"] = sum(len(split.label) for split in predictions.values())
        if degenerate or self._has_all(expected):
            expected["degenerate"] = degenerate
        return expected

    def _expected_training(self) -> dict:
        if not self._settings["do_train"]:
            return {}
        rows = self.record["train_rows"]
        if self._holds_out:
            rows = min(rows, self._settings["max_train_samples"] or rows)
            rows -= int(held_out(rows).sum())
        return recomputed_training(self._settings, rows, self.results)

    @property
    def _holds_out(self) -> bool:
        return self._settings["do_train"] and self._settings["selection"] == HOLDOUT

    def _scored(self) -> dict[str, str]:
        """Return the suffixes of what is scored, by its name."""
        return self.task.validation | ({HOLDOUT: HOLDOUT_SUFFIX} if self._holds_out else {})

    def _has_all(self, expected: dict) -> bool:
        return expected.keys() >= set(self.task.metric_keys())

    def _predictions(self) -> dict[str, Predictions]:
        """Return the predictions of each split that has readable ones, compared with record and data."""
        recorded = self.record["predictions_sha256"]
        splits = [split for split in (*self._scored(), *self.task.test) if split != self.task.train]
        for name in sorted({*recorded, *self._splits_of_files()} - {*splits}):
            self.findings.add(self._path(name), "is of no split of this task")
        found = {}
        for split in splits:
            path = self._path(split)
            if split in recorded:
                self.findings.check_hash(path, recorded[split], "run_record.json")
            else:
                self.findings.add(self._record_path, f"predictions_sha256 has nothing for {split}")
            if path.exists():
                with self.findings.noting():
                    found[split] = read_predictions(path, self.task)
                    self._check_labels(path, split, found[split])
        return found

    def _path(self, split: str) -> Path:
        return self.folder / f"predictions_{split}.parquet"

    def _splits_of_files(self) -> set[str]:
        names = (path.stem.removeprefix("predictions_") for path in self.folder.glob("predictions_*.parquet"))
        return set(names)

    def _check_labels(self, path: Path, split: str, predictions: Predictions) -> None:
        """Compare numbers and labels of the examples with those of the data."""
        data = self._labels_of_held_out() if split == HOLDOUT and self._holds_out else self._labels_of(split)
        if data is None:
            return
        rows = len(data.label)
        if len(predictions.label) != rows:
            raise DataError(f"{path}: has {len(predictions.label)} rows, the data give {rows}")
        for name in ("idx", "label"):
            found, expected = getattr(predictions, name), getattr(data, name)
            wrong = numpy.flatnonzero(found != expected)
            if len(wrong):
                row = wrong[0]
                problem = f"{name} is {found[row]} in row {row}, in the data {expected[row]}"
                more = f" ({len(wrong)} of {rows} rows differ)" if len(wrong) > 1 else ""
                self.findings.add(path, problem + more)

    def _labels_of(self, split: str) -> Labels | None:
        data = self.resources.labels.get((self.cell.task, split))
        most = self._settings["max_eval_samples"] if split in self.task.validation else None
        return data and Labels(data.idx[:most], data.label[:most])

    def _labels_of_held_out(self) -> Labels | None:
        data = self.resources.labels.get((self.cell.task, self.task.train))
        if data is None:
            return None
        most = self._settings["max_train_samples"]
        is_held_out = held_out(len(data.label[:most]))
        return Labels(data.idx[:most][is_held_out], data.label[:most][is_held_out])

    def _check_scorable(self, split: str, predictions: Predictions) -> None:
        labels = predictions.label
        if len(labels) == 0:
            raise DataError(f"{self._path(split)}: has no rows")
        if self.task.is_regression:
            return
        if labels.min() < 0 or labels.max() >= self.task.number_of_outputs:
            raise DataError(f"{self._path(split)}: has labels outside 0 to {self.task.number_of_outputs - 1}")

    def _check_results(self, expected: dict) -> None:
        path = self.folder / "all_results.json"
        found = {"degenerate": False} | self.results
        for key, value in expected.items():
            self.findings.metrics += 1
            if key not in found:
                self.findings.add(path, f"lacks {key}, which should be {value!r}")
            elif not agree(found[key], value):
                self.findings.add(path, f"{key} is {found[key]!r}, it should be {value!r}")
        for key in self._measured_keys():
            if not is_number(found.get(key)) or found[key] < 0:
                self.findings.add(path, f"{key} is {found.get(key)!r}, it should be a number")
        if self._has_all(expected):
            for key in sorted(found.keys() - expected.keys() - self._measured_keys()):
                self.findings.add(path, f"{key} is {found[key]!r}, and no prediction gives it")

    def _measured_keys(self) -> set[str]:
        return measured_keys(self._scored().values(), self._settings["do_train"])

    def _is_usable(self) -> bool:
        """Tell whether tables show this result: whether it is of this experiment and has all they need."""
        trained = self._settings["do_train"]
        times = ("train_runtime", "epoch") if trained else ()
        counts = (
            *(["train_samples"] if trained else []),
            *(f"eval_samples{suffix}" for suffix in self.task.validation.values()),
        )
        holdout = self.task.holdout_keys() if self._holds_out else ()
        numbers = (*self.task.metric_keys(), *holdout, *times, *counts)
        is_whole = all(key in self.results and _is_shown(self.results[key]) for key in numbers)
        is_of_this_run = self.record["run_sha256"] == run_hash(run_text(self.cell))
        return is_whole and is_of_this_run and self.record["schema_version"] == SCHEMA_VERSION

    def _shown(self, expected: dict) -> dict[str, object]:
        """Return the recomputed values, as they are stored where they agree, and what was measured."""
        values = {
            key: self.results[key] for key in measured_keys([], self._settings["do_train"]) if key in self.results
        }
        for key, value in expected.items():
            stored = self.results.get(key, value)
            # Else a tie in rounding could fall to another side than in the tables.
            values[key] = stored if agree(stored, value) else value
        return values


def _is_shown(value: object) -> bool:
    return value is None or is_number(value)
