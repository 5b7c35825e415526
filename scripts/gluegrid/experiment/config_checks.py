"""Checks of an experiment file that a schema cannot express: how its parts fit together, and warnings."""

from collections import Counter
from collections.abc import Iterable, Iterator

from gluegrid.experiment.config_errors import Problems, quoted_name, suggest
from gluegrid.experiment.levels import Given, all_levels, given_values
from gluegrid.experiment.metrics import problem_of_metric
from gluegrid.experiment.options import BATCH_KEYS, OPTIONS
from gluegrid.experiment.source_checks import Problem, check_reading, check_sources, check_splits
from gluegrid.experiment.yaml_loader import Position

REQUIRED_OF_A_TASK = ("source", "text_columns", "metrics")


def check(problems: Problems, config: dict, registry: dict) -> None:
    """Check a completed config that conforms to the schema. Raises ConfigError with a line for each mistake.

    What is allowed but risky becomes a warning.
    """
    _check_names(problems, config)
    _check_tasks(problems, config["tasks"], registry)
    check_splits(problems, config["tasks"])
    check_reading(problems, config["tasks"])
    check_sources(problems, config)
    _check_tokenizers(problems, config["models"])
    _check_cells(problems, config)
    _check_batch_sizes(problems, config)
    problems.raise_any()
    _warn_of_trust(problems, config["models"])


def _check_names(problems: Problems, config: dict) -> None:
    for part in ("models", "tasks"):
        first_of: dict[str, str] = {}
        for name in config[part]:
            first = first_of.setdefault(name.lower(), name)
            if first != name:
                problem = f"differs from {first!r} only in case, which some file systems do not distinguish"
                problems.add((part, name), f"{problem}; rename one of them")


def _check_tasks(problems: Problems, tasks: dict, registry: dict) -> None:
    for name, task in tasks.items():
        position = ("tasks", name)
        missing = [key for key in REQUIRED_OF_A_TASK if key not in task]
        if missing and name not in registry:
            needs = ", ".join(missing)
            problem = f"unknown task; to define your own, add {needs}.{suggest(name, registry)}"
            problems.add(position, problem)
        elif task["train"] in task["validation"] or task["train"] in task["test"]:
            problem = f"the training split {task['train']!r} is also under validation or test; use another split there"
            problems.add(position, problem)
        elif twice := [split for split in task["test"] if split in task["validation"]]:
            problem = f"{twice[0]!r} is also a validation split, which is predicted anyway; leave it out here"
            problems.add((*position, "test"), problem)
        else:
            _check_metrics(problems, position, task)


def _check_metrics(problems: Problems, position: Position, task: dict) -> None:
    if task["label_column"] in task["text_columns"]:
        problem = f"{task['label_column']!r} is also the label_column; name another column in one of them"
        problems.add((*position, "text_columns"), problem)
    for name in task["metrics"]:
        if problem := problem_of_metric(name, task.get("labels")):
            problems.add((*position, "metrics"), problem)
    for suffix, count in Counter(task["validation"].values()).items():
        if count > 1:
            problems.add((*position, "validation"), f"two splits have the suffix {suffix!r}; each needs its own")


def _check_tokenizers(problems: Problems, models: dict) -> None:
    for name, model in models.items():
        other = model.get("tokenizer", name)
        position = ("models", name, "tokenizer")
        if other not in models:
            problems.add(position, _not_of_this_file("model", other, models))
        elif other != name and models[other].get("tokenizer", other) != other:
            problems.add(
                position, f"{other!r} itself uses the tokenizer of {models[other]['tokenizer']!r}; name that model"
            )


def _check_cells(problems: Problems, config: dict) -> None:
    for model, tasks in config["cells"].items():
        if model not in config["models"]:
            problems.add(("cells", model), _not_of_this_file("model", model, config["models"]))
        for task in tasks:
            if task not in config["tasks"]:
                problems.add(("cells", model, task), _not_of_this_file("task", task, config["tasks"]))


def _not_of_this_file(kind: str, name: str, known: Iterable[str]) -> str:
    return f"{quoted_name(name)} is not a {kind} in this file.{suggest(name, known)}"


def _check_batch_sizes(problems: Problems, config: dict) -> None:
    for position, values in all_levels(config):
        if values.keys() >= set(BATCH_KEYS):
            problems.add(
                (*position, "global_batch_size"), "is set together with per_device_train_batch_size; keep one of them"
            )


def _warn_of_trust(problems: Problems, models: dict) -> None:
    for name, model in models.items():
        if model.get("trust_remote_code", False):
            position = ("models", name, "trust_remote_code")
            problems.warn(
                position,
                "Python code from the model's repository will run with your permissions, here and on compute nodes",
            )


def check_starts(problems: Problems, config: dict) -> None:
    """Check `init_from` and `do_train` of every cell. Raises ConfigError with a line for each mistake."""
    for model in config["models"]:
        of_model = {task: given_values(config, model, task) for task in config["tasks"]}
        for task, given in of_model.items():
            for key, problem in (
                *_problems_of_start(task, given, of_model),
                *_problems_of_splits(config["tasks"][task], given),
            ):
                problems.add(given[key].position if key in given else ("tasks", task), problem)
    problems.raise_any()


def _problems_of_start(
    task: str, given: dict[str, Given], of_model: dict[str, dict[str, Given]]
) -> Iterator[tuple[str, str]]:
    """Yield the key at fault, and what is wrong with the task that this one starts from."""
    start = _value(given, "init_from", None)
    if start is None:
        return
    if start not in of_model:
        advice = f"add it, or write init_from: null to start from the checkpoint.{suggest(start, of_model)}"
        yield "init_from", f"{task} starts from {quoted_name(start)}, which is not a task in this file; {advice}"
    elif start == task:
        yield "init_from", f"{task} cannot start from itself; write null to start from the checkpoint"
    elif _value(of_model[start], "init_from", None) is not None:
        yield "init_from", f"{task} starts from {start}, which itself starts from another task; name that task"
    elif not _value(of_model[start], "do_train", True):
        advice = "train it, or name another task"
        yield "init_from", f"{task} starts from {start}, which is not trained here (do_train: false); {advice}"
    elif missing := _seeds(given) - _seeds(of_model[start]):
        seeds = ", ".join(map(str, sorted(missing)))
        advice = "give both tasks the same seeds"
        yield "init_from", f"{task} has seeds that {start}, from which it starts, lacks: {seeds}; {advice}"


def _problems_of_splits(entry: dict, given: dict[str, Given]) -> Iterator[Problem]:
    """Yield the splits that a task lacks for training, evaluation or prediction."""
    if _value(given, "do_train", True):
        if entry["train"] is None:
            yield "do_train", "has no train split, so it cannot be trained; leave it out, or set do_train: false"
        elif not entry["validation"]:
            yield "do_train", "has no validation split, so there would be no score; name one under validation"
    elif not entry["validation"] and not entry["test"]:
        yield "do_train", "has neither validation nor test splits, so there is nothing to evaluate or predict"
    if _value(given, "selection", "validation") == "holdout" and "_holdout" in entry["validation"].values():
        yield "selection", "holdout reserves the suffix _holdout; give the validation split another suffix"


def _value(given: dict[str, Given], key: str, default: object) -> object:
    return given[key].value if key in given else default


def _seeds(given: dict[str, Given]) -> set[int]:
    return set(_value(given, "seeds", OPTIONS["seeds"].default))
