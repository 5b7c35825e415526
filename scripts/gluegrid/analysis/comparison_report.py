"""comparisons.md and comparisons.json of an experiment."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from gluegrid.analysis.bootstrap import LEVEL
from gluegrid.analysis.comparisons import Comparison, Comparisons, LeftOut
from gluegrid.common import escaping
from gluegrid.common.files import canonical_json
from gluegrid.common.formatting import NOTHING, percent, probability, signed_percent
from gluegrid.experiment.experiment import Experiment
from gluegrid.results import tables
from gluegrid.results.made_from import write_made
from gluegrid.results.notes import precision_notes, precision_of, precisions_of
from gluegrid.results.outcomes import Outcome
from gluegrid.results.result_text import MARK, MARKED, score_text, seeds_text, task_name
from gluegrid.results.selection import uses_holdout
from gluegrid.results.summary import Group, score
from gluegrid.results.table_notes import synthetic_note

INTERVAL = f"{LEVEL:.0%} interval"
COLUMNS = ("A", "B", "Score of A", "Score of B", "A - B", INTERVAL, "P(A > B)", "Better", "p", "p (Holm)")
OF_ONE_SEED = "†"


def wins_ties_losses(models: Sequence[str], comparisons: Sequence[Comparison], is_adjusted: bool = False) -> str:
    """Return models x models: on how many tasks the row's model wins, ties and loses.

    Counts that include a win or a loss resting on one seed have a mark.
    """
    rows = [[model, *(wins_text(model, other, comparisons, is_adjusted) for other in models)] for model in models]
    return tables.markdown(["", *models], rows)


def wins_text(model: str, other: str, comparisons: Iterable[Comparison], is_adjusted: bool = False) -> str:
    """Return wins/ties/losses of one model against another, with a mark where one rests on one seed.

    `is_adjusted`: by p-values adjusted for the number of comparisons.
    """
    of_both = [each for each in comparisons if {each.first, each.second} == {model, other}]
    better = [each.better_adjusted if is_adjusted else each.better for each in of_both]
    is_of_one_seed = any(one and each.is_of_one_seed for one, each in zip(better, of_both, strict=True))
    counts = "/".join(str(better.count(name)) for name in (model, None, other))
    return (counts + (OF_ONE_SEED if is_of_one_seed else "")) if of_both else NOTHING


def comparisons_table(comparisons: Iterable[Comparison]) -> str:
    """Return a row for each two models."""
    return tables.markdown(COLUMNS, map(comparison_row, comparisons))


def comparison_row(comparison: Comparison) -> tuple[str, ...]:
    """Return the row of a comparison under COLUMNS, unescaped."""
    difference = comparison.difference
    interval = f"{signed_percent(difference.low)} to {signed_percent(difference.high)}"
    return (
        comparison.first,
        comparison.second,
        *map(percent, comparison.scores),
        signed_percent(difference.value),
        interval + (OF_ONE_SEED if comparison.is_of_one_seed else ""),
        probability(difference.probability),
        comparison.better or NOTHING,
        probability(difference.p_value),
        probability(comparison.adjusted),
    )


def left_out_table(left_out: Iterable[LeftOut], groups: Iterable[Group]) -> str:
    """Return a row for each model or two that were not compared on a task."""
    names = {group.task.name: task_name(group) for group in groups}
    rows = [(names[each.task], ", ".join(each.models), each.reason) for each in left_out]
    return tables.markdown(("Task", "Not compared", "Reason"), rows)


HOW_TO_READ = (
    "Scores x 100 on the validation splits: means over a task's metrics and over seeds. P(A > B) is the share of"
    " {resamples:,} resamples of examples and seeds in which A is better; an interval holds {level:.0%} of the"
    " differences. A model wins where the interval lies on its side of 0. Otherwise it is a tie: these examples and"
    " seeds cannot tell the two models apart, which does not make them equal."
)
IN_MATRIX = "Tasks that the model of the row wins, ties and loses against the model of the column."
MANY = (
    "These are {count} comparisons on tasks. If all models were equal, about one in twenty would be won by chance. With"
    " p-values adjusted for their number (Holm 1979), the probability of any such win is at most {chance:.0%}:"
)
MEANS = (
    "The mean over the tasks on which both models were compared; each task counts the same. p (Holm) is adjusted for"
    " the comparisons in this table."
)
METHOD = (
    "- Method: paired bootstrap over examples, shared by all models and seeds (Koehn 2004; Efron & Tibshirani 1993),"
    " and over each model's own seeds (Sellam et al. 2022), corrected for few seeds; percentile intervals. See"
    " `docs/comparisons.md` in gluegrid's repository."
)
ONE_SEED = (
    f"- {OF_ONE_SEED} rests on one seed: the interval covers other examples but not other seeds, so another seed may"
    " reverse the win."
)
DEGENERATE = "- Degenerate runs are included."
SELECTED = "- Chosen on the same examples that they are compared on, which favors models with more points: {}."
ACROSS_PRECISIONS = "- These comparisons are across precisions: {}."
INPUTS = (
    "- `comparisons.json` has all numbers in full precision, and the hashes of the runs and predictions they come from."
)


def write_comparisons(experiment: Experiment, comparisons: Comparisons) -> str:
    """Write both files; return the Markdown."""
    texts = comparison_texts(experiment, comparisons)
    write_made(experiment, comparisons.outcomes, texts)
    return texts[Path(experiment.paths.comparisons_md)]


def comparison_texts(experiment: Experiment, comparisons: Comparisons) -> dict[Path, str]:
    """Return what both files hold."""
    return {
        Path(experiment.paths.comparisons_json): comparisons_json(experiment, comparisons),
        Path(experiment.paths.comparisons_md): comparisons_markdown(experiment, comparisons),
    }


def comparisons_markdown(experiment: Experiment, comparisons: Comparisons) -> str:
    """Return comparisons.md."""
    return "\n".join(_lines(experiment, comparisons)) + "\n"


def comparisons_json(experiment: Experiment, comparisons: Comparisons) -> str:
    """Return comparisons.json."""
    return canonical_json(
        {
            "experiment": experiment.name,
            "method": {
                "name": "paired bootstrap over examples and seeds",
                "resamples": comparisons.resamples,
                "level": LEVEL,
                "numpy": version("numpy"),
            },
            "inputs": [_input(group, outcome) for group in comparisons.groups for outcome in group.outcomes],
            "tasks": [_entry(comparison) for comparison in comparisons.of_tasks],
            "means": [_entry(comparison) for comparison in comparisons.of_means],
            "left_out": [asdict(each) for each in comparisons.left_out],
        }
    )


def _input(group: Group, outcome: Outcome) -> dict:
    record = outcome.record or {}
    return {
        **outcome.cell.wildcards,
        "score": score(outcome, group.task.metric_keys()) if outcome.is_done else None,
        "degenerate": outcome.is_degenerate,
        "reason": outcome.reason,
        "precision": precision_of(record),
        "run_sha256": record.get("run_sha256"),
        "predictions_sha256": record.get("predictions_sha256"),
    }


def _entry(comparison: Comparison) -> dict:
    return asdict(comparison) | {"better": comparison.better, "better_adjusted": comparison.better_adjusted}


def _lines(experiment: Experiment, comparisons: Comparisons) -> Iterator[str]:
    yield f"# Comparisons of {escaping.markdown(experiment.name)}\n"
    yield HOW_TO_READ.format(resamples=comparisons.resamples, level=LEVEL) + "\n"
    if comparisons.of_tasks:
        yield from _matrices(comparisons)
    if comparisons.of_means:
        rows = [(*comparison_row(comparison), str(len(comparison.tasks))) for comparison in comparisons.of_means]
        yield f"## Mean over tasks\n\n{MEANS}\n\n{tables.markdown((*COLUMNS, 'Tasks'), rows)}\n"
    for of_task in comparisons.by_task:
        yield from _task(of_task, comparisons)
    if comparisons.left_out:
        yield f"## Not compared\n\n{left_out_table(comparisons.left_out, comparisons.groups)}\n"
    yield "## What to know\n"
    yield from _notes(comparisons)


def _matrices(comparisons: Comparisons) -> Iterator[str]:
    count, models = len(comparisons.of_tasks), list(dict.fromkeys(group.model for group in comparisons.groups))
    yield f"## Wins, ties and losses\n\n{IN_MATRIX}\n\n{wins_ties_losses(models, comparisons.of_tasks)}\n"
    if count > 1:
        yield MANY.format(count=count, chance=1 - LEVEL) + "\n"
        yield wins_ties_losses(models, comparisons.of_tasks, is_adjusted=True) + "\n"


def _task(of_task: Sequence[Group], comparisons: Comparisons) -> Iterator[str]:
    group = of_task[0]
    if compared := [each for each in comparisons.of_tasks if each.tasks == [group.task.name]]:
        rows = [
            (
                each.model,
                each.variant,
                score_text(each.score_summary()) + (MARK if each.has_other_data else ""),
                seeds_text(each),
            )
            for each in of_task
            if each.done
        ]
        yield f"## {escaping.markdown(f'{task_name(group)} ({group.metric_label})')}\n"
        yield tables.markdown(("Model", "Variant", "Score", "Seeds"), rows) + "\n"
        yield comparisons_table(compared) + "\n"


def _notes(comparisons: Comparisons) -> Iterator[str]:
    """Yield what a reader needs to judge the comparisons."""
    groups = comparisons.groups
    yield METHOD
    if any(comparison.is_of_one_seed for comparison in comparisons.of_tasks):
        yield ONE_SEED
    if any(group.degenerate for group in groups):
        yield DEGENERATE
    if selected := _selected(groups):
        yield SELECTED.format(escaping.markdown(selected))
    precisions = precision_notes(outcome for group in groups for outcome in group.outcomes)
    yield from (f"- {escaping.markdown(line)}" for line in precisions)
    if across := _across_precisions(comparisons):
        yield ACROSS_PRECISIONS.format(escaping.markdown(across))
    if of_data := tables.data_notes(groups):
        yield from ("", escaping.markdown(MARKED) + "\n", *map(escaping.markdown, of_data), "")
    if note := synthetic_note(groups):
        yield f"{note}\n"
    yield INPUTS


def _across_precisions(comparisons: Comparisons) -> str:
    """Return the tasks with comparisons across precisions, and the precision of each model there."""
    compared = {(model, *each.tasks) for each in comparisons.of_tasks for model in (each.first, each.second)}
    texts = []
    for of_task in comparisons.by_task:
        there = [group for group in of_task if (group.model, group.task.name) in compared]
        if len({precision_of(outcome.record) for group in there for outcome in group.done}) > 1:
            said = ", ".join(f"{group.model} in {precisions_of(group.done)}" for group in there)
            texts.append(f"on {task_name(of_task[0])} {said}")
    return "; ".join(texts)


def _selected(groups: Sequence[Group]) -> str:
    """Return the variants that were chosen by the score that is compared."""
    points = [group for group in groups if len(group.chosen_from) > 1 and not uses_holdout(group)]
    return ", ".join(f"{group.model} on {task_name(group)} (of {len(group.chosen_from)})" for group in points)
