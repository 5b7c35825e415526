"""The outcome of each cell: its results if they exist and are valid, otherwise the reason why not."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gluegrid.common import escaping, paths
from gluegrid.common.errors import DataError, RecordError
from gluegrid.common.files import json_if_there, read_json
from gluegrid.execution import attempts
from gluegrid.execution.invocation import was_interrupted, was_left_behind
from gluegrid.execution.job_logs import has_error_of_its_own, last_line
from gluegrid.execution.packs import log_of_failed_start
from gluegrid.execution.reasons import PREEMPTED, STOPPED, Cause, Reason, reason_elsewhere
from gluegrid.execution.submissions import refusal
from gluegrid.experiment.cell import Cell, run_hash, run_text
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.run import SCHEMA_VERSION
from gluegrid.experiment.task import Task, definition
from gluegrid.results import official_data


@dataclass(frozen=True)
class Outcome:
    """A cell with its results and record, or the reason why it has none, and its log.

    If `is_stopped`, somebody stopped the cell before it was done; nothing is wrong, and the next call resumes it.
    `data` says how the data differ from the task's official files, or is SYNTHETIC. `other_files` are the splits whose
    file is not the official one. `attempts` are those of a cell without results, oldest first.
    """

    cell: Cell
    log: Path
    results: dict | None = None
    record: dict | None = None
    why: Reason | None = None
    is_stopped: bool = False
    data: str = ""
    other_files: Sequence[str] = ()
    attempts: Sequence[dict] = ()

    @property
    def reason(self) -> str | None:
        """The reason why it has no results, for people."""
        return None if self.why is None else escaping.encodable(str(self.why))

    @property
    def is_done(self) -> bool:
        """Whether there is a valid result."""
        return self.results is not None

    @property
    def has_failed(self) -> bool:
        """Whether the cell was attempted and has no valid result, although nobody stopped it."""
        return not self.is_done and not self.is_stopped and self.why.cause != Cause.NOT_RUN

    @property
    def has_other_data(self) -> bool:
        """Whether its data differ from the official files; synthetic data are not compared with them."""
        return self.data not in ("", official_data.SYNTHETIC)

    @property
    def is_degenerate(self) -> bool:
        """Whether its model predicts the same for all examples of a split, or has an undefined metric."""
        return self.is_done and bool(self.results.get("degenerate"))


def read_outcomes(experiment: Experiment) -> list[Outcome]:
    """Return the outcome of every cell, in the order of the config."""
    return [outcome(experiment, cell) for cell in experiment.cells.values()]


def outcome(experiment: Experiment, cell: Cell) -> Outcome:
    """Return the outcome of a cell so far."""
    where = cell.wildcards
    log = train_log(experiment, cell)
    results_path = Path(experiment.paths.all_results.format(**where))
    if not results_path.exists() and cell.name in experiment.imported:
        return Outcome(cell, log, why=reason_elsewhere(experiment.imported[cell.name].reason))
    if not results_path.exists():
        tried = attempts.read(state_of(experiment, cell))
        why, log = _why_missing(experiment, cell, tried, log)
        return Outcome(cell, log, why=why, is_stopped=_is_stopped(why, tried), attempts=tried)
    entry = experiment.tasks[cell.task]
    task = Task(name=cell.task, **definition(entry))
    try:
        record = read_json(Path(experiment.paths.run_record.format(**where)))
        results = read_json(results_path)
        _check(cell, task, results, record, results_path)
    except (DataError, RecordError) as error:
        return Outcome(cell, log, why=Reason(Cause.INVALID, str(error)))
    official, files = {} if entry.get("synthetic") else entry.get("official", {}), record.get("task_files", {})
    difference = official_data.difference(official, task, results, files)
    return Outcome(
        cell,
        log,
        results,
        record,
        data=official_data.SYNTHETIC if entry.get("synthetic") else difference,
        other_files=official_data.other_files(official, task, files),
    )


def train_log(experiment: Experiment, cell: Cell) -> Path:
    """Return the log of a cell's training; for an imported cell, its path in the clone that trained it."""
    if cell.name in experiment.imported:
        return experiment.imported[cell.name].log
    return Path(experiment.paths.log("train", paths.CELL).format(**cell.wildcards))


def missing_prerequisites(experiment: Experiment, cell: Cell) -> list[tuple[str, Path]]:
    """Return the rule and the log of each resource that a cell needs but that is not staged."""
    if experiment.imported:
        return []
    return [
        (rule, Path(experiment.paths.log(rule, wildcards)))
        for rule, wildcards, manifest in _prerequisites(experiment, cell)
        if not Path(manifest).exists()
    ]


def is_cut_off(experiment: Experiment, log: Path) -> bool:
    """Tell from its log whether a job ended because its call was interrupted, and not by an error of its own."""
    return was_left_behind(Path(experiment.paths.root), log) and not has_error_of_its_own(log)


def has_result(experiment: Experiment, cell: Cell) -> bool:
    """Tell whether a cell has results of the run that the experiment asks for, according to their record.

    The record decides, not run.json, so that changing a value and changing it back does not retrain the cell.
    """
    needed = (experiment.paths.all_results, experiment.paths.run)
    if not all(Path(path.format(**cell.wildcards)).exists() for path in needed):
        return False
    return _run_of_result(experiment, cell) == run_hash(run_text(cell))


def has_result_of_another_run(experiment: Experiment, cell: Cell) -> bool:
    """Tell whether a cell's results are, according to their record, of another run than the experiment asks for."""
    if not Path(experiment.paths.all_results.format(**cell.wildcards)).exists():
        return False
    return _run_of_result(experiment, cell) not in (None, run_hash(run_text(cell)))


def _run_of_result(experiment: Experiment, cell: Cell) -> str | None:
    """Return the hash of the run.json that gave a cell's results, or None if no record has it."""
    return json_if_there(Path(experiment.paths.run_record.format(**cell.wildcards))).get("run_sha256")


def validation_predictions(experiment: Experiment, cell: Cell) -> dict[str, Path]:
    """Return the path of a cell's predictions for each validation split."""
    splits = experiment.tasks[cell.task]["validation"]
    return {split: Path(experiment.paths.predictions.format(**cell.wildcards, split=split)) for split in splits}


def _check(cell: Cell, task: Task, results: dict, record: dict, path: Path) -> None:
    if record.get("schema_version") != SCHEMA_VERSION:
        raise RecordError(
            f"{path}: its record has schema version {record.get('schema_version')},"
            f" not {SCHEMA_VERSION}; use the release that wrote it, or delete the file to retrain this cell"
        )
    if record.get("run_sha256") != run_hash(run_text(cell)):
        raise RecordError(f"{path}: was made from another run.json than the experiment's; run snakemake again")
    is_trained = cell.values.get("do_train", True)
    holdout = task.holdout_keys() if cell.run.get("selection") == "holdout" else []
    for key in (*task.metric_keys(), *holdout, *(("train_runtime", "epoch") if is_trained else ())):
        value = results.get(key, math.nan)
        if value is not None and not (isinstance(value, int | float) and math.isfinite(value)):
            raise RecordError(f"{path}: {key!r} is missing or not a number; delete the file to retrain this cell")
    for key in official_data.sample_keys(task, is_trained).values():
        if not isinstance(results.get(key), int):
            raise RecordError(f"{path}: {key!r} is missing or not a count; delete the file to retrain this cell")


def _why_missing(experiment: Experiment, cell: Cell, tried: list[dict], log: Path) -> tuple[Reason, Path]:
    """Return the reason why a cell has no result after these attempts, and the log that tells more."""
    state = state_of(experiment, cell)
    if attempts.was_cancelled_last(state, tried):
        return Reason(Cause.CANCELLED), log
    if refused := refusal(state, tried):
        return refused, log
    if tried:
        return _why_ended(tried[-1]), log
    for rule, rule_log in missing_prerequisites(experiment, cell):
        if rule_log.exists() and not is_cut_off(experiment, rule_log):
            return Reason(Cause.NOT_STAGED, last_line(rule_log), where=rule), rule_log
    if log.exists() and not is_cut_off(experiment, log):
        return Reason(Cause.NOT_STARTED, last_line(log)), log
    of_pack = log_of_failed_start(state)
    if of_pack and of_pack.exists() and not is_cut_off(experiment, of_pack):
        return Reason(Cause.NOT_STARTED, last_line(of_pack)), of_pack
    start = experiment.start_of_cell(cell)
    if start and (before := outcome(experiment, start)).has_failed:
        return Reason(Cause.NO_START, where=start.name), before.log
    return Reason(Cause.NOT_RUN), log


def _why_ended(attempt: dict) -> Reason:
    """Return why an attempt left no result; if an interrupted call killed it, the cause is INTERRUPTED."""
    why = attempts.why_without_result(attempt)
    is_silent = why.cause in STOPPED - PREEMPTED
    return Reason(Cause.INTERRUPTED) if is_silent and was_interrupted(attempt.get("head")) else why


def _is_stopped(why: Reason, tried: list[dict]) -> bool:
    """Tell whether a cell has no result because somebody stopped it, and not because anything was wrong."""
    if why.cause in (Cause.INTERRUPTED, Cause.SIGHUP):
        return True
    return why.cause in PREEMPTED and was_interrupted(tried[-1].get("head"))


def state_of(experiment: Experiment, cell: Cell) -> Path:
    """Return the private folder of a cell's training."""
    return paths.state_folder(Path(experiment.paths.run.format(**cell.wildcards)))


def _prerequisites(experiment: Experiment, cell: Cell) -> list[tuple[str, str, str]]:
    """Return the rule, wildcards and manifest of each resource that must be staged before a cell can be trained."""
    model, tokenizer = experiment.model_key(cell.model), experiment.tokenizer_key(cell.model)
    task, tokens = experiment.task_key(cell.task), paths.TOKENS.format(**experiment.wildcards_of_tokens(cell))
    return [
        ("fetch_model", model, paths.MODEL_MANIFEST.format(model_key=model)),
        ("fetch_model", tokenizer, paths.MODEL_MANIFEST.format(model_key=tokenizer)),
        ("fetch_task", task, paths.TASK_MANIFEST.format(task_key=task)),
        ("tokenize_task", tokens, experiment.tokens_manifest(cell)),
    ]
