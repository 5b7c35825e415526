"""What tables say of one model on one task: its numbers, and what limits them. Nothing is escaped."""

import json
from collections.abc import Callable, Sequence

from gluegrid.common import escaping
from gluegrid.common.formatting import NOTHING, percents
from gluegrid.results.outcomes import Outcome
from gluegrid.results.selection import compared, follows, swept_keys, values_of, was_chosen
from gluegrid.results.summary import Group, Summary

PREDICTED = "predicted"  # on test splits only: there is nothing to score
MARK = "*"  # at a number that is not from the official data, where there is no room to say more
MARKED = f"Numbers with {MARK} are not from the official data:"
LONGEST_NAME = 60  # characters of a task's and a metric's name
LONGEST_VALUE = 60  # characters of a swept value


def task_name(group: Group) -> str:
    """Return the name of a group's task."""
    return escaping.shortened(group.display_name, LONGEST_NAME)


def result(group: Group) -> str:
    """Return a task's metrics times 100 with their spread over seeds, and what limits them; or why there are none."""
    counts = ", ".join([*_seeds(group), *_troubles(group)])
    return _result(group, "", [counts, *_without_degenerate(group), *group.options, *_point(group), group.data])


def short_result(group: Group) -> str:
    """Return the same with a mark for the data, and without what `details` says."""
    return _result(group, MARK if group.data else "", _seeds(group))


def details(group: Group) -> str:
    """Return what limits a result besides its data, and is too long for a narrow table; empty where nothing does."""
    if not group.done:
        return ""
    return _joined([", ".join(_troubles(group)), *_without_degenerate(group), *group.options, *_point(group)])


def numbers(group: Group) -> str:
    """Return the means of a task's metrics times 100, and where several seeds have them, their standard deviations."""
    summaries = [group.summary(key) for key in group.task.metric_keys()]
    if not summaries:
        return PREDICTED
    return percents([each.mean for each in summaries], [each.sd for each in summaries])


def score_text(summary: Summary) -> str:
    """Return a mean over seeds times 100 and its standard deviation."""
    return percents([summary.mean], [summary.sd])


def seeds_text(group: Group) -> str:
    """Return how many seeds have a result, what became of others, and the score of those that are not degenerate."""
    counts = [f"{len(group.done)} of {len(group.outcomes)}", *_troubles(group)]
    return _joined([", ".join(counts), *_without_degenerate(group, lambda others: score_text(others.score_summary()))])


def state(group: Group) -> str:
    """Return why a group has no number, in a word."""
    if not group.outcomes:
        return NOTHING
    return "failed" if group.failed else "stopped" if group.stopped else "not run"


def cell_state(outcome: Outcome) -> str:
    """Return what became of one cell, in a word or two."""
    if outcome.is_done:
        return "done"
    return "stopped" if outcome.is_stopped else "failed" if outcome.has_failed else "not run"


def value_text(value: object) -> str:
    """Return a training value as an experiment file may spell it."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
    return escaping.shortened(text, LONGEST_VALUE)


def _result(group: Group, mark: str, limits: Sequence[str]) -> str:
    if not group.done:
        alike = group.failed or group.stopped
        several = alike and len(group.outcomes) > 1
        return state(group) + (f" ({len(alike)} of {len(group.outcomes)} seeds)" if several else "")
    said = _joined(limits)
    return numbers(group) + mark + (f" ({said})" if said else "")


def _joined(parts: Sequence[str]) -> str:
    return "; ".join(filter(None, parts))


def _seeds(group: Group) -> list[str]:
    several = len(group.outcomes) > 1
    return [f"{len(group.done)} of {len(group.outcomes)} seeds"] if several else []


def _troubles(group: Group) -> list[str]:
    if len(group.outcomes) == 1 and group.done:
        return ["degenerate"] if group.degenerate else []
    counts = {"failed": len(group.failed), "stopped": len(group.stopped), "degenerate": len(group.degenerate)}
    return [f"{count} {what}" for what, count in counts.items() if count]


def _without_degenerate(group: Group, text: Callable[[Group], str] = numbers) -> list[str]:
    """Return what the numbers are without degenerate runs, where there are some, and others."""
    others = group.without_degenerate()
    if not (group.degenerate and others.done):
        return []
    return [f"without {'it' if len(group.degenerate) == 1 else 'them'} {text(others)}"]


def _point(group: Group) -> list[str]:
    """Return the values of a variant in which those that it was chosen from differ, and how many it is the best of."""
    points = group.chosen_from
    if was_chosen(group):
        values = ", ".join(f"{key} {value_text(value)}" for key, value in values_of(group, swept_keys(points)).items())
        return [values, best_of(group)]
    start = follows(group)
    return [f"variant {group.variant}" + (f", chosen on {start}" if start else "")] if len(points) > 1 else []


def best_of(group: Group) -> str:
    """Return how many variants a chosen one is the best of: those with as many scores, of how many there are."""
    same, points = len(compared(group, group.chosen_from)), len(group.chosen_from)
    return f"best of {points if same == points else f'{same} of {points}'} points"
