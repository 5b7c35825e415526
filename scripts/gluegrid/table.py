"""Summaries to Markdown. The only place where numbers are rounded."""

from collections.abc import Iterable, Sequence

from tabulate import tabulate

from gluegrid.records import Outcome
from gluegrid.summary import Group, mean

COLUMNS = ("Task", "Metric", "Result", "Training time (s)", "epochs")
UNDEFINED = "undefined"
NOTHING = "-"
KEPT_WHOLE = 400  # characters of a reason; advice stands at its end


def markdown(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a GitHub table of texts, left as they are but for characters that would break it."""
    cells = [[escape(cell) for cell in row] for row in rows]
    # Without disable_numparse, 57.60 would be printed as 57.6.
    return tabulate(cells, headers=[escape(header) for header in headers], tablefmt="github", disable_numparse=True)


def escape(text: str) -> str:
    """Keep a text on one line and inside its column."""
    return " ".join(text.split()).replace("|", "\\|")


def model_table(groups: Sequence[Group]) -> str:
    """Return one model's table, with the columns of the document that gluegrid started from."""
    return markdown(COLUMNS, [_model_row(group) for group in groups])


def _model_row(group: Group) -> tuple[str, ...]:
    return (
        group.display_name,
        group.metric_label,
        result(group),
        seconds(group.mean("train_runtime")),
        number(group.mean("epoch")),
    )


def result(group: Group) -> str:
    """Return a task's metrics times 100, such as 85.78/90.00, or why there are none."""
    if not group.done:
        return "failed" if group.failed else "not run"
    text = "/".join(percent(group.mean(key)) for key in group.task.metric_keys())
    if len(group.outcomes) > 1:
        text += f" (mean of {len(group.done)} of {len(group.outcomes)} seeds)"
    return text


def models_by_tasks(groups: Sequence[Group]) -> str:
    """Return models x tasks: the mean of each task's metrics, and their mean over the tasks."""
    tasks = list(dict.fromkeys(group.display_name for group in groups))
    models = list(dict.fromkeys(group.model for group in groups))
    rows = []
    for model in models:
        of_model = [group for group in groups if group.model == model]
        scores = [group.score() for group in of_model]
        known = [score for score in scores if score is not None]
        average = percent(mean(known)) if known else NOTHING
        if len(known) < len(scores):
            average += f" ({len(known)} of {len(scores)} tasks)"
        rows.append([model, *(_score_or_state(group) for group in of_model), average])
    return markdown(["Model", *tasks, "Mean"], rows)


def _score_or_state(group: Group) -> str:
    if not group.done:
        return result(group)
    return percent(group.score())


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
        task, metric, ours, time, epochs = _model_row(group)
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
    rows = [(outcome.cell.name, shortened(outcome.reason), f"`{outcome.log}`") for outcome in outcomes]
    return markdown(("Cell", "Reason", "Log"), rows)


def percent(value: float | None) -> str:
    """Return a metric times 100 with two decimals."""
    return UNDEFINED if value is None else f"{value * 100:.2f}"


def seconds(value: float | None) -> str:
    """Return seconds with two decimals."""
    return NOTHING if value is None else f"{value:.2f}"


def number(value: float | None) -> str:
    """Return a number of epochs without needless decimals."""
    return NOTHING if value is None else f"{value:g}"


def shortened(text: str) -> str:
    """Return the beginning of a long text."""
    return text if len(text) <= KEPT_WHOLE else text[: KEPT_WHOLE - 3] + "..."
