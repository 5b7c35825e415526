"""What a cell is allowed to take: time and memory limits, generous since the hardware is not known."""

import math

from gluegrid.recipes import RECIPES

START_MINUTES = 30  # loading, a cold file system, evaluation
# The slowest of the eighteen trainings in references/document.yaml (bert-large-uncased on mnli) saw 29.
EXAMPLES_PER_SECOND = 25
ROWS_OF_AN_UNKNOWN_TASK = 100_000
MEMORY_IN_MB = 8_000


def minutes(run: dict, train_rows: int | None) -> int:
    """Return the time limit of a run's first attempt, in minutes."""
    values = RECIPES[run["recipe"]] | run
    rows = train_rows or ROWS_OF_AN_UNKNOWN_TASK
    if values["max_train_samples"] is not None:
        rows = min(rows, values["max_train_samples"])
    seconds = rows * values["num_train_epochs"] / EXAMPLES_PER_SECOND
    return START_MINUTES + math.ceil(seconds / 60)


def train_rows(entry: dict) -> int | None:
    """Return how many training examples a task of the config is said to have; None where nothing says."""
    return entry.get("train_rows") or entry.get("official", {}).get(entry["train"], {}).get("rows")


def memory_in_mb(run: dict) -> int:
    """Return the host memory of a run's first attempt on each node, in MB."""
    values = RECIPES[run["recipe"]] | run
    return MEMORY_IN_MB * values["gpus"]
