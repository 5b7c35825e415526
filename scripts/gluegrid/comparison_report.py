"""comparisons.md and comparisons.json of an experiment."""

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from gluegrid import comparison_tables
from gluegrid.common import escaping
from gluegrid.common.files import canonical_json, write_text
from gluegrid.comparison_tables import OF_ONE_SEED, adjusted_sign, sign
from gluegrid.comparisons import Comparison, Comparisons
from gluegrid.experiment.experiment import Experiment
from gluegrid.paired_bootstrap import LEVEL
from gluegrid.results import tables
from gluegrid.results.outcomes import Outcome
from gluegrid.results.result_text import MARKED, task_name
from gluegrid.results.selection import uses_holdout
from gluegrid.results.summary import Group, score

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
        comparison_tables.wins_ties_losses(models, comparisons.of_tasks, verdict) + "\n"
        for verdict in (sign, adjusted_sign)
    )
    section = ["## Wins, ties and losses\n", IN_MATRIX + "\n", plain]
    return [*section, MANY.format(count=count, chance=1 - LEVEL) + "\n", adjusted] if count > 1 else section


def _mean_section(comparisons: Comparisons) -> list[str]:
    if not comparisons.of_means:
        return []
    return ["## Mean over tasks\n", MEANS + "\n", comparison_tables.means_table(comparisons.of_means) + "\n"]


def _task_section(of_task: Sequence[Group], comparisons: Comparisons) -> list[str]:
    group = of_task[0]
    compared = [each for each in comparisons.of_tasks if each.tasks == [group.task.name]]
    if not compared:
        return []
    return [
        f"## {escaping.markdown(f'{task_name(group)} ({group.metric_label})')}\n",
        comparison_tables.standings_table(of_task) + "\n",
        comparison_tables.comparisons_table(compared) + "\n",
    ]


def _left_out_section(comparisons: Comparisons) -> list[str]:
    if not comparisons.left_out:
        return []
    rows = comparison_tables.left_out_table(comparisons.left_out, comparisons.groups)
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
