"""The levels of an experiment file at which options can be set, and which of them apply to a cell."""

from collections.abc import Iterator
from typing import NamedTuple

from gluegrid.experiment.options import BATCH_KEYS, OPTIONS
from gluegrid.experiment.yaml_loader import Position

LEVELS = ("models", "tasks", "cells")  # below the top level, from general to specific


class Given(NamedTuple):
    """The value of an option, and where the file sets it."""

    value: object
    position: Position

    @property
    def depth(self) -> int:
        """How specific the level is: 1 for the top level; 0 stands for defaults."""
        return 1 if len(self.position) == 1 else 2 + LEVELS.index(self.position[0])


def given_values(config: dict, model: str, task: str) -> dict[str, Given]:
    """Return the options that a file sets for a model on a task; the more specific level wins."""
    values: dict[str, Given] = {}
    for position, level in _levels_of_cell(config, model, task):
        given = {key: Given(value, (*position, key)) for key, value in level.items() if key in OPTIONS}
        if any(key in given for key in BATCH_KEYS):
            values = {key: value for key, value in values.items() if key not in BATCH_KEYS}
        values |= given
    return values


def all_levels(config: dict) -> Iterator[tuple[Position, dict]]:
    """Yield each position at which options can be set, with its content."""
    yield (), config
    for part in ("models", "tasks"):
        for name, values in config[part].items():
            yield (part, name), values
    for model, tasks in config["cells"].items():
        for task, values in tasks.items():
            yield ("cells", model, task), values


def _levels_of_cell(config: dict, model: str, task: str) -> Iterator[tuple[Position, dict]]:
    yield (), config
    yield ("models", model), config["models"][model]
    yield ("tasks", task), config["tasks"][task]
    yield ("cells", model, task), config.get("cells", {}).get(model, {}).get(task, {})
