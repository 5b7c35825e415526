"""What others have published of an experiment's models, beside which its scores stand in the figures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.references import VALIDATION, reference_model, references_of
from gluegrid.results.summary import Group, mean


@dataclass(frozen=True)
class Published:
    """A published score of one model on one task, as a part of 1: the mean of the task's metrics, as our scores are."""

    label: str
    model: str
    task: str
    value: float


def published_scores(experiment: Experiment, groups: Iterable[Group]) -> list[Published]:
    """Return what there is of these groups' validation splits; where a metric of the task lacks, there is no score."""
    numbers: dict[tuple[str, str], dict[tuple[str, str], dict[str, float]]] = {}
    for each in references_of(experiment.config):
        if each.split == VALIDATION:
            of_task = numbers.setdefault((each.model, each.task), {})
            of_task.setdefault((each.label, str(each.training)), {})[each.metric] = each.value
    found = []
    for group in groups:
        name = reference_model(experiment.models[group.model]), group.task.name
        for (label, _), metrics in numbers.get(name, {}).items():
            value = mean(metrics.get(key.removeprefix("eval_")) for key in group.task.metric_keys())
            if value is not None:
                found.append(Published(label, group.model, group.task.name, value / 100))
    return found


def by_model(published: Sequence[Published], task: str) -> dict[str, list[Published]]:
    """Return a task's published scores by model."""
    found: dict[str, list[Published]] = {}
    for each in published:
        if each.task == task:
            found.setdefault(each.model, []).append(each)
    return found
