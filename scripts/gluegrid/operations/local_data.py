"""Look at local data before anything runs, for mistakes in the experiment file and for its size."""

from pathlib import Path

from gluegrid.common.errors import GluegridError, MisfitError
from gluegrid.common.paths import is_local
from gluegrid.experiment.config_errors import Problems
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.task import Task, definition
from gluegrid.operations.cost_model import RowsSeen


def look_at_local_data(experiment: Experiment, problems: Problems) -> None:
    """Read the local data that are not staged yet, and keep what was seen in the experiment's `data_seen`.

    Data that contradict the experiment file are an error in it. Damaged files are a warning, since only the cells that
    need them will fail.
    """
    for name, entry in experiment.tasks.items():
        if is_local(entry["source"]) and not Path(experiment.task_manifest(name)).exists():
            # Imported here, since pyarrow is heavy and not needed once everything is staged.
            from gluegrid.staging.local_data import look

            task = Task(name=name, **definition(entry))
            seen, wrong = look(task)
            experiment.data_seen[name] = {split: RowsSeen(*of_split) for split, of_split in seen.items()}
            _note(problems, task, wrong)


def _note(problems: Problems, task: Task, wrong: list[GluegridError]) -> None:
    """Report the first problem for each key of a task."""
    keys: set[str] = set()
    for error in wrong:
        key = _key_to_blame(task, error)
        if key in keys:
            continue
        keys.add(key)
        if isinstance(error, MisfitError):
            problems.add(("tasks", task.name, key), str(error))
        else:
            problems.warn(("tasks", task.name, key), f"{error}; only the cells of this task will fail")


def _key_to_blame(task: Task, error: GluegridError) -> str:
    if not isinstance(error, MisfitError):
        return "source"
    return error.key or ("label_column" if error.column == task.label_column else "text_columns")
