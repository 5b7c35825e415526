"""What became of each cell: its results when they are there and valid, else the reason why not."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gluegrid import attempts, escaping, official_data, paths
from gluegrid.errors import DataError, RecordError
from gluegrid.experiment import Cell, Experiment, run_text
from gluegrid.files import read_json
from gluegrid.run_files import is_written
from gluegrid.submission import refusal
from gluegrid.tasks import Task, definition

SCHEMA_VERSION = 1
NOT_RUN = "not run yet"
OURS = "gluegrid: "  # what the scripts' own errors begin with


@dataclass(frozen=True)
class Outcome:
    """A cell with its results and record, or with the reason why it has none, and its log.

    `data` says in what the data of the results differ from the task's official; `other_files` are the splits of which
    the cell had another file.
    """

    cell: Cell
    log: Path
    results: dict | None = None
    record: dict | None = None
    reason: str | None = None
    data: str = ""
    other_files: Sequence[str] = ()

    @property
    def is_done(self) -> bool:
        """Whether there is a valid result."""
        return self.results is not None

    @property
    def has_failed(self) -> bool:
        """Whether the cell was tried and left no valid result."""
        return not self.is_done and self.reason != NOT_RUN


def outcomes(experiment: Experiment) -> list[Outcome]:
    """Return the outcome of every cell, in the order of the config."""
    return [_outcome(experiment, cell) for cell in experiment.cells.values()]


def has_result(experiment: Experiment, cell: Cell) -> bool:
    """Tell whether a cell has results, and they are of the run.json that the experiment asks for."""
    return Path(experiment.paths.all_results.format(**cell.wildcards)).exists() and is_written(experiment, cell)


def run_hash(text: str) -> str:
    """Return the hash that ties results to the run.json they were made from."""
    return hashlib.sha256(text.encode()).hexdigest()


def _outcome(experiment: Experiment, cell: Cell) -> Outcome:
    where = cell.wildcards
    log = Path(experiment.paths.log("train", paths.CELL).format(**where))
    results_path = Path(experiment.paths.all_results.format(**where))
    entry = experiment.tasks[cell.task]
    task = Task(name=cell.task, **definition(entry))
    if not results_path.exists():
        reason, log = _why_missing(experiment, cell, log)
        return Outcome(cell, log, reason=escaping.encodable(reason))
    try:
        record = read_json(Path(experiment.paths.run_record.format(**where)))
        results = read_json(results_path)
        _check(cell, task, results, record, results_path)
    except (DataError, RecordError) as error:
        return Outcome(cell, log, reason=escaping.encodable(str(error)))
    official, files = entry.get("official", {}), record.get("task_files", {})
    return Outcome(
        cell,
        log,
        results,
        record,
        data=official_data.difference(official, task, results, files),
        other_files=official_data.other_files(official, task, files),
    )


def _check(cell: Cell, task: Task, results: dict, record: dict, path: Path) -> None:
    if record.get("schema_version") != SCHEMA_VERSION:
        raise RecordError(
            f"{path}: its record has schema version {record.get('schema_version')},"
            f" not {SCHEMA_VERSION}; run this cell again"
        )
    if record.get("run_sha256") != run_hash(run_text(cell)):
        raise RecordError(f"{path}: was made from another run.json than the experiment asks for; run snakemake again")
    for key in (*task.metric_keys(), "train_runtime", "epoch"):
        value = results.get(key, math.nan)
        if value is not None and not (isinstance(value, int | float) and math.isfinite(value)):
            raise RecordError(f"{path}: {key!r} is missing or no number; delete the file to run this cell again")
    for key in official_data.sample_keys(task).values():
        if not isinstance(results.get(key), int):
            raise RecordError(f"{path}: {key!r} is missing or no count; delete the file to run this cell again")


def _why_missing(experiment: Experiment, cell: Cell, log: Path) -> tuple[str, Path]:
    """Return the reason why a cell has no result, and the log that tells more."""
    run = Path(experiment.paths.run.format(**cell.wildcards))
    state = paths.state_folder(run)
    if attempts.was_cancelled_last(state):
        return attempts.CANCELLED, log
    tried = attempts.read(state)
    if refused := refusal(state):
        return "; the attempt before: ".join([refused, *map(attempts.reason, tried[-1:])]), log
    if tried:
        return attempts.reason(tried[-1]), log
    for rule, wildcards, manifest in _prerequisites(experiment, cell):
        rule_log = Path(experiment.paths.log(rule, wildcards))
        if not Path(manifest).exists() and rule_log.exists():
            return f"{rule} failed: {last_line(rule_log)}", rule_log
    if log.exists():
        return f"train failed before its first step: {last_line(log)}", log
    return NOT_RUN, log


def _prerequisites(experiment: Experiment, cell: Cell) -> list[tuple[str, str, str]]:
    """Return rule, wildcards and manifest of what is staged before a cell can be trained."""
    model, tokenizer = experiment.model_key(cell.model), experiment.tokenizer_key(cell.model)
    task = experiment.task_key(cell.task)
    length = experiment.max_seq_length(cell.model, cell.task)
    tokens = paths.TOKENS_MANIFEST.format(tokenizer_key=tokenizer, task=cell.task, max_seq_length=length)
    return [
        ("fetch_model", model, paths.MODEL_MANIFEST.format(model_key=model)),
        ("fetch_model", tokenizer, paths.MODEL_MANIFEST.format(model_key=tokenizer)),
        ("fetch_task", task, paths.TASK_MANIFEST.format(task_key=task)),
        ("tokenize_task", f"{tokenizer}/{cell.task}-{length}", tokens),
    ]


def last_line(log: Path) -> str:
    """Return the line of a failed job's log that is its error: the last of ours, else the last.

    After ours, the launcher's traceback may follow.
    """
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    ours = [line.removeprefix(OURS) for line in lines if line.startswith(OURS)]
    return next((line for line in reversed(ours or lines) if line), "its log is empty")
