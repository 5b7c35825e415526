"""A run, read from its run.json: what is trained, on what, with which values."""

from dataclasses import dataclass
from pathlib import Path

from gluegrid.errors import DataError, TrainingError
from gluegrid.files import read_json
from gluegrid.recipes import RECIPES
from gluegrid.tasks import Task


@dataclass(frozen=True)
class Run:
    """One training. Field names are Hugging Face's where it has one."""

    experiment: str
    model: dict
    task: Task
    variant: str
    seed: int
    threads: int  # CPU threads, which also decide the last bits of the results
    learning_rate: float
    per_device_train_batch_size: int
    per_device_eval_batch_size: int
    num_train_epochs: float
    max_seq_length: int
    max_train_samples: int | None
    max_eval_samples: int | None
    device: str
    global_batch_size: int | None = None

    def train_batch_size(self, processes: int) -> int:
        """Return the examples of one update on one of `processes` devices; TrainingError if they do not divide."""
        if self.global_batch_size is None:
            return self.per_device_train_batch_size
        if self.global_batch_size % processes:
            raise TrainingError(
                f"global_batch_size {self.global_batch_size} cannot be split over {processes} processes"
            )
        return self.global_batch_size // processes


def read_run(path: Path) -> Run:
    """Read a run.json and fill in its recipe. Raises DataError for what this release cannot mean."""
    content = read_json(path)
    recipe = content.pop("recipe", None)
    if recipe not in RECIPES:
        raise DataError(f"{path}: recipe {recipe!r} is unknown; known: {sorted(RECIPES)}")
    task = Task(**content.pop("task"))
    try:
        return Run(task=task, **(RECIPES[recipe] | content))
    except TypeError as error:
        raise DataError(f"{path}: {error}; was it written by a later release?") from error
