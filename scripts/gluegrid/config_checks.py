"""What the schema cannot say of an experiment file: how its parts must suit each other, and what should be known."""

from collections import Counter
from collections.abc import Iterable

from gluegrid.config_report import Report, quoted_name, suggest
from gluegrid.levels import BATCH_KEYS, all_levels
from gluegrid.split_checks import check_splits
from gluegrid.strict_yaml import Position

REQUIRED_OF_A_TASK = ("source", "text_columns", "metrics")
METRICS_OF = {
    "regression": ("pearson", "spearmanr"),
    "classification": ("accuracy", "f1", "macro_f1", "matthews_correlation"),
}


def check(report: Report, config: dict, registry: dict) -> None:
    """Check a config that suits the schema and is completed; ConfigError has a line for each mistake.

    What is allowed, but should be known, becomes a warning of the report.
    """
    _check_names(report, config)
    _check_tasks(report, config["tasks"], registry)
    check_splits(report, config["tasks"])
    _check_tokenizers(report, config["models"])
    _check_cells(report, config)
    _check_batch_sizes(report, config)
    report.raise_problems()
    _warn_of_trust(report, config["models"])


def _check_names(report: Report, config: dict) -> None:
    for part in ("models", "tasks"):
        first_of: dict[str, str] = {}
        for name in config[part]:
            first = first_of.setdefault(name.lower(), name)
            if first != name:
                problem = f"differs from {first!r} only in case, and some file systems take both for one folder"
                report.add((part, name), f"{problem}; rename one of them")


def _check_tasks(report: Report, tasks: dict, registry: dict) -> None:
    for name, task in tasks.items():
        position = ("tasks", name)
        missing = [key for key in REQUIRED_OF_A_TASK if key not in task]
        if missing and name not in registry:
            needs = ", ".join(missing)
            problem = f"not in the registry, and as a task of your own it lacks {needs}.{suggest(name, registry)}"
            report.add(position, problem)
        elif task["train"] in task["validation"] or task["train"] in task["test"]:
            report.add(position, f"the training split {task['train']!r} is also one to be scored or predicted")
        elif twice := [split for split in task["test"] if split in task["validation"]]:
            report.add((*position, "test"), f"{twice[0]!r} is a validation split too, and those are predicted anyway")
        else:
            _check_metrics(report, position, task)


def _check_metrics(report: Report, position: Position, task: dict) -> None:
    if task["label_column"] in task["text_columns"]:
        report.add((*position, "text_columns"), f"{task['label_column']!r} is the column of the label, too")
    kind = "classification" if task.get("labels") else "regression"
    described = kind if task.get("labels") else "regression (what a task without labels is)"
    for metric in task["metrics"]:
        if metric not in METRICS_OF[kind]:
            allowed = ", ".join(METRICS_OF[kind])
            report.add((*position, "metrics"), f"{metric!r} does not suit a {described}; allowed: {allowed}")
    if "f1" in task["metrics"] and (number := len(task.get("labels", []))) > 2:
        report.add((*position, "metrics"), f"'f1' is for two labels, and the task has {number}; macro_f1 is for more")
    for suffix, count in Counter(task["validation"].values()).items():
        if count > 1:
            report.add((*position, "validation"), f"two splits have the suffix {suffix!r}; each needs its own")


def _check_tokenizers(report: Report, models: dict) -> None:
    for name, model in models.items():
        other = model.get("tokenizer", name)
        position = ("models", name, "tokenizer")
        if other not in models:
            report.add(position, _not_of_this_file("model", other, models))
        elif other != name and models[other].get("tokenizer", other) != other:
            report.add(
                position, f"{other!r} itself uses the tokenizer of {models[other]['tokenizer']!r}; name that one"
            )


def _check_cells(report: Report, config: dict) -> None:
    for model, tasks in config["cells"].items():
        if model not in config["models"]:
            report.add(("cells", model), _not_of_this_file("model", model, config["models"]))
        for task in tasks:
            if task not in config["tasks"]:
                report.add(("cells", model, task), _not_of_this_file("task", task, config["tasks"]))


def _not_of_this_file(kind: str, name: str, known: Iterable[str]) -> str:
    return f"{quoted_name(name)} is not a {kind} of this file.{suggest(name, known)}"


def _check_batch_sizes(report: Report, config: dict) -> None:
    for position, values in all_levels(config):
        if values.keys() >= set(BATCH_KEYS):
            report.add((*position, "global_batch_size"), "stands beside per_device_train_batch_size; give one of them")


def _warn_of_trust(report: Report, models: dict) -> None:
    for name, model in models.items():
        if model.get("trust_remote_code", False):
            position = ("models", name, "trust_remote_code")
            report.warn(
                position,
                "Python code that comes with the model will run with your rights, here and on compute nodes",
            )
