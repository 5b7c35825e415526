"""What others have published of an experiment's models, beside which its scores stand."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import yaml

from gluegrid.experiment import Experiment
from gluegrid.report import REFERENCE
from gluegrid.summary import Group, mean


@dataclass(frozen=True)
class Published:
    """A published score of one model on one task, as a part of 1: the mean of the task's metrics, as our scores are."""

    label: str
    model: str
    task: str
    value: float


def published_scores(experiment: Experiment, groups: Iterable[Group]) -> list[Published]:
    """Return what there is for these groups; a reference that lacks one of a task's metrics has no score of it."""
    reference = yaml.safe_load(REFERENCE.read_text(encoding="utf-8"))
    found = []
    for group in groups:
        numbers = reference["models"].get(experiment.models[group.model]["source"], {}).get(group.task.name, {})
        value = mean(numbers.get(key.removeprefix("eval_")) for key in group.task.metric_keys())
        if value is not None:
            found.append(Published(reference["label"], group.model, group.task.name, value / 100))
    return found


def by_model(published: Sequence[Published], task: str) -> dict[str, list[Published]]:
    """Return a task's published scores by model."""
    found: dict[str, list[Published]] = {}
    for each in published:
        if each.task == task:
            found.setdefault(each.model, []).append(each)
    return found
