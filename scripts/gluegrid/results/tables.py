"""Summaries to tables: Markdown, and for the terminal."""

import textwrap
from collections.abc import Iterable, Sequence

from tabulate import tabulate

from gluegrid.common import escaping
from gluegrid.common.formatting import NOTHING, number, percent, points, seconds
from gluegrid.results import result_text
from gluegrid.results.notes import depends_on_seed, precisions_of
from gluegrid.results.outcomes import Outcome
from gluegrid.results.result_text import MARK, MARKED, PREDICTED, details, score_text, state, task_name
from gluegrid.results.summary import Group, by_model_on_every_task, mean

COLUMNS = ("Task", "Metric", "Result", "Training time (s)", "epochs")
LONGEST_REASON = 400  # characters; advice stands at a reason's end
TERMINAL_WIDTH = 120  # columns
OVER_SEEDS = ("mean", "median", "best")  # what models by tasks can show; the names are those of a Summary


def markdown(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a GitHub table that shows these texts as they are."""
    return _grid(map(escaping.markdown, headers), [map(escaping.markdown, row) for row in rows])


def plain(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return the same table for the terminal, where nobody would render its escapes."""
    return _grid(map(escaping.one_line, headers), [map(escaping.one_line, row) for row in rows])


def _grid(headers: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    # Without disable_numparse, 57.60 would be printed as 57.6.
    return tabulate([list(row) for row in rows], headers=list(headers), tablefmt="github", disable_numparse=True)


def model_table(groups: Sequence[Group]) -> str:
    """Return one model's table, with the columns of the document that gluegrid started from."""
    return markdown(COLUMNS, [_model_row(group, result_text.result(group)) for group in groups])


def terminal_table(groups: Sequence[Group]) -> str:
    """Return one model's table for the terminal, and below it which numbers are of one seed.

    What limits a number goes below too, and a mark for its data to the number, where the table would be too wide.
    """
    text = plain(COLUMNS, [_model_row(group, result_text.result(group)) for group in groups])
    lines = []
    if len(text.partition("\n")[0]) > TERMINAL_WIDTH:
        text = plain(COLUMNS, [_model_row(group, result_text.short_result(group)) for group in groups])
        lines = [f"- on {task_name(group)}: {details(group)}" for group in groups if details(group)]
        notes = data_notes(groups)
        lines += [*([""] if lines else []), MARKED, *notes] if notes else []
    wrapped = [textwrap.fill(escaping.one_line(line), TERMINAL_WIDTH, subsequent_indent="  ") for line in lines]
    return "\n\n".join(filter(None, [text, "\n".join(wrapped), escaping.one_line(one_seed_note(groups))]))


def _model_row(group: Group, result: str) -> tuple[str, ...]:
    return (
        task_name(group),
        escaping.shortened(group.metric_label, result_text.LONGEST_NAME),
        result,
        seconds(group.mean("train_runtime")),
        number(group.mean("epoch")),
    )


def one_seed_note(groups: Sequence[Group]) -> str:
    """Return a line on the numbers that are of one seed, where more were not asked for; empty for none; unescaped."""
    scored = [group for group in groups if group.task.metric_keys() and depends_on_seed(group.run)]
    single = [group for group in scored if len(group.outcomes) == 1]
    if not any(group.done for group in single):
        return ""
    tasks = "" if len(single) == len(scored) else f": {', '.join(map(task_name, single))}"
    return f"1 seed, so the spread is not known{tasks}."


def models_by_tasks(groups: Sequence[Group], over_seeds: str = "mean") -> str:
    """Return models x tasks: each task's score over seeds, and the mean of these over the tasks.

    `over_seeds` is mean, median or best, as a Summary has them. Beside a mean stands its standard deviation, if it has
    one. A number that is not from the official data has a mark, and so has a mean with such a number in it. An import
    may have no cell of a model on a task.
    """
    tasks = {group.task.name: task_name(group) for group in groups}
    rows = []
    for of_model in by_model_on_every_task(groups):
        scores = [score_or_state(group, over_seeds) + _seeds(group) for group in of_model]
        mean_text, tasks_text = mean_over_tasks(of_model, over_seeds)
        rows.append([of_model[0].model, *scores, mean_text + (f" ({tasks_text})" if tasks_text else "")])
    return markdown(["Model", *tasks.values(), "Mean"], rows)


def score_or_state(group: Group, over_seeds: str = "mean") -> str:
    """Return the score of a group over seeds, or why there is none."""
    if not group.done:
        return state(group)
    if not group.task.metric_keys():
        return PREDICTED
    summary = group.score_summary()
    text = score_text(summary) if over_seeds == "mean" else percent(getattr(summary, over_seeds))
    return text + (MARK if group.data else "")


def _seeds(group: Group) -> str:
    """Say how many of the seeds a score is of, where some are missing."""
    is_of_all = not group.done or not group.task.metric_keys() or len(group.done) == len(group.outcomes)
    return "" if is_of_all else f" ({len(group.done)} of {len(group.outcomes)})"


def mean_over_tasks(groups: Sequence[Group], over_seeds: str = "mean") -> tuple[str, str]:
    """Return the mean of a model's scores over the tasks that have one, and of how many it is where some have none."""
    scored = [group for group in groups if group.task.metric_keys()]
    scores = {group.task.name: getattr(group.score_summary(), over_seeds) for group in scored}
    known = [group for group in scored if scores[group.task.name] is not None]
    text = percent(mean(scores[group.task.name] for group in known)) if known else NOTHING
    tasks = "" if len(known) == len(scored) else f"{len(known)} of {len(scored)} tasks"
    return text + (MARK if any(group.data for group in known) else ""), tasks


def data_notes(groups: Sequence[Group]) -> list[str]:
    """Return a line for each task with marked numbers that says in what their data differ; unescaped."""
    lines = []
    for task in dict.fromkeys(group.task.name for group in groups):
        done = [group for group in groups if group.task.name == task and group.done]
        texts = dict.fromkeys(group.data for group in done)
        for text in filter(None, texts):
            models = [group.model for group in done if group.data == text]
            of_models = f" with {', '.join(models)}" if len(texts) > 1 else ""
            lines.append(f"- on {task_name(done[0])}{of_models}: {text}")
    return lines


def beside_reference(groups: Sequence[Group], reference: dict[str, dict], label: str) -> str:
    """Return a model's results beside those of a reference for the same model: task -> metrics in percent."""
    rows = []
    for group in groups:
        task, metric, ours, time, epochs = _model_row(group, result_text.result(group))
        theirs = reference.get(group.task.name, {})
        keys = [key.removeprefix("eval_") for key in group.task.metric_keys()]
        metrics = "/".join(points(theirs[key]) for key in keys if key in theirs) or NOTHING
        their_time, their_epochs = seconds(theirs.get("train_runtime")), number(theirs.get("epoch"))
        rows.append((task, metric, ours, metrics, time, their_time, epochs, their_epochs))
    names = (f"Result of {label}", COLUMNS[3], f"Time of {label} (s)", COLUMNS[4], f"epochs of {label}")
    return markdown((*COLUMNS[:3], *names), rows)


def precisions_beside(groups: Iterable[Group], theirs: str | None, label: str) -> list[str]:
    """Return a line for each precision of a model's results that is not `theirs`, a reference's; unescaped."""
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
    """Return why a cell has no result, on one line; of a long reason the beginning."""
    return escaping.shortened(escaping.one_line(outcome.reason), LONGEST_REASON)
