"""Format summaries as tables, in Markdown and for the terminal."""

from collections.abc import Callable, Iterable, Sequence

from tabulate import tabulate
from wcwidth import wcswidth

from gluegrid.common import escaping
from gluegrid.common.formatting import NOTHING, number, percent, points, seconds
from gluegrid.results import result_text
from gluegrid.results.notes import precisions_of
from gluegrid.results.outcomes import Outcome
from gluegrid.results.result_text import MARK, PREDICTED, score_text, state, task_name
from gluegrid.results.summary import Group, by_model_on_every_task, mean
from gluegrid.results.table_notes import TableNotes, names_in

COLUMNS = ("Task", "Metric", "Result", "Training time (s)", "epochs")
LONGEST_REASON = 400  # characters; a reason ends with its advice
OVER_SEEDS = ("mean", "median", "best")  # what models by tasks can show, named as in Summary


def markdown(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a GitHub table that shows these texts literally."""
    return _grid(map(escaping.markdown, headers), [map(escaping.markdown, row) for row in rows])


def plain(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return the same table for the terminal, which does not render Markdown escapes."""
    return _grid(map(escaping.one_line, headers), [map(escaping.one_line, row) for row in rows])


def aligned(rows: Iterable[Sequence[str]], **options: object) -> str:
    """Return rows for the terminal, their columns aligned; `options` are tabulate's."""
    lines = [[escaping.one_line(text) for text in row] for row in rows]
    return tabulate(lines, tablefmt="plain", disable_numparse=True, **options)


def width_of(table: str) -> int:
    """Return how many columns of a terminal a table takes."""
    return max(map(wcswidth, table.splitlines()), default=0)


def _grid(headers: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    # Without disable_numparse, 57.60 would be printed as 57.6.
    return tabulate([list(row) for row in rows], headers=list(headers), tablefmt="github", disable_numparse=True)


def model_table(groups: Sequence[Group], said: str = "") -> str:
    """Return one model's table, with the columns of the document that gluegrid started from.

    `said` is a caveat that the document states once for all its tables, as in `notes_below`.
    """
    return markdown(COLUMNS, _model_rows(groups, TableNotes(groups, said=said)))


def notes_below(groups: Sequence[Group], of_scores: bool = False, said: str = "") -> str:
    """Return the notes of a model's table, or with `of_scores` of models by tasks, as Markdown; empty if none."""
    title, *items = TableNotes(groups, of_scores, said).lines() or [""]
    return "\n".join([escaping.markdown(title), "", *map(escaping.markdown, items), ""]) if items else ""


def _model_rows(groups: Sequence[Group], notes: TableNotes) -> list[tuple[str, ...]]:
    return [_model_row(group, result_text.result(group) + notes.mark([group])) for group in groups]


def _model_row(group: Group, result: str) -> tuple[str, ...]:
    return (
        task_name(group),
        escaping.shortened(group.metric_label, result_text.LONGEST_NAME),
        result,
        seconds(group.mean("train_runtime")),
        number(group.mean("epoch")),
    )


def models_by_tasks(
    groups: Sequence[Group],
    over_seeds: str = "mean",
    said: str = "",
    table: Callable[[Sequence[str], Iterable[Sequence[str]]], str] = markdown,
) -> str:
    """Return the table of models by tasks: each task's score over seeds, and the mean of these over the tasks.

    `over_seeds` is mean, median or best, as in Summary. A mean is shown with its standard deviation, if it has one.
    Numbers that `notes_below` qualifies have a mark, and so have means that include one of them or lack the score of a
    task. An import may have no cell of a model on a task. `table` is `markdown`, or `plain` for the terminal.
    """
    notes = TableNotes(groups, of_scores=True, said=said)
    tasks = {group.task.name: task_name(group) for group in groups}
    rows = []
    for of_model in by_model_on_every_task(groups):
        scores = [_score(group, over_seeds) + notes.mark([group]) for group in of_model]
        rows.append([of_model[0].model, *scores, _mean(of_model, over_seeds, notes)])
    return table(["Model", *tasks.values(), "Mean"], rows)


def score_or_state(group: Group, over_seeds: str = "mean") -> str:
    """Return the score of a group over seeds, marked if it is from other data, or why there is none."""
    return _score(group, over_seeds) + (MARK if group.has_other_data else "")


def _score(group: Group, over_seeds: str) -> str:
    if not group.done:
        return state(group)
    if not group.task.metric_keys():
        return PREDICTED
    summary = group.score_summary()
    return score_text(summary) if over_seeds == "mean" else percent(getattr(summary, over_seeds))


def mean_over_tasks(groups: Sequence[Group], over_seeds: str = "mean") -> tuple[str, str]:
    """Return the mean of a model's scores over the tasks that have one, and how many these are if some have none.

    It is marked if one of them is from other data.
    """
    scored, known = _scored_and_known(groups, over_seeds)
    tasks = "" if len(known) == len(scored) else f"{len(known)} of {len(scored)} tasks"
    return _mean_text(known, over_seeds) + (MARK if any(group.has_other_data for group in known) else ""), tasks


def _mean(groups: Sequence[Group], over_seeds: str, notes: TableNotes) -> str:
    scored, known = _scored_and_known(groups, over_seeds)
    is_partial = 0 < len(known) < len(scored)
    return _mean_text(known, over_seeds) + (MARK if is_partial else notes.mark(known))


def _scored_and_known(groups: Sequence[Group], over_seeds: str) -> tuple[list[Group], list[Group]]:
    """Return the groups of tasks that have metrics, and those among them that have a score."""
    scored = [group for group in groups if group.task.metric_keys()]
    return scored, [group for group in scored if getattr(group.score_summary(), over_seeds) is not None]


def _mean_text(known: Sequence[Group], over_seeds: str) -> str:
    return percent(mean(getattr(group.score_summary(), over_seeds) for group in known)) if known else NOTHING


def data_notes(groups: Sequence[Group]) -> list[str]:
    """Return a line for each way in which the data of marked numbers differ from the official files, unescaped.

    Numbers from synthetic data have no mark; `synthetic_note` covers them.
    """
    about: dict[str, list[Group]] = {}
    for group in groups:
        if group.has_other_data:
            about.setdefault(group.data, []).append(group)
    return [f"- on {', '.join(names_in(of_text, groups))}: {text}" for text, of_text in about.items()]


def beside_reference(groups: Sequence[Group], reference: dict[str, dict], label: str, said: str = "") -> str:
    """Return a model's results beside `reference`, which maps tasks to metrics in percent for the same model."""
    rows = []
    for group, row in zip(groups, _model_rows(groups, TableNotes(groups, said=said)), strict=True):
        task, metric, ours, time, epochs = row
        theirs = reference.get(group.task.name, {})
        keys = [key.removeprefix("eval_") for key in group.task.metric_keys()]
        metrics = "/".join(points(theirs[key]) for key in keys if key in theirs) or NOTHING
        their_time, their_epochs = seconds(theirs.get("train_runtime")), number(theirs.get("epoch"))
        rows.append((task, metric, ours, metrics, time, their_time, epochs, their_epochs))
    names = (f"Result of {label}", COLUMNS[3], f"Time of {label} (s)", COLUMNS[4], f"epochs of {label}")
    return markdown((*COLUMNS[:3], *names), rows)


def precisions_beside(groups: Iterable[Group], theirs: str | None, label: str) -> list[str]:
    """Return a line for each precision of a model's results that differs from the reference's, unescaped."""
    tasks: dict[str, list[str]] = {}
    for group in groups:
        if theirs and (ours := precisions_of(group.done)) not in ("", theirs):
            tasks.setdefault(ours, []).append(task_name(group))
    return [f"Ours in {ours}, {label} in {theirs}: {', '.join(names)}." for ours, names in tasks.items()]


def failures(outcomes: Iterable[Outcome]) -> str:
    """Return a table of cells without a result: which, why, and the log that says more."""
    rows = [
        [*map(escaping.markdown, (outcome.cell.name, reason(outcome))), escaping.code(str(outcome.log))]
        for outcome in outcomes
    ]
    return _grid(("Cell", "Reason", "Log"), rows)


def reason(outcome: Outcome) -> str:
    """Return why a cell has no result, on one line; a long reason is shortened."""
    return escaping.shortened(escaping.one_line(outcome.reason), LONGEST_REASON)
