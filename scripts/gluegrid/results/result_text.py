"""What tables say about one model on one task: its numbers, and what qualifies them. The texts are unescaped."""

import json
from collections.abc import Callable, Sequence

from gluegrid.common import escaping
from gluegrid.common.formatting import NOTHING, percents
from gluegrid.results.official_data import SYNTHETIC
from gluegrid.results.outcomes import Outcome
from gluegrid.results.selection import compared, follows, swept_keys, values_of, was_chosen
from gluegrid.results.summary import Group, Summary

PREDICTED = "predicted"  # on test splits only, so there is nothing to score
MARK = "*"  # of a number that a note below its table qualifies
SYNTHETIC_DATA = "synthetic data"
MARKED = f"Numbers with {MARK} are not from the official data:"
LONGEST_NAME = 60  # characters of a task's and a metric's name
LONGEST_VALUE = 60  # characters of a swept value


def task_name(group: Group) -> str:
    """Return the name of a group's task."""
    return escaping.shortened(group.display_name, LONGEST_NAME)


def result(group: Group) -> str:
    """Return a task's metrics times 100 with their spread over seeds, or why there are none."""
    return numbers(group) if group.done else state(group)


def caveats(group: Group, text: Callable[[Group], str]) -> list[str]:
    """Return a note for each thing that qualifies the number of a group with results.

    `text` formats the number without degenerate cells in the same way as the table formats its numbers.
    """
    best = [best_of(group)] if was_chosen(group) else []
    data = SYNTHETIC_DATA if group.data == SYNTHETIC else group.data
    return [*_missing_seeds(group), *_degenerate(group, text), *group.options, *best, *filter(None, [data])]


def chosen_values(group: Group) -> list[str]:
    """Return which variant a number belongs to, if a sweep has several. This is not a caveat."""
    points = group.chosen_from
    if not group.done or len(points) < 2:
        return []
    if was_chosen(group):
        values = values_of(group, swept_keys(points))
        return [text] if (text := ", ".join(f"{key} {value_text(value)}" for key, value in values.items())) else []
    start = follows(group)
    return [f"variant {group.variant}" + (f", chosen on {start}" if start else "")]


def why_without(group: Group) -> list[str]:
    """Return how many of several seeds failed or were stopped, if none has a result."""
    alike = [] if group.done else group.failed or group.stopped
    return [f"{len(alike)} of {len(group.outcomes)} seeds {state(group)}"] if alike and len(group.outcomes) > 1 else []


def numbers(group: Group) -> str:
    """Return the means of a task's metrics times 100 and, for several seeds, their standard deviations."""
    summaries = [group.summary(key) for key in group.task.metric_keys()]
    if not summaries:
        return PREDICTED
    return percents([each.mean for each in summaries], [each.sd for each in summaries])


def score_text(summary: Summary) -> str:
    """Return a mean over seeds times 100 and its standard deviation."""
    return percents([summary.mean], [summary.sd])


def seeds_text(group: Group) -> str:
    """Return how many seeds have a result, what happened to the others, and the score without degenerate ones."""
    counts = [f"{len(group.done)} of {len(group.outcomes)}", *_troubles(group)]
    return _joined([", ".join(counts), *_without_degenerate(group, lambda others: score_text(others.score_summary()))])


def state(group: Group) -> str:
    """Return in a word why a group has no number."""
    if not group.outcomes:
        return NOTHING
    return "failed" if group.failed else "stopped" if group.stopped else "not run"


def cell_state(outcome: Outcome) -> str:
    """Return the state of one cell in a word or two."""
    if outcome.is_done:
        return "done"
    return "stopped" if outcome.is_stopped else "failed" if outcome.has_failed else "not run"


def value_text(value: object) -> str:
    """Return a training value as an experiment file may spell it."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
    return escaping.shortened(text, LONGEST_VALUE)


def _joined(parts: Sequence[str]) -> str:
    return "; ".join(filter(None, parts))


def _missing_seeds(group: Group) -> list[str]:
    done, planned = len(group.done), len(group.outcomes)
    counts = [f"{len(alike)} {what}" for what, alike in _unfinished(group) if alike]
    return [", ".join([f"{done} of {planned} seeds", *counts])] if done < planned else []


def _degenerate(group: Group, text: Callable[[Group], str]) -> list[str]:
    if not group.degenerate:
        return []
    several = len(group.outcomes) > 1
    counts = f"{len(group.degenerate)} of {len(group.done)} seeds degenerate" if several else "degenerate"
    return [_joined([counts, *_without_degenerate(group, text)])]


def _unfinished(group: Group) -> list[tuple[str, Sequence[Outcome]]]:
    return [("failed", group.failed), ("stopped", group.stopped)]


def _troubles(group: Group) -> list[str]:
    if len(group.outcomes) == 1 and group.done:
        return ["degenerate"] if group.degenerate else []
    return [f"{len(alike)} {what}" for what, alike in [*_unfinished(group), ("degenerate", group.degenerate)] if alike]


def _without_degenerate(group: Group, text: Callable[[Group], str] = numbers) -> list[str]:
    """Return the numbers without degenerate cells, if a group has both these and others."""
    others = group.without_degenerate()
    if not (group.degenerate and others.done):
        return []
    return [f"without {'it' if len(group.degenerate) == 1 else 'them'} {text(others)}"]


def best_of(group: Group) -> str:
    """Return how many variants the chosen one is the best of: those with as many scores as it, out of all."""
    same, points = len(compared(group, group.chosen_from)), len(group.chosen_from)
    return f"best of {points if same == points else f'{same} of {points}'} points"
