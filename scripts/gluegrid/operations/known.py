"""List the tasks and models that an experiment can name: the registry's, an experiment file's, and staged ones."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json, size_in_words
from gluegrid.experiment.config import load_registry
from gluegrid.experiment.experiment import Experiment
from gluegrid.operations.staged import resources
from gluegrid.results import tables

WIDTH = 80  # columns
NARROWEST = 20  # columns of the last column
STAGED = Path("resources/models")
SHORT_REVISION = 12  # characters
COLUMNS_OF_TASKS = ("Task", "Metrics", "Columns", "Labels")
COLUMNS_OF_MODELS = ("Model", "Revision", "Staged", "Source")


def known_tasks(experiment: Experiment | None) -> str:
    """Return the registry's tasks, and those of an experiment, with their metrics, text columns and labels."""
    tasks = {**load_registry(), **(experiment.tasks if experiment else {})}
    return _table(COLUMNS_OF_TASKS, [_row_of_task(name, task) for name, task in tasks.items()])


def _row_of_task(name: str, task: dict) -> tuple[str, ...]:
    labels = task.get("labels")
    return (
        name,
        ", ".join(task.get("metrics") or ["-"]),
        ", ".join(task.get("text_columns") or ["-"]),
        ", ".join(map(str, labels)) if labels else "a number" if "labels" not in task else "-",
    )


def known_models(experiment: Experiment) -> str:
    """Return an experiment's models, and those that others have staged here."""
    models = {each.name: each for each in resources(experiment) if each.kind == "model"}
    rows = [
        (name, str(entry.get("revision") or "-")[:SHORT_REVISION], _size(models[name].manifest), entry["source"])
        for name, entry in experiment.models.items()
    ]
    named = {each.manifest.resolve() for each in models.values()}
    others = [path for path in sorted(STAGED.glob("*/manifest.json")) if path.resolve() not in named]
    return _table(COLUMNS_OF_MODELS, [*rows, *map(_row_of_staged, others)])


def _row_of_staged(manifest: Path) -> tuple[str, ...]:
    name, _, revision = manifest.parent.name.partition("@")
    try:
        source = str(read_json(manifest).get("source", name))
    except DataError:
        source = name
    return "-", revision[:SHORT_REVISION], _size(manifest), source


def _size(manifest: Path) -> str:
    """Return the size of a staged model; "no" if it is not staged or its manifest cannot be read."""
    try:
        files = read_json(manifest)["files"]
    except (DataError, KeyError):
        return "no"
    return size_in_words(sum(identity["bytes"] for identity in files.values()))


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose last column is wrapped where it would be too wide."""
    rows = [headers, *rows]
    room = max(WIDTH - tables.width_of(tables.aligned([*row[:-1], "|"] for row in rows)), NARROWEST)
    widths = [*[None] * (len(headers) - 1), room]
    return tables.aligned(rows, maxcolwidths=widths, break_long_words=False, break_on_hyphens=False)
