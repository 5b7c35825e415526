"""What local data say before anything runs: mistakes of the experiment file, and how many rows of which length."""

from pathlib import Path

from gluegrid.common.errors import GluegridError, MisfitError
from gluegrid.common.paths import is_local
from gluegrid.experiment.config_errors import Problems
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.task import Task, definition
from gluegrid.operations.cost_model import RowsSeen


def look_at_local_data(experiment: Experiment, problems: Problems) -> None:
    """Read the local data that are not staged yet, and keep of the experiment's tasks what was seen of them.

    Where the experiment file is wrong about them, that is a mistake of it; what is wrong with the files themselves
    stops nothing but the cells that need them, and is a warning.
    """
    for name, entry in experiment.tasks.items():
        if is_local(entry["source"]) and not Path(experiment.task_manifest(name)).exists():
            # Here, since pyarrow is not light, and once all is staged there is nothing to look at.
            from gluegrid.staging.local_data import look

            task = Task(name=name, **definition(entry))
            seen, wrong = look(task)
            experiment.data_seen[name] = {split: RowsSeen(*of_split) for split, of_split in seen.items()}
            _note(problems, task, wrong)


def _note(problems: Problems, task: Task, wrong: list[GluegridError]) -> None:
    """Note, of what is wrong with a task's splits, the first for each of its keys."""
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
