"""Which variant of a sweep stands for its model and task: the one with the best score, mean over seeds."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gluegrid.summary import Group, mean, score


@dataclass(frozen=True)
class Optimism:
    """What choosing by the validation score, which is then reported, adds to it, against choosing on the holdout."""

    by_validation: Group
    by_holdout: Group

    @property
    def difference(self) -> float:
        """The validation score of the variant chosen by it, minus that of the variant chosen on the holdout."""
        best, other = (_mean(validation_scores(group)) for group in (self.by_validation, self.by_holdout))
        return best - other


def chosen(groups: Iterable[Group]) -> list[Group]:
    """Return one group for each model and task, in their order.

    It is the variant with the best mean score over seeds among those with the most seeds that have one, the first of
    equals. The score is that on the holdout where the cells have one, else that on validation.
    """
    return [_best(points, selecting_scores) for points in sweeps(groups)]


def sweeps(groups: Iterable[Group]) -> list[list[Group]]:
    """Return the groups of each model and task, one for each variant; without a sweep it is one."""
    points: dict[tuple[str, str], list[Group]] = {}
    for group in groups:
        points.setdefault((group.model, group.task.name), []).append(group)
    return list(points.values())


def optimism(groups: Iterable[Group]) -> list[Optimism]:
    """Return the optimism of each model and task that has several variants with scores, and a holdout."""
    return [
        Optimism(_best(points, validation_scores), _best(points, selecting_scores))
        for points in sweeps(groups)
        if uses_holdout(points[0]) and sum(bool(validation_scores(group)) for group in points) > 1
    ]


def uses_holdout(group: Group) -> bool:
    """Tell whether its variant is chosen by the score on a part of the training data that is not trained on."""
    return group.outcomes[0].cell.run.get("selection") == "holdout"


def selecting_scores(group: Group) -> list[float]:
    """Return the scores by which a variant is chosen, of the seeds that have one."""
    return _scores(group, group.task.holdout_keys()) if uses_holdout(group) else validation_scores(group)


def validation_scores(group: Group) -> list[float]:
    """Return the scores on validation, of the seeds that have one."""
    return _scores(group, group.task.metric_keys())


def _scores(group: Group, keys: list[str]) -> list[float]:
    scores = [score(outcome, keys) for outcome in group.done]
    return [value for value in scores if value is not None]


def _best(points: list[Group], scores_of: Callable[[Group], list[float]]) -> Group:
    def rank(group: Group) -> tuple[float, ...]:
        scores = scores_of(group)
        # Without any score, what was tried says more than what was not.
        return len(scores), _mean(scores), len(group.done), len(group.failed)

    return max(points, key=rank)


def _mean(scores: list[float]) -> float:
    return mean(scores) or 0.0
