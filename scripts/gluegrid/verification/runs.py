"""Check the files of one cell: its record against its files, its results against its predictions."""

from collections.abc import Iterable
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
from gluegrid.experiment.task import Task
from gluegrid.verification.file_shapes import RECORD, RECORD_OF_TRAINING, RESULTS, read_shaped
from gluegrid.verification.findings import Findings, short
from gluegrid.verification.resources import Resources, task_of
from gluegrid.verification.results import (
    held_out_rows,
    measured_keys,
    recomputed_evaluation,
    recomputed_training,
)


@dataclass(frozen=True)
class VerifiedRun:
    """A cell as verification found it: 'done', 'missing' (has no result) or 'broken' (has an unusable one).

    `values` is what tables may show: metrics recomputed from the predictions, and the measured times. Metrics whose
    predictions cannot be read are absent.
    """

    cell: Cell
    task: Task
    state: str
    results: dict = field(default_factory=dict)
    record: dict = field(default_factory=dict)
    values: dict[str, object] = field(default_factory=dict)


def precision_of(run: VerifiedRun) -> str:
    """Return the recorded precision of a result, earlier attempts first; empty if unknown."""
    record = run.record
    values = [part.get("precision") for part in record.get("continued", [])] + [record.get("precision")]
    texts: list[str] = []
    for value in values:
        if value is not None and str(value) not in texts:
            texts.append(str(value))
    return ", then ".join(texts)


def expected_answers(task: Task, predictions: Predictions) -> dict[str, list]:
    """Return the expected columns beside the logits: predictions, and the names of labels and of predictions."""
    outputs = predictions.logits.tolist()
    if task.is_regression:
        nothing = [None] * len(outputs)
        return {"prediction": [row[0] for row in outputs], "label_name": nothing, "prediction_name": nothing}
    names = dict(enumerate(task.labels))
    answers = [max(range(len(row)), key=row.__getitem__) for row in outputs]
    return {
        "prediction": answers,
        "label_name": [names.get(label) for label in predictions.label.tolist()],
        "prediction_name": [names[answer] for answer in answers],
    }


def _differ(said: object, right: object) -> bool:
    return type(said) is not type(right) or said != right


def must_say_precisions(runs: Iterable[VerifiedRun]) -> bool:
    """Tell whether tables must say where precisions differ; those of older records, without `compute_paths`, do not."""
    return any("compute_paths" in run.record for run in runs)


def has_result(folder: Path) -> bool:
    """Tell whether a cell has a result: all_results.json, which is written last."""
    return (folder / "all_results.json").exists()


def verify_run(
    experiment: Experiment, cell: Cell, folder: Path, resources: Resources, findings: Findings
) -> VerifiedRun:
    """Return a cell and what tables may show of it; add its problems to the findings."""
    task = task_of(experiment, cell)
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
        self._check_start()
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

    @property
    def _is_trained(self) -> bool:
        return self._settings["do_train"]

    @property
    def _holds_out(self) -> bool:
        return self._is_trained and self._settings["selection"] == HOLDOUT

    @property
    def _scored(self) -> dict[str, str]:
        """The suffix of each split that is scored, by its name."""
        return self.task.validation | ({HOLDOUT: HOLDOUT_SUFFIX} if self._holds_out else {})

    @property
    def _measured_keys(self) -> set[str]:
        return measured_keys(self._scored.values(), self._is_trained)

    def _check_run(self) -> None:
        """Compare run.json, and its hash in the record, with what the experiment asks for."""
        asked_for = run_hash(run_text(self.cell))
        self.findings.check_hash(self.folder / "run.json", asked_for, "the experiment")
        if self.record["run_sha256"] != asked_for:
            recorded = short(self.record["run_sha256"])
            problem = f"run_sha256 is {recorded}, that of the experiment is {short(asked_for)}"
            self.findings.add(self._record_path, problem)

    def _check_record(self) -> None:
        """Check what the record says about the cell and about the resources it was made from."""
        cell, run = self.cell, self.cell.run
        model, data = self.resources.models.get(cell.model), self.resources.tasks.get(cell.task)
        tokens = self.resources.tokens.get((cell.model, cell.task, self._settings["max_seq_length"]))
        names = {key: run[key]["name"] for key in ("model", "task")}  # an import may rename them
        identity = {"experiment": run["experiment"], **names, "variant": cell.variant, "seed": cell.seed}
        expected = {"schema_version": SCHEMA_VERSION, "identity": identity}
        if model:
            expected["model_revision"] = model.content["resolved_revision"] or model.content["revision"]
        if data and self._is_trained:
            expected["train_rows"] = data.content["rows"].get(self.task.train)
        for key, value in expected.items():
            if self.record[key] != value:
                self.findings.add(self._record_path, f"{key} is {self.record[key]!r}, it should be {value!r}")
        for key, staged in (("model_files", model), ("task_files", data), ("tokens_files", tokens)):
            if staged:
                self.findings.check_hashes(self._record_path, key, self.record[key], staged.hashes)

    def _check_start(self) -> None:
        """Compare the hashes of the model that the cell started from with those of the cell that trained it."""
        if self.start is None:
            return
        with self.findings.noting():
            path = cell_beside(self.folder / "run.json", self.start.task, self.start.variant) / "run_record.json"
            saved = read_shaped(path, RECORD).get("saved_model", {}).get("files", {})
            self.findings.check_hashes(self._record_path, "start_files", self.record.get("start_files", {}), saved)

    def _expected_results(self) -> dict:
        """Return what all_results.json must say, as far as the readable files determine it."""
        expected = self._expected_training() if self._is_trained else {}
        degenerate = False
        predictions = self._predictions()
        for split in (split for split in self._scored if split in predictions):
            with self.findings.noting():
                self._check_scorable(split, predictions[split])
                batch = self._settings["per_device_eval_batch_size"]
                scores = recomputed_evaluation(self.task, self._scored[split], predictions[split], batch, self.results)
                degenerate |= scores.pop("degenerate")
                expected |= scores
        if not self._scored and predictions.keys() == {*self.task.test}:
            expected["predict_samples"] = sum(len(split.label) for split in predictions.values())
        if degenerate or self._has_all(expected):
            expected["degenerate"] = degenerate
        return expected

    def _expected_training(self) -> dict:
        rows = self.record["train_rows"]
        if self._holds_out:
            rows = min(rows, self._settings["max_train_samples"] or rows)
            rows -= len(held_out_rows(rows))
        return recomputed_training(self._settings, rows, self.results)

    def _has_all(self, expected: dict) -> bool:
        return expected.keys() >= set(self.task.metric_keys())

    def _predictions(self) -> dict[str, Predictions]:
        """Return the readable predictions by split, after comparing them with the record and the data."""
        recorded = self.record["predictions_sha256"]
        splits = [split for split in (*self._scored, *self.task.test) if split != self.task.train]
        files = {path.stem.removeprefix("predictions_") for path in self.folder.glob("predictions_*.parquet")}
        for name in sorted({*recorded, *files} - {*splits}):
            self.findings.add(self._path(name), "belongs to no split of this task")
        predictions = {}
        for split in splits:
            path = self._path(split)
            if split in recorded:
                self.findings.check_hash(path, recorded[split], "run_record.json")
            else:
                self.findings.add(self._record_path, f"predictions_sha256 has nothing for {split}")
            if path.exists():
                with self.findings.noting():
                    predictions[split] = read_predictions(path, self.task)
                    self._check_answers(path, predictions[split])
                    self._check_labels(path, predictions[split], self._labels_of(split))
        return predictions

    def _path(self, split: str) -> Path:
        return self.folder / f"predictions_{split}.parquet"

    def _labels_of(self, split: str) -> Labels | None:
        """Return the numbers and labels of a split's examples in the data, or None if unknown."""
        is_held_out = split == HOLDOUT and self._holds_out
        data = self.resources.labels.get((self.cell.task, self.task.train if is_held_out else split))
        if data is None:
            return None
        if is_held_out:
            rows = held_out_rows(len(data.label[: self._settings["max_train_samples"]]))
        else:
            rows = slice(self._settings["max_eval_samples"] if split in self.task.validation else None)
        return Labels(data.idx[rows], data.label[rows])

    def _check_labels(self, path: Path, predictions: Predictions, data: Labels | None) -> None:
        """Compare the numbers and labels of the examples with those in the data."""
        if data is None:
            return
        rows = len(data.label)
        if len(predictions.label) != rows:
            raise DataError(f"{path}: has {len(predictions.label)} rows, the data give {rows}")
        for name in ("idx", "label"):
            predicted, expected = getattr(predictions, name), getattr(data, name)
            wrong = numpy.flatnonzero(predicted != expected)
            if len(wrong):
                row = wrong[0]
                problem = f"{name} is {predicted[row]} in row {row}, in the data {expected[row]}"
                more = f" ({len(wrong)} of {rows} rows differ)" if len(wrong) > 1 else ""
                self.findings.add(path, problem + more)

    def _check_answers(self, path: Path, predictions: Predictions) -> None:
        """Compare predictions and names with logits and labels; files of earlier releases lack the former."""
        expected = expected_answers(self.task, predictions) if predictions.answers else {}
        for name, values in expected.items():
            wrong = [
                row for row, pair in enumerate(zip(predictions.answers[name], values, strict=True)) if _differ(*pair)
            ]
            if wrong:
                said, right = predictions.answers[name][wrong[0]], values[wrong[0]]
                problem = f"{name} is {said!r} in row {wrong[0]}, by its logits and label it is {right!r}"
                self.findings.add(path, problem + (f" ({len(wrong)} rows differ)" if len(wrong) > 1 else ""))

    def _check_scorable(self, split: str, predictions: Predictions) -> None:
        labels, classes = predictions.label, self.task.number_of_outputs
        if len(labels) == 0:
            raise DataError(f"{self._path(split)}: has no rows")
        if not self.task.is_regression and (labels.min() < 0 or labels.max() >= classes):
            raise DataError(f"{self._path(split)}: has labels outside 0 to {classes - 1}")

    def _check_results(self, expected: dict) -> None:
        path = self.folder / "all_results.json"
        results = {"degenerate": False} | self.results
        for key, value in expected.items():
            self.findings.metrics += 1
            if key not in results:
                self.findings.add(path, f"lacks {key}, which should be {value!r}")
            elif not agree(results[key], value):
                self.findings.add(path, f"{key} is {results[key]!r}, it should be {value!r}")
        for key in self._measured_keys:
            if not is_number(results.get(key)) or results[key] < 0:
                self.findings.add(path, f"{key} is {results.get(key)!r}, it should be a number")
        if self._has_all(expected):
            for key in sorted(results.keys() - expected.keys() - self._measured_keys):
                self.findings.add(path, f"{key} is {results[key]!r}, and no prediction gives it")

    def _is_usable(self) -> bool:
        """Tell whether tables show this result: whether it is of this run and has all that they need."""
        needed = [*self.task.metric_keys(), *(f"eval_samples{suffix}" for suffix in self.task.validation.values())]
        needed += ["train_runtime", "epoch", "train_samples"] if self._is_trained else []
        needed += self.task.holdout_keys() if self._holds_out else []
        is_whole = all(self.results.get(key, "") is None or is_number(self.results.get(key)) for key in needed)
        is_of_this_run = self.record["run_sha256"] == run_hash(run_text(self.cell))
        return is_whole and is_of_this_run and self.record["schema_version"] == SCHEMA_VERSION

    def _shown(self, expected: dict) -> dict[str, object]:
        """Return the measured values and the recomputed ones, in their stored form if both agree."""
        measured = measured_keys([], self._is_trained) & self.results.keys()
        # Without the stored form, a tie could be rounded to another side than in the tables.
        stored = {key for key in expected.keys() & self.results.keys() if agree(self.results[key], expected[key])}
        return expected | {key: self.results[key] for key in measured | stored}
