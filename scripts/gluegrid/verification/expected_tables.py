"""The numbers that tables must show, from runs whose metrics were recomputed. Rounds on its own."""

import math
from collections.abc import Iterable

from gluegrid.verification.expected_groups import Group, optimism, varied
from gluegrid.verification.results import best, deviation, mean, median, over_seeds

TIE = 1e-9  # sums in another order may fall to the other side of a tie

# A cell of a table in parts: numbers, and what stands between them, each with the texts that are right for it; None
# where it is not known.
Expected = list[set[str]] | None
NOTHING: Expected = [{"-"}]
PREDICTED: Expected = [{"predicted"}]
OVER_SEEDS = {"Models by tasks": mean, "Median over seeds": median, "Best seed": best}  # by the section's title


def model_row(group: Group) -> dict[str, Expected]:
    """Return a task's cells in the table of a model, by column."""
    if not group.is_known:
        return {}
    if not group.done:
        return {"Result": without_result(group), "Training time (s)": NOTHING, "epochs": NOTHING}
    is_trained = group.settings["do_train"]
    return {
        "Result": metrics(group),
        "Training time (s)": _seconds(mean(group.values("train_runtime"))) if is_trained else NOTHING,
        "epochs": _epochs(mean(group.values("epoch"))) if is_trained else NOTHING,
    }


def without_result(group: Group) -> Expected:
    """Return what stands for the number of a group in which no run has a result."""
    if not group.runs:
        return NOTHING
    if not group.states:
        return [{"failed", "not run"}]
    return [{"failed"}] if group.failed else [{"not run"}]


def metrics(group: Group) -> Expected:
    """Return the metrics of a group, and their standard deviations where there are any."""
    values = [group.values(key) for key in group.task.metric_keys()]
    if not values:
        return PREDICTED
    return with_deviations([mean(of_key) for of_key in values], [deviation(of_key) for of_key in values])


def score(scores: list[float | None]) -> Expected:
    """Return a mean over seeds and its standard deviation."""
    return with_deviations([mean(scores)], [deviation(scores)])


def with_deviations(means: list[float | None], deviations: list[float | None]) -> Expected:
    """Return numbers and, where any is known, their standard deviations: 85.78/90.00 ± 0.41/0.35."""
    text = _joined(map(percentage, means))
    if all(number is None for number in deviations):
        return text
    spread = _joined(map(percentage, deviations))
    return None if text is None or spread is None else [*text, {" ± "}, *spread]


def reference_row(group: Group, reference: dict[str, dict], label: str) -> dict[str, Expected]:
    """Return a task's cells beside those of a reference: task -> metrics in percent, seconds and epochs."""
    theirs = reference.get(group.task.name, {})
    values = [theirs.get(key.removeprefix("eval_")) for key in group.task.metric_keys()]
    return model_row(group) | {
        f"Result of {label}": _joined([{f"{value:.2f}"}] for value in values if value is not None) or NOTHING,
        f"Time of {label} (s)": _seconds(theirs.get("train_runtime")),
        f"epochs of {label}": _epochs(theirs.get("epoch")),
    }


def tasks_row(groups: list[Group], title: str) -> list[Expected]:
    """Return a model's cells in models x tasks under a title: a score for each task, and their mean."""
    cells = [_tasks_cell(group, title) if group.is_known else None for group in groups]
    if not all(group.is_known for group in groups):
        return [*cells, None]
    scores = [score for score in known_scores(groups, title) if score is not None]
    return [*cells, percentage(mean(scores)) if scores else NOTHING]


def known_scores(groups: list[Group], title: str) -> list[float | None]:
    """Return the scores of a model in models x tasks, of the tasks that are scored."""
    return [OVER_SEEDS[title](group.scores()) for group in groups if group.task.metric_keys()]


def _tasks_cell(group: Group, title: str) -> Expected:
    if not group.done:
        return without_result(group)
    if not group.task.metric_keys():
        return PREDICTED
    of_seeds = OVER_SEEDS[title]
    return score(group.scores()) if of_seeds is mean else percentage(of_seeds(group.scores()))


def percentage(value: float | None) -> Expected:
    """Return a metric times 100 with two decimals."""
    return [{"undefined"}] if value is None else _two_decimals(value * 100)


def _joined(numbers: Iterable[Expected]) -> Expected:
    numbers = list(numbers)
    if None in numbers:
        return None
    return [part for each in numbers for part in ({"/"}, *each)][1:]


def _seconds(value: float | None) -> Expected:
    return NOTHING if value is None else _two_decimals(value)


def _epochs(value: float | None) -> Expected:
    if value is None:
        return NOTHING
    return None if math.isnan(value) else [{f"{value:g}"}]


def _two_decimals(value: float) -> Expected:
    return None if math.isnan(value) else [{f"{value + nudge:.2f}" for nudge in (-TIE, 0, TIE)}]


def summary(group: Group, chosen: Group) -> dict:
    """Return the entry of a group, NaN where a value is not known. `chosen` is the variant that tables show."""
    others = group.without_degenerate()
    has_both = bool(group.degenerate and others.done)
    return {
        "model": group.model,
        "task": group.task.name,
        "variant": group.variant,
        "values": {key: group.settings.get(key) for key in varied(group.points)},
        "of": len(group.runs),
        "n": len(group.done),
        "failed": group.failed,
        "degenerate": len(group.degenerate),
        "chosen": group.variant == chosen.variant,
        "all": _numbers(group),
        "without_degenerate": _numbers(others) if has_both else None,
    }


def optimism_entry(points: list[Group]) -> dict | None:
    """Return the entry of a sweep; None where its optimism is not measured."""
    found = optimism(points)
    if found is None:
        return None
    scores = [mean(group.scores()) for group in found]
    ways = [{"variant": group.variant, "score": score} for group, score in zip(found, scores, strict=True)]
    return {
        "model": points[0].model,
        "task": points[0].task.name,
        "by_holdout": ways[0],
        "by_validation": ways[1],
        "difference": scores[1] - scores[0],
    }


def _numbers(group: Group) -> dict[str, dict]:
    values = {key: group.values(key) for key in group.task.metric_keys()}
    if values:
        values["score"] = group.scores()
    if group.has_holdout:
        values["score_holdout"] = group.holdout_scores()
    return {key: {"count": len(of_key), **over_seeds(of_key)} for key, of_key in values.items()}
