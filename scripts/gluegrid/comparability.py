"""Whether a reference can be compared with a group of cells: both must be of the same data and training."""

from collections.abc import Iterator

from gluegrid.experiment.references import MEDIAN, SINGLE_RUN, VALIDATION, Reference
from gluegrid.experiment.run import examples_per_update
from gluegrid.selection import uses_holdout
from gluegrid.summary import Group

STATISTICS = ("mean", MEDIAN, SINGLE_RUN)


def obstacle(reference: Reference) -> str:
    """Return why a reference can be compared with no result; empty where it can."""
    if reference.split != VALIDATION:
        return f"the reference is of the {reference.split} split"
    if reference.statistic == "best":
        return "the reference is the best of its runs, not their mean"
    if reference.statistic not in STATISTICS:
        return "the reference does not say which statistic over its runs it is"
    return "" if reference.training else "the reference does not say how it was trained"


def differences(group: Group, reference: Reference) -> list[str]:
    """Return what is other about a group's cells than about a reference; of the training, in what the latter states."""
    return [*_of_data(group), *_of_ways(group, reference.training), *_of_values(group, reference.training)]


def _of_data(group: Group) -> Iterator[str]:
    values = group.outcomes[0].cell.values
    subsets = [key for key in ("max_train_samples", "max_eval_samples") if values[key] is not None]
    if group.data:
        yield f"ours: {group.data}"
    elif subsets:
        yield f"ours: a subset ({', '.join(f'{key} {values[key]}' for key in subsets)})"
    if uses_holdout(group):
        yield "ours: a part of train is held out"


def _of_ways(group: Group, training: dict) -> Iterator[str]:
    theirs = [f"from {training['init_from']}"] if "init_from" in training else []
    yield from (f"ours: {option}" for option in group.options if option not in theirs)
    yield from (f"theirs: {option}" for option in theirs if option not in group.options)


def _of_values(group: Group, training: dict) -> Iterator[str]:
    values = group.outcomes[0].cell.values
    ours = values | {"train_batch_size": examples_per_update(values)}
    for key, theirs in training.items():
        if key != "init_from" and ours[key] != theirs:
            yield f"{key} {_text(ours[key])}, theirs {_text(theirs)}"


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
