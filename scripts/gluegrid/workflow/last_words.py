"""Write the last lines of a call: scores by model and task, notes on them, where the rest is, and what failed."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from gluegrid.common import escaping
from gluegrid.common.files import json_if_there, read_json
from gluegrid.common.formatting import counted, first_of
from gluegrid.execution.invocation import path_of_current_invocation, was_interrupted
from gluegrid.experiment.experiment import Experiment
from gluegrid.results import tables
from gluegrid.results.notes import precision_notes
from gluegrid.results.outcomes import Outcome
from gluegrid.results.parity import with_verdict
from gluegrid.results.parity_report import COLUMNS, below, verdict_row
from gluegrid.results.result_text import SYNTHETIC_DATA
from gluegrid.results.results_md import STOPPED, without_result
from gluegrid.results.selection import chosen
from gluegrid.results.summary import Group, groups
from gluegrid.results.table_notes import SYNTHETIC_NOTE, TableNotes, are_synthetic
from gluegrid.workflow.run_end import comparison

WIDTH = 80  # columns
LONGEST_NAME = 32  # characters of a model's name
MOST_TASKS_BELOW = 20  # more tasks become columns, in several tables
MOST_NOTES = 10
FROM_WHAT_THERE_IS = ("compare", "parity", "report")  # rules that `make reports` can stand in for
MOST_REASONS = 30  # why cells have no result
SHOWN_OF_PARITY = [COLUMNS.index(name) for name in ("Model", "Task", "Metric", "Ours", "Reference", "Verdict")]
NOTHING_DONE = "Nothing to be done: everything asked for is up to date."


def last_words(
    experiment: Experiment,
    outcomes: Sequence[Outcome],
    targets: Sequence[str] = (),
    waiting: Sequence[str] = (),
    logs: Sequence[str] = (),
) -> str:
    """Return the last lines of a call.

    `targets` are the requested rules that were carried out, `waiting` those whose inputs are missing.
    """
    grouped = chosen(groups(experiment, outcomes))
    failed, stopped = without_result(outcomes)
    said = SYNTHETIC_DATA if are_synthetic(grouped) else ""
    lines = ["", *_caption(experiment, grouped), "", score_table(grouped, said), ""]
    compared = comparison(experiment, outcomes)
    notes = [*_notes(outcomes, grouped, said), *([compared] if compared else [])]
    lines += [*notes, *([""] if notes else [])]
    lines += _where(experiment, logs, "report" in targets)
    lines += _reasons([*failed, *stopped])
    if was_interrupted(path_of_current_invocation()):
        lines.append(f"{STOPPED} ({sum(outcome.is_done for outcome in outcomes)} of {len(outcomes)} cells are done)")
    return "\n".join([*lines, *_of_targets(experiment, targets), *_of_waiting(experiment, waiting)])


def score_table(grouped: Sequence[Group], said: str = "", width: int = WIDTH) -> str:
    """Return scores in a table of at most `width` characters, with a column per model or, if models are many, per task.

    `said` is a caveat that is stated elsewhere, as in `tables.models_by_tasks`.
    """
    return tables.models_by_tasks(grouped, said=said, table=lambda headers, rows: _folded(headers, rows, width))


def _folded(headers: Sequence[str], rows: Iterable[Sequence[str]], width: int) -> str:
    named = [headers, *([escaping.shortened(model, LONGEST_NAME), *scores] for model, *scores in rows)]
    turned = [[*row] for row in zip(*named, strict=True)]
    turned[0][0] = "Task"
    if len(turned) <= MOST_TASKS_BELOW and tables.width_of(_aligned(turned)) <= width:
        return _aligned(turned)
    return "\n\n".join(_parts(named, width))


def _parts(rows: list[list[str]], width: int) -> Iterator[str]:
    """Yield tables with as many columns as fit; each repeats the first column."""
    first = last = 1
    while first < len(rows[0]):
        last += 1
        if last == len(rows[0]) or tables.width_of(_of_columns(rows, first, last + 1)) > width:
            yield _of_columns(rows, first, last)
            first = last


def _of_columns(rows: list[list[str]], first: int, last: int) -> str:
    return _aligned([[row[0], *row[first:last]] for row in rows])


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return a table with names aligned on the left and numbers on the right."""
    return tables.aligned(rows, colalign=("left", *["right"] * (len(rows[0]) - 1)))


def _caption(experiment: Experiment, grouped: Sequence[Group]) -> list[str]:
    """Return the line that says what the table's numbers are."""
    several = any(len(group.outcomes) > 1 for group in grouped)
    over = ", mean ± standard deviation over seeds" if several else ", one seed"
    return [f"{experiment.name}: scores x 100 on validation{over}"]


def _notes(outcomes: Sequence[Outcome], grouped: Sequence[Group], said: str) -> Iterator[str]:
    """Yield the notes on the numbers, each once."""
    notes = TableNotes(grouped, of_scores=True, said=said).lines()
    told = [*([SYNTHETIC_NOTE] if said else []), *notes[: MOST_NOTES + 1]]
    more = [f"- {len(notes) - MOST_NOTES - 1:,} more notes: results.md"] if notes[MOST_NOTES + 1 :] else []
    for line in map(escaping.one_line, [*told, *more, *precision_notes(outcomes)[:1]]):  # the tables name the cells
        yield textwrap.fill(line, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _reasons(without: Sequence[Outcome]) -> Iterator[str]:
    """Yield a line for each reason why cells have no result."""
    alike: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in without:
        state = "STOPPED" if outcome.is_stopped else "FAILED"
        alike.setdefault((state, tables.reason(outcome)), []).append(outcome)
    told = [*alike.items()]
    for (state, reason), outcomes in told[:MOST_REASONS]:
        log = f"; log: {outcomes[0].log}" if state == "FAILED" else ""
        yield f"{state} {first_of([outcome.cell.name for outcome in outcomes])}: {reason}{log}"
    if left := sum(len(outcomes) for _, outcomes in told[MOST_REASONS:]):
        yield f"... and {left:,} more cells without a result: results.md"


def _where(experiment: Experiment, logs: Sequence[str], report_follows: bool) -> Iterator[str]:
    yield f"Tables: {experiment.paths.results_md}"
    if not report_follows:
        yield f"Report: make reports EXPERIMENT={experiment.name}"
    if logs:
        yield f"Log: {', '.join(logs)}"


def _of_targets(experiment: Experiment, targets: Sequence[str]) -> Iterator[str]:
    """Yield the findings of the requested rules, which follow the table."""
    for rule in targets:
        if lines := [*OF_RULES[rule](experiment)] if rule in OF_RULES else []:
            yield from ("", *lines)


def _of_waiting(experiment: Experiment, waiting: Sequence[str]) -> Iterator[str]:
    """Say how to get what was requested and could not be written."""
    if waiting:
        command = f"make reports EXPERIMENT={experiment.name}"
        yield from ("", f"Not written: {', '.join(waiting)}. From the results there are: {command}")


def _of_compare(experiment: Experiment) -> Iterator[str]:
    """Yield how often each model wins, ties and loses against each other model."""
    content = json_if_there(Path(experiment.paths.comparisons_json))
    pairs: dict[tuple[str, str], list[str | None]] = {}
    for each in content.get("tasks", []):
        pairs.setdefault((each["first"], each["second"]), []).append(each["better"])
    for (first, second), better in pairs.items():
        wins, losses = better.count(first), better.count(second)
        ties = len(better) - wins - losses
        counts = ", ".join([counted(wins, "win"), counted(losses, "loss"), counted(ties, "tie")])
        yield f"{first} against {second}: {counts} on {counted(len(better), 'task')}"
    if not pairs:
        yield "Nothing was compared: no two models have results on a common task."
    yield f"Comparisons: {experiment.paths.comparisons_md}"


def _of_parity(experiment: Experiment) -> Iterator[str]:
    file = Path(experiment.paths.parity_json)
    if not file.exists():
        return
    content = read_json(file)
    records = with_verdict(content)
    if records:
        rows = [COLUMNS, *map(verdict_row, records)]
        yield _aligned([[row[column] for column in SHOWN_OF_PARITY] for row in rows])
    elif not content["verdicts"]:
        yield "Parity: no published result for these models and tasks, so nothing was compared."
    if others := len(content["verdicts"]) - len(records):
        yield f"{counted(others, 'published result')} not compared."
    yield from map(escaping.one_line, below(content))
    yield f"Parity: {experiment.paths.parity_md}"


def _of_report(experiment: Experiment) -> Iterator[str]:
    if Path(experiment.paths.report_html).exists():
        yield f"Report: {experiment.paths.report_html}"


def _of_submission(experiment: Experiment) -> Iterator[str]:
    for model in experiment.models:
        file = Path(experiment.paths.submission_zip.format(model=model))
        log = Path(experiment.paths.log("write_submission", model))
        if file.exists():
            yield log.read_text(encoding="utf-8").strip() if log.exists() else str(file)


OF_RULES = {"compare": _of_compare, "parity": _of_parity, "report": _of_report, "submission": _of_submission}
