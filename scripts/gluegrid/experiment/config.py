"""Load and check an experiment file. Every mistake becomes one line, before anything is written."""

from functools import cache
from pathlib import Path

import yaml

from gluegrid.common.errors import ConfigError, StagingError
from gluegrid.common.escaping import quoted
from gluegrid.experiment import yaml_loader
from gluegrid.experiment.config_checks import check
from gluegrid.experiment.config_errors import Problems
from gluegrid.experiment.folder_layouts import keys_of_layout
from gluegrid.experiment.metrics import METRICS
from gluegrid.experiment.options import OPTIONS
from gluegrid.experiment.source_checks import check_paths
from gluegrid.experiment.task_files import is_converted

PROJECT = Path(__file__).resolve().parents[3]
SCHEMA = PROJECT / "schemas" / "config.schema.yaml"
REGISTRY = PROJECT / "schemas" / "tasks.yaml"

MOST_VALUES = 1000  # in the list of one option; the number of cells has its own limit

TASK_DEFAULTS = {
    "label_column": "label",
    "train": "train",
    "validation": {"validation": ""},
    "test": ["test"],
}


def load_config(path: Path, experiment: object = None) -> tuple[dict, Problems]:
    """Return the checked content of an experiment file, its tasks completed from the registry, and its problems.

    `experiment` is what Snakemake read from `--config experiment=...`; it replaces the name in the file. Raises
    ConfigError with a line for each mistake. The returned problems hold the warnings, and later checks add to them.
    """
    content, lines = yaml_loader.load(path)
    if not isinstance(content, dict):
        needs = "it needs experiment, models and tasks, as in config.yaml"
        raise ConfigError([f"{path}: must contain keys with values; {needs}"])
    problems = Problems(path, lines)
    if experiment is not None:
        _rename(content, problems, experiment)
    if "tasks" in content:
        content["tasks"] = _tasks_as_mapping(problems, content["tasks"])
    registry = load_registry()
    check_paths(problems, content)
    problems.raise_any()
    problems.check_schema(content, config_schema())
    problems.raise_any()
    config = _completed(problems, content, registry)
    check(problems, config, registry)
    return config, problems


def name_in(path: Path) -> str:
    """Return the experiment's name from its file, without checking the rest. Raises ConfigError."""
    content, _ = yaml_loader.load(path)
    name = content.get("experiment") if isinstance(content, dict) else None
    if not isinstance(name, str):
        raise ConfigError([f"{path}: does not name an experiment; add the key experiment, as in config.yaml"])
    return name


@cache
def load_registry() -> dict[str, dict]:
    """Return the task registry that ships with the project."""
    content, lines = yaml_loader.load(REGISTRY)
    schema = config_schema()
    problems = Problems(REGISTRY, lines)
    problems.check_schema(content, schema["properties"]["tasks"])
    problems.raise_any()
    return content


@cache
def config_schema() -> dict:
    """Return the schema, which allows a list of values for each option that can be swept."""
    return _schema(
        {key: _one_or_several(each.schema) if each.is_swept else each.schema for key, each in OPTIONS.items()}
    )


def unswept_schema() -> dict:
    """Return the schema without lists of values to sweep."""
    return _schema({key: option.schema for key, option in OPTIONS.items()})


def _schema(options: dict[str, dict]) -> dict:
    """Return the file's schema with these options at every level and the names of the metrics."""
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    top = schema["properties"]
    of_cells = top["cells"]["additionalProperties"]["additionalProperties"]
    for level in (schema, top["models"]["additionalProperties"], top["tasks"]["additionalProperties"], of_cells):
        level["properties"] = options | level["properties"]
    top["tasks"]["additionalProperties"]["properties"]["metrics"]["items"] = {
        "enum": list(METRICS),
        "description": "a metric",
    }
    return schema


def _one_or_several(schema: dict) -> dict:
    """Return a schema that accepts a value, or a list of distinct values, of another schema."""
    description = f"a list of values to try, without repetition, each {schema['description']}"
    several = {"minItems": 1, "maxItems": MOST_VALUES, "uniqueItems": True, "items": schema, "description": description}
    return {"if": {"type": "array"}, "then": {"type": "array", **several}, "else": schema}


def _rename(content: dict, problems: Problems, experiment: object) -> None:
    """Replace the name in the file by the one from the command line."""
    if not isinstance(experiment, str):
        # Snakemake turns whatever looks like a number into one, even in quotes.
        advice = "choose a name with letters, such as run-42"
        raise ConfigError([f"--config: experiment: Snakemake read {quoted(experiment)}, which is not text; {advice}"])
    content["experiment"] = experiment
    problems.lines.pop(("experiment",), None)
    problems.elsewhere[("experiment",)] = "--config"


def _tasks_as_mapping(problems: Problems, tasks: object) -> object:
    """Turn `tasks: [cola, rte]` into a mapping without further keys."""
    if not isinstance(tasks, list) or not all(isinstance(name, str) for name in tasks):
        return tasks
    mapping: dict[str, None] = {}
    for index, name in enumerate(tasks):
        if name in mapping:
            problems.add(("tasks", index), f"{quoted(name)} is listed twice; keep one of them")
        elif ("tasks", index) in problems.lines:
            problems.lines[("tasks", name)] = problems.lines[("tasks", index)]
        mapping[name] = None
    return mapping


def _completed(problems: Problems, config: dict, registry: dict) -> dict:
    """Complete the tasks, and treat a key with nothing below it, such as with all lines commented out, as empty."""
    defaults = config.get("task_defaults") or {}
    tasks = {}
    for name, entry in config["tasks"].items():
        levels = (registry.get(name, {}), defaults, entry or {})
        tasks[name] = _merged_task(*levels)
        try:
            _find_files(tasks[name], is_test_named=any("test" in level for level in levels))
        except StagingError as error:
            problems.add(("tasks", name, "source"), f"{quoted(tasks[name]['source'])} cannot be used: {error}")
    cells = {
        model: {task: values or {} for task, values in (of_model or {}).items()}
        for model, of_model in (config.get("cells") or {}).items()
    }
    return config | {"task_defaults": defaults, "tasks": tasks, "cells": cells}


def _merged_task(*levels: dict) -> dict:
    """Merge a task's levels; later ones win, and a new source does not inherit the revision of the old one."""
    task = dict(TASK_DEFAULTS)
    for level in levels:
        if "source" in level:
            task.pop("revision", None)
        task |= level
    if "files" in task:
        task["files"] = {split: [names] if isinstance(names, str) else names for split, names in task["files"].items()}
    return task


def _find_files(task: dict, is_test_named: bool) -> None:
    """Fill in the files of a folder in a known layout. A task that names its files has no test split by default."""
    task |= keys_of_layout(task)
    if not task.get("folder"):
        task.pop("folder", None)
    if is_converted(task) and not is_test_named:
        there = {*task.get("files", {}), *task.get("cut_from_train", {})}
        task["test"] = [split for split in TASK_DEFAULTS["test"] if split in there]
