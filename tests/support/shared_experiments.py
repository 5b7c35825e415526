"""Experiments that look as after a run in some clone, to be exported, imported, merged and verified."""

import hashlib
import math
import signal
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import builders
import numpy
import pyarrow
import pyarrow.parquet
import pytest
import yaml

from gluegrid.common.files import sha256
from gluegrid.common.paths import state_folder
from gluegrid.execution import attempts
from gluegrid.execution.invocation import VARIABLE, freeze
from gluegrid.execution.reasons import Cause, Reason
from gluegrid.experiment.cell import Cell
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.loading import load_experiment
from gluegrid.experiment.task import Task, definition
from gluegrid.results.outcomes import read_outcomes
from gluegrid.results.results_md import write_tables
from gluegrid.training.metrics import score

REASON = "the loss is nan at step 3 | no *more*, see /scratch/alice/log"
TASKS = {
    "pair": {"labels": ["no", "yes"], "metrics": ["accuracy", "f1"], "display_name": "Pair"},
    "number": {"metrics": ["pearson", "spearmanr"], "test": []},
}
SOURCE = {"source": "org/data", "revision": "v1", "text_columns": ["sentence"]}
ROWS = 30
KILLED = """
import time
from pathlib import Path
from gluegrid.execution import invocation
from gluegrid.sharing import archive, {module}
original, calls = {slow}, 0
def slow(*arguments):
    global calls
    calls += 1
    if calls == {after}:
        print("busy", flush=True)
        time.sleep(600)
    return original(*arguments)
{slow} = slow
{call}
"""


def write_experiment(
    name: str,
    models: Mapping[str, dict],
    tasks: Iterable[str] = TASKS,
    failed: Collection[str] = (),
    not_run: Collection[str] = (),
    **values,
) -> Experiment:
    """Write an experiment as if it had been run in the working folder, with random predictions.

    `models` maps names to entries, which may be empty. `failed` and `not_run` name cells. Of `values`, those of a
    task's name belong to it, `files` says what the files of models and tasks are (else their name), and `luck` makes
    other predictions.
    """
    files, luck = values.pop("files", {}), values.pop("luck", 0)
    entries = {model: {"source": f"org/{model}", "revision": "v1"} | entry for model, entry in models.items()}
    of_tasks = {task: SOURCE | TASKS[task] | values.pop(task, {}) for task in tasks}
    config = {"experiment": name, "models": entries, "tasks": of_tasks, "device": "cpu"} | values
    Path(f"{name}.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    experiment = load_experiment(Path(f"{name}.yaml"))
    for cell in experiment.cells.values():
        if cell.name in failed:
            state = state_folder(Path(experiment.paths.run.format(**cell.wildcards)))
            attempts.start(state, "0")
            attempts.end(state, Reason(Cause.FAILED, REASON))
        elif cell.name not in not_run:
            write_cell(experiment, cell, files, luck)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "")  # this process starts none of its jobs
        freeze(experiment.config, Path(experiment.paths.heads))
    write_tables(experiment, read_outcomes(experiment))
    return experiment


def write_cell(experiment: Experiment, cell: Cell, files: Mapping[str, str], luck: int) -> Path:
    """Write a cell's files; return its folder."""
    task = Task(name=cell.task, **definition(experiment.tasks[cell.task]))
    folder = Path(experiment.paths.runs.format(**cell.wildcards))
    folder.mkdir(parents=True, exist_ok=True)
    random = numpy.random.default_rng([luck, *f"{cell.model}{cell.task}{cell.variant}".encode(), cell.seed])
    weights, data = (files.get(name, name) for name in (cell.model, cell.task))
    results, predictions = _training(cell), {}
    for split in (*task.validation, *task.test):
        table = _predictions(task, _labels(task, f"{data} {split}"), random)
        pyarrow.parquet.write_table(table, folder / f"predictions_{split}.parquet")
        predictions[split] = sha256(folder / f"predictions_{split}.parquet")
        if split in task.validation:
            results |= _evaluation(task, table)
    record = {
        "identity": {"experiment": experiment.name, **cell.wildcards, "seed": cell.seed},
        "model_files": {"model.safetensors": digest(weights)},
        "task_files": {"train-00000-of-00001.parquet": digest(data)},
        "tokens_files": {"train.arrow": digest(weights + data)},
        "predictions_sha256": predictions,
        "model_revision": "v1",
        "train_rows": 40,
        "job": {"host": f"node-of-{experiment.name}"},
    }
    builders.write_result(experiment, cell, results, **record)
    return folder


def digest(text: str) -> str:
    """Return a SHA-256 for files that do not exist."""
    return hashlib.sha256(text.encode()).hexdigest()


def killed_in_between(module: str, slow: str, call: str, after: int) -> None:
    """Call a function of a module in gluegrid.sharing, and kill it (SIGKILL) when it starts the `after`-th `slow`."""
    process = builders.python(KILLED.format(module=module, slow=slow, call=call, after=after))
    assert process.stdout.readline() == "busy\n", process.communicate()
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def _training(cell: Cell) -> dict:
    steps, seconds = 3 * math.ceil(40 / cell.values["per_device_train_batch_size"]), 12.5 + cell.seed
    return {
        "epoch": 3,
        "train_loss": 0.5,
        "train_runtime": seconds,
        "train_samples": 40,
        "train_samples_per_second": 3 * 40 / seconds,
        "train_steps_per_second": steps / seconds,
    }


def _labels(task: Task, data: str) -> numpy.ndarray:
    """Return the labels of a split; those of a regression are in single precision, as in tokens."""
    random = numpy.random.default_rng([*data.encode()])
    return random.integers(0, 2, ROWS) if task.labels else random.normal(size=ROWS).astype("f4").astype("f8")


def _predictions(task: Task, labels: numpy.ndarray, random: numpy.random.Generator) -> pyarrow.Table:
    logits = random.normal(size=(ROWS, task.number_of_outputs)).astype(numpy.float32)
    logits[:, -1] += labels
    return pyarrow.table({"idx": numpy.arange(ROWS), "label": labels, "logits": list(logits)})


def _evaluation(task: Task, table: pyarrow.Table) -> dict:
    scores = score(task, numpy.stack(table.column("logits").to_numpy()), table.column("label").to_numpy())
    scores.pop("degenerate")
    scores |= {"runtime": 0.5, "samples": ROWS, "samples_per_second": ROWS / 0.5, "steps_per_second": 1 / 0.5}
    return {f"eval_{name}": value for name, value in scores.items()}
