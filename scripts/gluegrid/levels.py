"""Where the training values of a cell stand in its experiment file: at the top, in its model, its task, or itself."""

from collections.abc import Iterator
from typing import NamedTuple

from gluegrid.recipes import RECIPE, RECIPES
from gluegrid.strict_yaml import Position

BATCH_KEYS = ("per_device_train_batch_size", "global_batch_size")
TRAINING_KEYS = {*RECIPES[RECIPE], *BATCH_KEYS, "seeds", "threads"}
# A list of values for any other training key makes a variant of each.
NOT_SWEPT = {"seeds", "threads", "device", "do_train", "init_from", "selection"}
SWEPT_KEYS = TRAINING_KEYS - NOT_SWEPT


class Given(NamedTuple):
    """A training value and the key that it stands at."""

    value: object
    position: Position


def given_values(config: dict, model: str, task: str) -> dict[str, Given]:
    """Return the training values that a file gives for a model on a task; the more specific level wins."""
    values: dict[str, Given] = {}
    for position, level in _levels_of_cell(config, model, task):
        given = {key: Given(value, (*position, key)) for key, value in level.items() if key in TRAINING_KEYS}
        if any(key in given for key in BATCH_KEYS):
            values = {key: value for key, value in values.items() if key not in BATCH_KEYS}
        values |= given
    return values


def all_levels(config: dict) -> Iterator[tuple[Position, dict]]:
    """Yield each place where training values may stand, with what stands there."""
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
