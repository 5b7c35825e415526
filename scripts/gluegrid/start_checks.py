"""What cells start from, checked before anything runs: `init_from` another task, or a finished checkpoint."""

from collections.abc import Iterator

from gluegrid.config_report import Report, quoted_name, suggest
from gluegrid.levels import Given, given_values
from gluegrid.recipes import DEFAULT_SEEDS


def check_starts(report: Report, config: dict) -> None:
    """Check `init_from` and `do_train` of every cell; ConfigError has a line for each mistake."""
    for model in config["models"]:
        of_model = {task: given_values(config, model, task) for task in config["tasks"]}
        for task, given in of_model.items():
            for key, problem in (*_of_start(task, given, of_model), *_of_splits(config["tasks"][task], given)):
                report.add(given[key].position if key in given else ("tasks", task), problem)
    report.raise_problems()


def _of_start(task: str, given: dict[str, Given], of_model: dict[str, dict[str, Given]]) -> Iterator[tuple[str, str]]:
    """Yield the key that is to blame, and what is wrong with the task that this one starts from."""
    start = _value(given, "init_from", None)
    if start is None:
        return
    if start not in of_model:
        advice = f"add it, or write init_from: null to start from the checkpoint.{suggest(start, of_model)}"
        yield "init_from", f"{task} starts from {quoted_name(start)}, which is no task of this file; {advice}"
    elif start == task:
        yield "init_from", f"{task} cannot start from itself; null starts it from the checkpoint"
    elif _value(of_model[start], "init_from", None) is not None:
        yield "init_from", f"{task} starts from {start}, which itself starts from another task; name that one"
    elif not _value(of_model[start], "do_train", True):
        yield "init_from", f"{task} starts from {start}, which is not trained here (do_train: false)"
    elif missing := set(_value(given, "seeds", DEFAULT_SEEDS)) - set(_value(of_model[start], "seeds", DEFAULT_SEEDS)):
        seeds = ", ".join(map(str, sorted(missing)))
        yield "init_from", f"{task} has seeds that {start}, from which it starts, has not: {seeds}; give both the same"


def _of_splits(entry: dict, given: dict[str, Given]) -> Iterator[tuple[str, str]]:
    """Yield what a task lacks for what is to be done with it."""
    if _value(given, "do_train", True):
        if entry["train"] is None:
            yield "do_train", "has no train split, so it cannot be trained; leave it out, or set do_train: false"
        elif not entry["validation"]:
            yield "do_train", "has no validation split, so nothing could be reported; name one under validation"
    elif not entry["validation"] and not entry["test"]:
        yield "do_train", "has neither validation nor test splits, so there is nothing to evaluate or predict"
    if _value(given, "selection", "validation") == "holdout" and "_holdout" in entry["validation"].values():
        yield "selection", "holdout needs the suffix _holdout for itself; give the validation split another"


def _value(given: dict[str, Given], key: str, default: object) -> object:
    return given[key].value if key in given else default
