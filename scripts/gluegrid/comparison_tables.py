"""Comparisons as Markdown tables."""

from collections.abc import Callable, Iterable, Sequence

from gluegrid.common.formatting import NOTHING, percent, probability, signed_percent
from gluegrid.comparisons import Comparison, LeftOut
from gluegrid.paired_bootstrap import LEVEL, Difference
from gluegrid.results import tables
from gluegrid.results.result_text import MARK, score_text, seeds_text, task_name
from gluegrid.results.summary import Group

INTERVAL = f"{LEVEL:.0%} interval"
COLUMNS = ("A", "B", "Score of A", "Score of B", "A - B", INTERVAL, "P(A > B)", "Better", "p", "p (Holm)")
OF_ONE_SEED = "†"

Verdict = Callable[[Comparison], int]


def sign(comparison: Comparison) -> int:
    """Return 1 where the first model is better, -1 where the second, 0 where they are not told apart."""
    return comparison.difference.sign


def adjusted_sign(comparison: Comparison) -> int:
    """Return the same with the p-value adjusted for the number of comparisons."""
    return comparison.difference.sign if comparison.adjusted <= 1 - LEVEL else 0


def wins_ties_losses(models: Sequence[str], comparisons: Sequence[Comparison], verdict: Verdict) -> str:
    """Return models x models: on how many tasks that of the row is better, not told apart, worse.

    What has a win or loss in it that is of one seed has a mark.
    """
    rows = [[model, *(wins_text(model, other, comparisons, verdict) for other in models)] for model in models]
    return tables.markdown(["", *models], rows)


def wins_text(model: str, other: str, comparisons: Iterable[Comparison], verdict: Verdict) -> str:
    """Return wins/ties/losses of one model against another, with a mark where one is of one seed."""
    direction = {(model, other): 1, (other, model): -1}
    of_both = [each for each in comparisons if (each.first, each.second) in direction]
    signs = [direction[each.first, each.second] * verdict(each) for each in of_both]
    is_of_one_seed = any(sign and each.is_of_one_seed for sign, each in zip(signs, of_both, strict=True))
    counts = "/".join(str(signs.count(value)) for value in (1, 0, -1))
    return (counts + (OF_ONE_SEED if is_of_one_seed else "")) if of_both else NOTHING


def comparisons_table(comparisons: Iterable[Comparison]) -> str:
    """Return a row for each two models."""
    return tables.markdown(COLUMNS, map(comparison_row, comparisons))


def means_table(comparisons: Iterable[Comparison]) -> str:
    """Return a row for each two models, with the number of tasks."""
    rows = [(*comparison_row(comparison), str(len(comparison.tasks))) for comparison in comparisons]
    return tables.markdown((*COLUMNS, "Tasks"), rows)


def comparison_row(comparison: Comparison) -> tuple[str, ...]:
    """Return what stands under COLUMNS for a comparison; unescaped."""
    difference = comparison.difference
    better = {1: comparison.first, -1: comparison.second, 0: NOTHING}
    return (
        comparison.first,
        comparison.second,
        *map(percent, comparison.scores),
        signed_percent(difference.value),
        _interval(difference) + (OF_ONE_SEED if comparison.is_of_one_seed else ""),
        probability(difference.probability),
        better[sign(comparison)],
        probability(difference.p_value),
        probability(comparison.adjusted),
    )


def _interval(difference: Difference) -> str:
    return f"{signed_percent(difference.low)} to {signed_percent(difference.high)}"


def standings_table(groups: Iterable[Group]) -> str:
    """Return a row for each model on a task: its score over seeds, and how many they are."""
    rows = [(group.model, group.variant, _score(group), seeds_text(group)) for group in groups if group.done]
    return tables.markdown(("Model", "Variant", "Score", "Seeds"), rows)


def _score(group: Group) -> str:
    return score_text(group.score_summary()) + (MARK if group.data else "")


def left_out_table(left_out: Iterable[LeftOut], groups: Iterable[Group]) -> str:
    """Return a row for each model, or two, that were not compared on a task."""
    names = {group.task.name: task_name(group) for group in groups}
    rows = [(names[each.task], ", ".join(each.models), each.reason) for each in left_out]
    return tables.markdown(("Task", "Not compared", "Reason"), rows)
