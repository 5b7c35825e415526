"""Load and check an experiment file: every mistake becomes one line, before anything is created."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml

from gluegrid import strict_yaml
from gluegrid.config_report import Report, quoted, suggest
from gluegrid.errors import ConfigError
from gluegrid.paths import is_local
from gluegrid.strict_yaml import Position

PROJECT = Path(__file__).resolve().parents[2]
SCHEMA = PROJECT / "schemas" / "config.schema.yaml"
REGISTRY = PROJECT / "schemas" / "tasks.yaml"

TASK_DEFAULTS = {
    "label_column": "label",
    "train": "train",
    "validation": {"validation": ""},
    "test": ["test"],
}
REQUIRED_OF_A_TASK = ("source", "text_columns", "metrics")
METRICS_OF = {
    "regression": ("pearson", "spearmanr"),
    "classification": ("accuracy", "f1", "matthews_correlation"),
}


def load_config(path: Path, experiment: str | None = None) -> tuple[dict, Report]:
    """Return the checked content of an experiment file, its tasks completed from the registry, and its report.

    `experiment` replaces the file's own name for the experiment. Raises ConfigError with a line for each mistake; what
    is found later can be added to the report.
    """
    content, lines = strict_yaml.load(path)
    if not isinstance(content, dict):
        raise ConfigError([f"{path}: must map keys to values; it needs experiment, models and tasks, as config.yaml"])
    report = Report(path, lines)
    if experiment is not None:
        content["experiment"] = experiment
        lines.pop(("experiment",), None)
    if "tasks" in content:
        content["tasks"] = _tasks_as_mapping(report, content["tasks"])
    registry = load_registry()
    report.check_schema(content, _schema())
    report.raise_problems()
    config = _with_tasks_completed(content, registry)
    _check_tasks(report, config["tasks"], registry)
    _check_tokenizers(report, config["models"])
    _check_cells(report, config)
    _check_batch_sizes(report, config)
    report.raise_problems()
    return config, report


@cache
def load_registry() -> dict[str, dict]:
    """Return the task registry that ships with the project."""
    content, lines = strict_yaml.load(REGISTRY)
    schema = _schema()
    report = Report(REGISTRY, lines)
    report.check_schema(content, schema["properties"]["tasks"])
    report.raise_problems()
    return content


def local_sources(config: dict) -> list[tuple[Position, dict]]:
    """Return the models and tasks of a completed config that lie in a folder of this machine."""
    entries = [((part, name), entry) for part in ("models", "tasks") for name, entry in config[part].items()]
    return [(position, entry) for position, entry in entries if is_local(entry["source"])]


@cache
def _schema() -> dict:
    return yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))


def _tasks_as_mapping(report: Report, tasks: object) -> object:
    """`tasks: [cola, rte]` is short for a mapping with nothing to add."""
    if not isinstance(tasks, list) or not all(isinstance(name, str) for name in tasks):
        return tasks
    mapping: dict[str, None] = {}
    for index, name in enumerate(tasks):
        if name in mapping:
            report.add(("tasks", index), f"{quoted(name)} stands twice; keep one of them")
        elif ("tasks", index) in report.lines:
            report.lines[("tasks", name)] = report.lines[("tasks", index)]
        mapping[name] = None
    return mapping


def _with_tasks_completed(config: dict, registry: dict) -> dict:
    defaults = config.get("task_defaults", {})
    tasks = {
        name: _completed_task(registry.get(name, {}), defaults, entry or {}) for name, entry in config["tasks"].items()
    }
    return {key: value for key, value in config.items() if key != "task_defaults"} | {"tasks": tasks}


def _completed_task(*levels: dict) -> dict:
    """Merge a task's levels, the later winning; a new source does not inherit the revision of the one it replaces."""
    task = dict(TASK_DEFAULTS)
    for level in levels:
        if "source" in level:
            task.pop("revision", None)
        task |= level
    return task


def _check_tasks(report: Report, tasks: dict, registry: dict) -> None:
    for name, task in tasks.items():
        position = ("tasks", name)
        missing = [key for key in REQUIRED_OF_A_TASK if key not in task]
        if missing and name not in registry:
            needs = ", ".join(missing)
            problem = f"not in the registry, and as a task of your own it lacks {needs}.{suggest(name, registry)}"
            report.add(position, problem)
        elif task["train"] is None:
            report.add(position, "has no train split, so it cannot be trained; leave it out")
        elif not task["validation"]:
            report.add(position, "has no validation split, so nothing could be reported; name one under validation")
        elif task["train"] in task["validation"] or task["train"] in task["test"]:
            report.add(position, f"the training split {task['train']!r} is also one to be scored or predicted")
        else:
            _check_metrics(report, position, task)


def _check_metrics(report: Report, position: Position, task: dict) -> None:
    kind = "classification" if task.get("labels") else "regression"
    described = kind if task.get("labels") else "regression (what a task without labels is)"
    for metric in task["metrics"]:
        if metric not in METRICS_OF[kind]:
            allowed = ", ".join(METRICS_OF[kind])
            report.add((*position, "metrics"), f"{metric!r} does not suit a {described}; allowed: {allowed}")
    if "f1" in task["metrics"] and len(task.get("labels", [])) > 2:
        report.add((*position, "metrics"), f"'f1' is for two labels, and the task has {len(task['labels'])}")
    suffixes = list(task["validation"].values())
    for suffix in dict.fromkeys(suffix for suffix in suffixes if suffixes.count(suffix) > 1):
        report.add((*position, "validation"), f"two splits have the suffix {suffix!r}; each needs its own")


def _check_tokenizers(report: Report, models: dict) -> None:
    for name, model in models.items():
        other = model.get("tokenizer", name)
        position = ("models", name, "tokenizer")
        if other not in models:
            report.add(position, f"{quoted(other)} is not a model of this file.{suggest(other, models)}")
        elif other != name and models[other].get("tokenizer", other) != other:
            report.add(
                position, f"{other!r} itself uses the tokenizer of {models[other]['tokenizer']!r}; name that one"
            )


def _check_cells(report: Report, config: dict) -> None:
    for model, tasks in config.get("cells", {}).items():
        if model not in config["models"]:
            hint = suggest(model, config["models"])
            report.add(("cells", model), f"{quoted(model)} is not a model of this file.{hint}")
        for task in tasks:
            if task not in config["tasks"]:
                hint = suggest(task, config["tasks"])
                report.add(("cells", model, task), f"{quoted(task)} is not a task of this file.{hint}")


def _check_batch_sizes(report: Report, config: dict) -> None:
    for position, values in _levels(config):
        if {"per_device_train_batch_size", "global_batch_size"} <= values.keys():
            report.add((*position, "global_batch_size"), "stands beside per_device_train_batch_size; give one of them")


def _levels(config: dict) -> Iterator[tuple[Position, dict]]:
    """Yield each place where training values may stand, with what stands there."""
    yield (), config
    for part in ("models", "tasks"):
        for name, values in config[part].items():
            yield (part, name), values
    for model, tasks in config.get("cells", {}).items():
        for task, values in tasks.items():
            yield ("cells", model, task), values
