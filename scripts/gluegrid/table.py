"""Summaries to Markdown, and to the terminal. The only place where numbers are rounded."""

from collections.abc import Iterable, Sequence

from tabulate import tabulate

from gluegrid import escaping
from gluegrid.records import Outcome
from gluegrid.summary import Group, mean

COLUMNS = ("Task", "Metric", "Result", "Training time (s)", "epochs")
UNDEFINED = "undefined"
NOTHING = "-"
MARK = "*"  # at a number that is not from the official data, where there is no room to say more
MARKED = f"Numbers with {MARK} are not from the official data:"
LONGEST_NAME = 60  # characters of a task's and a metric's name
LONGEST_REASON = 400  # characters; advice stands at a reason's end
TERMINAL_WIDTH = 120  # columns


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
    return markdown(COLUMNS, [_model_row(group, result(group)) for group in groups])


def terminal_table(groups: Sequence[Group]) -> str:
    """Return one model's table for the terminal.

    What is said of a number's data goes below, and a mark to the number, where the table would be too wide.
    """
    text = plain(COLUMNS, [_model_row(group, result(group)) for group in groups])
    notes = data_notes(groups)
    if not notes or len(text.partition("\n")[0]) <= TERMINAL_WIDTH:
        return text
    text = plain(COLUMNS, [_model_row(group, _marked_result(group)) for group in groups])
    return "\n".join([text, "", MARKED, *map(escaping.one_line, notes)])


def _model_row(group: Group, result: str) -> tuple[str, ...]:
    return (
        task_name(group),
        escaping.shortened(group.metric_label, LONGEST_NAME),
        result,
        seconds(group.mean("train_runtime")),
        number(group.mean("epoch")),
    )


def task_name(group: Group) -> str:
    """Return the name of a group's task."""
    return escaping.shortened(group.display_name, LONGEST_NAME)


def result(group: Group) -> str:
    """Return a task's metrics times 100, such as 85.78/90.00, and what limits them; or why there are none."""
    return _result(group, mark="", data=[group.data] if group.data else [])


def _marked_result(group: Group) -> str:
    return _result(group, mark=MARK if group.data else "", data=[])


def _result(group: Group, mark: str, data: list[str]) -> str:
    if not group.done:
        return _state(group)
    text = "/".join(percent(group.mean(key)) for key in group.task.metric_keys()) + mark
    of_seeds = [f"mean of {len(group.done)} of {len(group.outcomes)} seeds"] if len(group.outcomes) > 1 else []
    limits = "; ".join(of_seeds + group.options + data)
    return f"{text} ({limits})" if limits else text


def _state(group: Group) -> str:
    return "failed" if group.failed else "not run"


def models_by_tasks(groups: Sequence[Group]) -> str:
    """Return models x tasks: the mean of each task's metrics, and their mean over the tasks.

    A number that is not from the official data has a mark, and so has a mean with such a number in it.
    """
    tasks = {group.task.name: task_name(group) for group in groups}
    rows = []
    for model in dict.fromkeys(group.model for group in groups):
        of_model = [group for group in groups if group.model == model]
        rows.append([model, *map(_score_or_state, of_model), _mean_over_tasks(of_model)])
    return markdown(["Model", *tasks.values(), "Mean"], rows)


def _score_or_state(group: Group) -> str:
    if not group.done:
        return _state(group)
    return percent(group.score()) + (MARK if group.data else "")


def _mean_over_tasks(groups: Sequence[Group]) -> str:
    known = [group for group in groups if group.score() is not None]
    text = percent(mean(group.score() for group in known)) if known else NOTHING
    if any(group.data for group in known):
        text += MARK
    if len(known) < len(groups):
        text += f" ({len(known)} of {len(groups)} tasks)"
    return text


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
    headers = (
        "Task",
        "Metric",
        "Result",
        f"Result of {label}",
        "Training time (s)",
        f"Time of {label} (s)",
        "epochs",
        f"epochs of {label}",
    )
    rows = []
    for group in groups:
        task, metric, ours, time, epochs = _model_row(group, result(group))
        theirs = reference.get(group.task.name, {})
        keys = [key.removeprefix("eval_") for key in group.task.metric_keys()]
        values = [f"{theirs[key]:.2f}" for key in keys if key in theirs]
        rows.append(
            (
                task,
                metric,
                ours,
                "/".join(values) or NOTHING,
                time,
                seconds(theirs.get("train_runtime")),
                epochs,
                number(theirs.get("epoch")),
            )
        )
    return markdown(headers, rows)


def failures(outcomes: Iterable[Outcome]) -> str:
    """Return a table of cells without a result: which, why, and the log that says more."""
    rows = [
        (
            escaping.markdown(outcome.cell.name),
            escaping.markdown(reason(outcome)),
            escaping.code(str(outcome.log)),
        )
        for outcome in outcomes
    ]
    return _grid(("Cell", "Reason", "Log"), rows)


def reason(outcome: Outcome) -> str:
    """Return why a cell has no result, on one line; of a long reason the beginning."""
    return escaping.shortened(escaping.one_line(outcome.reason), LONGEST_REASON)


def percent(value: float | None) -> str:
    """Return a metric times 100 with two decimals."""
    return UNDEFINED if value is None else f"{value * 100:.2f}"


def seconds(value: float | None) -> str:
    """Return seconds with two decimals."""
    return NOTHING if value is None else f"{value:.2f}"


def number(value: float | None) -> str:
    """Return a number of epochs without needless decimals."""
    return NOTHING if value is None else f"{value:g}"
