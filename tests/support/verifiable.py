"""An experiment that looks as after a run, with random predictions, for tests of verification."""

import json
import math
import re
from collections.abc import Callable, Collection
from pathlib import Path

import builders
import numpy
import pyarrow
import pyarrow.parquet
import yaml

from gluegrid.common import paths
from gluegrid.common.files import read_json, sha256, write_json
from gluegrid.common.manifests import file_identity
from gluegrid.execution import attempts
from gluegrid.execution.reasons import Cause, Reason
from gluegrid.experiment.cell import Cell
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.loading import load_experiment
from gluegrid.experiment.task import Task, definition
from gluegrid.results.outcomes import read_outcomes
from gluegrid.results.results_md import write_tables
from gluegrid.training.dataset import held_out
from gluegrid.training.metrics import score
from gluegrid.training.predict import with_answers
from gluegrid.verification.exports import verify_csv, verify_json
from gluegrid.verification.findings import Findings, Hashes
from gluegrid.verification.resources import verify_resources
from gluegrid.verification.runs import verify_run
from gluegrid.verification.tables import verify_markdown
from gluegrid.verification.verify import frozen_experiment

HEAD = "2026-01-02T030405+0000-abcdef.json"
ROWS = {"train": 40, "validation": 30, "validation_matched": 30, "validation_mismatched": 25}
NO_NUMBERS = {"Task", "Metric", "Model", "Cell", "Reason", "Log"}  # titles of columns


def write_experiment(config: dict, failed: str, not_run: str, constant: Collection[str]) -> Experiment:
    """Write all files of an experiment below the working folder, its head and its tables too.

    The names of cells say which one has failed, which was not run, and which say the same of all examples.
    """
    Path("model").mkdir()
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        Path("model", name).write_text("{}", encoding="utf-8")
    Path("config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    experiment = load_experiment(Path("config.yaml"))
    for model in experiment.models:
        stage_model(experiment, model)
    for task in tasks_of(experiment).values():
        stage_task(experiment, task)
        for model in experiment.models:
            write_tokens(experiment, model, task)
    for number, cell in enumerate(experiment.cells.values()):
        if cell.name not in (failed, not_run):
            write_cell(experiment, cell, number, is_constant=cell.name in constant)
    folder = Path("results", experiment.name)
    state = folder / "state" / failed
    attempts.start(state, "0")
    attempts.end(state, Reason(Cause.FAILED, "the loss is nan at step 3 | no *more*"))
    head = folder / "heads" / HEAD
    head.parent.mkdir()
    head.write_text(json.dumps({"started": "2026-01-02T03:04:05+00:00", "config": experiment.config}), encoding="utf-8")
    write_tables(experiment, read_outcomes(experiment))
    return experiment


def tasks_of(experiment: Experiment) -> dict[str, Task]:
    return {name: Task(name=name, **definition(entry)) for name, entry in experiment.tasks.items()}


def stage_model(experiment: Experiment, model: str) -> None:
    manifest = Path(paths.MODEL_MANIFEST.format(model_key=experiment.model_key(model)))
    manifest.parent.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer_backend.json"):
        (manifest.parent / name).write_text(f"{name} of {model}, {'long ' * 20}", encoding="utf-8")
    files = {name: file_identity(manifest.parent / name) for name in ("config.json", "model.safetensors")}
    digest = sha256(manifest.parent / "tokenizer_backend.json")
    tokenizer = {"file": "tokenizer_backend.json", "sha256": digest, "max_length": 64}
    write_manifest(manifest, experiment.models[model], files, tokenizer=tokenizer)


def write_manifest(manifest: Path, entry: dict, files: dict, **content) -> None:
    source = {"source": entry["source"], "revision": entry["revision"], "resolved_revision": None}
    write_json(manifest, source | {"files": files} | content)


def stage_task(experiment: Experiment, task: Task) -> None:
    manifest = manifest_of_task(experiment, task)
    rows = {split: ROWS.get(split, 6) for split in task.splits}
    folder = manifest.parent / task.folder
    written = {split: builders.write_split(folder, split, builders.rows(rows[split], task)) for split in task.splits}
    files = {str(path.relative_to(manifest.parent)): file_identity(path) for path in written.values()}
    write_manifest(manifest, experiment.tasks[task.name], files, rows=rows)


def manifest_of_task(experiment: Experiment, task: Task) -> Path:
    return Path(paths.TASK_MANIFEST.format(task_key=experiment.task_key(task.name)))


def manifest_of_tokens(experiment: Experiment, model: str, task: Task) -> Path:
    return Path(experiment.tokens_manifest(next(iter(experiment.cells_of(model, task.name).values()))))


def write_tokens(experiment: Experiment, model: str, task: Task) -> None:
    data = read_json(manifest_of_task(experiment, task))
    tokenizer = read_json(Path(paths.MODEL_MANIFEST.format(model_key=experiment.tokenizer_key(model))))["tokenizer"]
    manifest = manifest_of_tokens(experiment, model, task)
    manifest.parent.mkdir(parents=True, exist_ok=True)
    for split in task.splits:
        (manifest.parent / f"{split}.arrow").write_text(f"tokens of {split}, {'long ' * 20}", encoding="utf-8")
    made_from = {
        "tokenizer_sha256": tokenizer["sha256"],
        "data_sha256": {name: identity["sha256"] for name, identity in data["files"].items()},
        "text_columns": task.text_columns,
        "label_column": task.label_column,
        "labels": task.labels,
        "splits": task.splits,
        "truncated_to": 64,
    }
    splits = {split: {"rows": rows, "tokens": 99, "longest": 9} for split, rows in data["rows"].items()}
    files = {f"{split}.arrow": file_identity(manifest.parent / f"{split}.arrow") for split in task.splits}
    write_json(manifest, {"made_from": made_from, "splits": splits, "files": files})


def write_cell(experiment: Experiment, cell: Cell, number: int, is_constant: bool = False) -> None:
    """Write a cell's files with random predictions, scored by the code that scores a training's."""
    task = Task(name=cell.task, **definition(experiment.tasks[cell.task]))
    folder = Path(experiment.paths.runs.format(**cell.wildcards))
    folder.mkdir(parents=True)
    is_trained = cell.values["do_train"]
    results, predictions = train_metrics(cell) if is_trained else {}, {}
    holdout = {"holdout": "_holdout"} if cell.run.get("selection") == "holdout" else {}
    scored = task.validation | holdout
    for split in (*scored, *task.test):
        table = random_predictions(experiment, task, split, cell, numpy.random.default_rng(number), is_constant)
        pyarrow.parquet.write_table(table, folder / f"predictions_{split}.parquet")
        predictions[split] = sha256(folder / f"predictions_{split}.parquet")
        if split in scored:
            results |= evaluation_metrics(task, table, scored[split])
        elif not task.validation:
            results["predict_samples"] = results.get("predict_samples", 0) + len(table)
    model = read_json(Path(paths.MODEL_MANIFEST.format(model_key=experiment.model_key(cell.model))))
    data = read_json(manifest_of_task(experiment, task))
    tokens = read_json(manifest_of_tokens(experiment, cell.model, task))
    record = {
        "identity": {
            "experiment": experiment.name,
            "model": cell.model,
            "task": cell.task,
            "variant": cell.variant,
            "seed": cell.seed,
        },
        "model_files": hashes_in(model),
        "task_files": hashes_in(data),
        "tokens_files": hashes_in(tokens),
        "predictions_sha256": predictions,
        "model_revision": model["revision"],
        "train_rows": data["rows"].get("train", 0),
    }
    builders.write_result(experiment, cell, results, **record)


def hashes_in(manifest: dict) -> dict[str, str]:
    return {name: identity["sha256"] for name, identity in manifest["files"].items()}


def train_metrics(cell: Cell) -> dict:
    """Return the train metrics of 40 rows or fewer, in batches of 8."""
    samples = cell.run.get("max_train_samples", 40)
    if cell.run.get("selection") == "holdout":
        samples -= int(held_out(samples).sum())
    steps = 8 if cell.task == "mnli" else 3 * math.ceil(samples / 8)
    seconds, epochs = 12.5 + cell.seed, cell.run.get("num_train_epochs", 3)
    return {
        "epoch": 1.6 if cell.task == "mnli" else 3,
        "train_loss": 0.5,
        "train_runtime": seconds,
        "train_samples": samples,
        "train_samples_per_second": samples * epochs / seconds,
        "train_steps_per_second": steps / seconds,
    }


def random_predictions(
    experiment: Experiment, task: Task, split: str, cell: Cell, random: numpy.random.Generator, is_constant: bool
) -> pyarrow.Table:
    """Return predictions of a split as training writes them, correlated with the labels."""
    of_file = "train" if split == "holdout" else split
    path = next(manifest_of_task(experiment, task).parent.rglob(f"{of_file}-*.parquet"))
    data = pyarrow.parquet.ParquetFile(path).read()
    if split == "holdout":
        data = data.slice(0, cell.run.get("max_train_samples"))
        data = data.filter(held_out(len(data)))
    if task.name == "mnli" and split in task.validation:
        data = data.slice(0, 20)
    labels = data.column("label").to_numpy()
    logits = random.normal(size=(len(labels), task.number_of_outputs)).astype(numpy.float32)
    if task.is_regression:
        logits[:, 0] = 1.25 if is_constant else logits[:, 0] + labels
        labels = labels.astype(numpy.float32).astype(numpy.float64)
    else:
        logits[numpy.arange(len(labels)), labels] += 1
        logits[:, 0] += 100 * is_constant
    return with_answers(pyarrow.table({"idx": data.column("idx"), "label": labels, "logits": list(logits)}), task)


def evaluation_metrics(task: Task, table: pyarrow.Table, suffix: str) -> dict:
    logits, labels = numpy.stack(table.column("logits").to_numpy()), table.column("label").to_numpy()
    scores = score(task, logits, labels)
    degenerate = {"degenerate": True} if scores.pop("degenerate") else {}
    seconds = 0.5
    scores |= {"runtime": seconds, "samples": len(labels), "samples_per_second": len(labels) / seconds}
    scores["steps_per_second"] = math.ceil(len(labels) / 8) / seconds
    return {f"eval_{name}{suffix}": value for name, value in scores.items()} | degenerate


def next_digit(text: str, place: int) -> str:
    """Return a text with a different digit at a place."""
    return text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :]


def digits_of_tables(text: str) -> list[int]:
    """Return the places of all digits in the columns of numbers of a document's tables."""
    places, offset, header = [], 0, []
    for line in text.splitlines(keepends=True):
        cells = list(re.finditer(r"(?:\\.|[^|\\\n])+", line)) if line.startswith("|") else []
        header = header if header and cells else [cell[0].strip() for cell in cells]
        for title, cell in zip(header, cells, strict=False):
            if title not in NO_NUMBERS:
                places += [
                    offset + digit.start()
                    for digit in re.finditer(r"\d", line)
                    if cell.start() <= digit.start() < cell.end()
                ]
        offset += len(line)
    return places


def reader_of_tables(folder: Path) -> Callable[..., list[str]]:
    """Return a function that compares an experiment's three files with its runs, which are read once, now.

    It returns what does not fit; given a file's name, it compares that one alone.
    """
    experiment = frozen_experiment(folder)
    cells = [(cell, Path(experiment.paths.runs.format(**cell.wildcards))) for cell in experiment.cells.values()]
    findings = Findings(Hashes())
    resources = verify_resources(experiment, [cell for cell, folder in cells if folder.exists()], findings)
    runs = [verify_run(experiment, cell, folder, resources, findings) for cell, folder in cells]
    states_before = verify_csv(folder / "results.csv", experiment, runs, findings)

    def verify(only: str = "") -> list[str]:
        findings, states = Findings(Hashes()), states_before
        if only in ("", "results.csv"):
            states = verify_csv(folder / "results.csv", experiment, runs, findings)
        if only in ("", "results.md"):
            verify_markdown(folder / "results.md", experiment, runs, states, findings)
        if only in ("", "results.json"):
            verify_json(folder / "results.json", experiment, runs, states, findings)
        return findings.problems

    assert verify() == []
    return verify


def change_once(path: Path, pattern: str, other: str) -> None:
    """Change the first place of a file that a regular expression matches."""
    text = path.read_text(encoding="utf-8")
    changed = re.sub(pattern, other, text, count=1)
    assert changed != text
    path.write_text(changed, encoding="utf-8")


def count_of_digits_found(path: Path, verify: Callable[[str], list[str]]) -> int:
    """Return how many digits a document's tables have, after checking that changing any of them is found."""
    text = path.read_text(encoding="utf-8")
    places = digits_of_tables(text)
    for place in places:
        path.write_text(next_digit(text, place), encoding="utf-8")
        assert verify(path.name), text.splitlines()[text.count("\n", 0, place)]
    return len(places)
