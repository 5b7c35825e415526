"""comparisons.md and comparisons.json of an experiment."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from gluegrid.analysis.bootstrap import LEVEL, Difference
from gluegrid.analysis.comparisons import Comparison, Comparisons, LeftOut
from gluegrid.common import escaping
from gluegrid.common.files import canonical_json, write_text
from gluegrid.common.formatting import NOTHING, percent, probability, signed_percent
from gluegrid.experiment.experiment import Experiment
from gluegrid.results import tables
from gluegrid.results.outcomes import Outcome
from gluegrid.results.result_text import MARK, MARKED, score_text, seeds_text, task_name
from gluegrid.results.selection import uses_holdout
from gluegrid.results.summary import Group, score

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


HOW_TO_READ = (
    "Scores x 100 on the validation splits: of a task the mean of its metrics, of several seeds their mean."
    " P(A > B) is the share of {resamples:,} resamples of examples and seeds in which A is better; between the ends of"
    " an interval lie {level:.0%} of the differences. A model wins where the interval lies on its side of 0. A tie is a"
    " difference that these examples and seeds do not tell from 0; it does not say that two models are equal."
)
IN_MATRIX = "On how many tasks the model of the row wins, ties and loses against that of the column."
MANY = (
    "These are {count} comparisons on tasks. Were all models equal, about one in twenty would be won by chance. With"
    " p-values adjusted for their number (Holm 1979), the chance of any such win is at most {chance:.0%}:"
)
MEANS = (
    "The mean over the tasks on which both models were compared, each of which counts the same. p (Holm) is adjusted"
    " for the comparisons in this table."
)
METHOD = (
    "- Method: paired bootstrap over examples, the same for all models and seeds (Koehn 2004; Efron & Tibshirani 1993),"
    " and over each model's own seeds (Sellam et al. 2022), without bias for few seeds; percentile intervals."
    " `docs/comparisons.md` in gluegrid's repository has it in full."
)
ONE_SEED = (
    f"- {OF_ONE_SEED}: a model has one seed on a task. The interval covers other examples, and not what that model"
    " would give with another seed: a win is one of these runs."
)
DEGENERATE = "- Degenerate runs count as they are."
SELECTED = (
    "- Chosen on the examples that they are compared on, which favours models with more points to choose from: {}."
)
INPUTS = (
    "- `comparisons.json` has all in full precision, with the hashes of the runs and predictions that it was made from."
)


def write_comparisons(experiment: Experiment, comparisons: Comparisons) -> str:
    """Write both files; return the Markdown."""
    texts = comparison_texts(experiment, comparisons)
    for path, text in texts.items():
        write_text(path, text)
    return texts[Path(experiment.paths.comparisons_md)]


def comparison_texts(experiment: Experiment, comparisons: Comparisons) -> dict[Path, str]:
    """Return what both files hold."""
    return {
        Path(experiment.paths.comparisons_json): comparisons_json(experiment, comparisons),
        Path(experiment.paths.comparisons_md): comparisons_markdown(experiment, comparisons),
    }


def comparisons_markdown(experiment: Experiment, comparisons: Comparisons) -> str:
    """Return comparisons.md."""
    sections = [
        f"# Comparisons of {escaping.markdown(experiment.name)}\n",
        HOW_TO_READ.format(resamples=comparisons.resamples, level=LEVEL) + "\n",
        *_matrix_section(comparisons),
        *_mean_section(comparisons),
        *(section for of_task in comparisons.by_task for section in _task_section(of_task, comparisons)),
        *_left_out_section(comparisons),
        "## What to know\n",
        *_notes(comparisons),
    ]
    return "\n".join(sections) + "\n"


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
        "run_sha256": record.get("run_sha256"),
        "predictions_sha256": record.get("predictions_sha256"),
    }


def _entry(comparison: Comparison) -> dict:
    better = {1: comparison.first, -1: comparison.second, 0: None}
    verdicts = {"better": better[sign(comparison)], "better_adjusted": better[adjusted_sign(comparison)]}
    return asdict(comparison) | verdicts


def _matrix_section(comparisons: Comparisons) -> list[str]:
    count = len(comparisons.of_tasks)
    if count == 0:
        return []
    models = list(dict.fromkeys(group.model for group in comparisons.groups))
    plain, adjusted = (
        wins_ties_losses(models, comparisons.of_tasks, verdict) + "\n" for verdict in (sign, adjusted_sign)
    )
    section = ["## Wins, ties and losses\n", IN_MATRIX + "\n", plain]
    return [*section, MANY.format(count=count, chance=1 - LEVEL) + "\n", adjusted] if count > 1 else section


def _mean_section(comparisons: Comparisons) -> list[str]:
    if not comparisons.of_means:
        return []
    return ["## Mean over tasks\n", MEANS + "\n", means_table(comparisons.of_means) + "\n"]


def _task_section(of_task: Sequence[Group], comparisons: Comparisons) -> list[str]:
    group = of_task[0]
    compared = [each for each in comparisons.of_tasks if each.tasks == [group.task.name]]
    if not compared:
        return []
    return [
        f"## {escaping.markdown(f'{task_name(group)} ({group.metric_label})')}\n",
        standings_table(of_task) + "\n",
        comparisons_table(compared) + "\n",
    ]


def _left_out_section(comparisons: Comparisons) -> list[str]:
    if not comparisons.left_out:
        return []
    rows = left_out_table(comparisons.left_out, comparisons.groups)
    return ["## Not compared\n", rows + "\n"]


def _notes(comparisons: Comparisons) -> list[str]:
    """Return what a reader must know to judge the comparisons."""
    groups = comparisons.groups
    notes = [METHOD]
    if any(comparison.is_of_one_seed for comparison in comparisons.of_tasks):
        notes.append(ONE_SEED)
    if any(group.degenerate for group in groups):
        notes.append(DEGENERATE)
    if selected := _selected(groups):
        notes.append(SELECTED.format(escaping.markdown(selected)))
    if of_data := tables.data_notes(groups):
        notes += ["", escaping.markdown(MARKED) + "\n", *map(escaping.markdown, of_data), ""]
    return [*notes, INPUTS]


def _selected(groups: Sequence[Group]) -> str:
    """Return which variants were chosen by the score that is compared."""
    points = [group for group in groups if len(group.chosen_from) > 1 and not uses_holdout(group)]
    return ", ".join(f"{group.model} on {task_name(group)} (of {len(group.chosen_from)})" for group in points)
