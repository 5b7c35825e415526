"""Choose the variant of a sweep that represents its model and task: the one with the best mean score over seeds."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from gluegrid.experiment.options import SWEPT_KEYS
from gluegrid.results.summary import Group, Summary, mean, score, summarised


@dataclass(frozen=True)
class Optimism:
    """How much the reported validation score gains if a variant is chosen by it instead of by the holdout score.

    A score that also chooses is too high: Cawley and Talbot (2010), On over-fitting in model selection and subsequent
    selection bias in performance evaluation, Journal of Machine Learning Research 11.
    """

    by_validation: Group
    by_holdout: Group
    score_by_validation: float  # both are means of validation scores
    score_by_holdout: float

    @property
    def difference(self) -> float:
        """The gain of choosing on validation."""
        return self.score_by_validation - self.score_by_holdout


def chosen(groups: Iterable[Group]) -> list[Group]:
    """Return one group for each model and task, in their order, with all groups that it was `chosen_from`.

    Among the variants with the most scored seeds, it is the one with the best mean score, the first one if tied. The
    score is that on the holdout if the cells have one, otherwise that on validation. If the cells only evaluate the
    models of another task, it is the variant chosen there.
    """
    points_of = {(points[0].model, points[0].task.name): points for points in sweeps(groups)}
    best = {key: _best(points, selecting_scores) for key, points in points_of.items()}
    groups = []
    for (model, task), points in points_of.items():
        decided = best.get((model, follows(points[0])))
        of_variant = [point for point in points if decided and point.variant == decided.variant]
        groups.append(replace((of_variant or [best[model, task]])[0], chosen_from=points))
    return groups


def was_chosen(group: Group) -> bool:
    """Tell whether a group was chosen from several by a score."""
    return len(group.chosen_from) > 1 and follows(group) is None and bool(selecting_scores(group))


def follows(group: Group) -> str | None:
    """Return the task whose models a group only evaluates, and where its variant is chosen; usually None."""
    start = group.run.get("init_from")
    return start["task"] if start and not group.run.get("do_train", True) else None


def sweeps(groups: Iterable[Group]) -> list[list[Group]]:
    """Return the groups of each model and task: one for each variant, or a single one without a sweep."""
    points: dict[tuple[str, str], list[Group]] = {}
    for group in groups:
        points.setdefault((group.model, group.task.name), []).append(group)
    return list(points.values())


def compared(group: Group, points: Iterable[Group]) -> list[Group]:
    """Return the points of a sweep that have as many selecting scores as this one."""
    return [point for point in points if len(selecting_scores(point)) == len(selecting_scores(group))]


def optimism(groups: Iterable[Group]) -> list[Optimism]:
    """Return the optimism of each model and task that has a holdout and several variants with scores."""
    choices = []
    for points in sweeps(groups):
        scored = [group for group in points if validation_scores(group) and selecting_scores(group)]
        if uses_holdout(points[0]) and len(scored) > 1:
            best = [_best(scored, scores_of) for scores_of in (validation_scores, selecting_scores)]
            choices.append(Optimism(*best, *(_mean(validation_scores(group)) for group in best)))
    return choices


def swept_keys(points: Sequence[Group]) -> list[str]:
    """Return the training values in which variants differ, in the order of the recipe."""
    values = [group.values for group in points]
    # Not save_model: some variants save their models only because other tasks start from them.
    keys = dict.fromkeys(key for of_variant in values for key in of_variant if key in SWEPT_KEYS - {"save_model"})
    return [key for key in keys if any(other.get(key) != values[0].get(key) for other in values)]


def values_of(group: Group, keys: Iterable[str]) -> dict[str, object]:
    """Return training values of a variant, None for those that it lacks."""
    return {key: group.values.get(key) for key in keys}


def uses_holdout(group: Group) -> bool:
    """Tell whether its variant is chosen by the score on a held-out part of the training data."""
    return group.run.get("selection") == "holdout"


def holdout_summary(group: Group) -> Summary:
    """Return the score on the holdout over seeds."""
    return summarised(score(outcome, group.task.holdout_keys()) for outcome in group.done)


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
        # Without any score, a variant that was attempted says more than one that was not.
        return len(scores), _mean(scores), len(group.done), len(group.failed), len(group.stopped)

    return max(points, key=rank)


def _mean(scores: list[float]) -> float:
    return mean(scores) or 0.0
