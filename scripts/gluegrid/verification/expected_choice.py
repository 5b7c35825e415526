"""Which variant of a sweep is to be shown, and what choosing it on validation would have added. On its own code."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from gluegrid.experiment.options import SWEPT_KEYS
from gluegrid.verification.expected_groups import Group
from gluegrid.verification.recomputed_statistics import mean


def shown(sweeps: list[list[Group]]) -> list[Group]:
    """Return for each model and task the variant that tables show."""
    best = {(points[0].model, points[0].task.name): best_of(points, Group.selecting_scores) for points in sweeps}
    found = []
    for points in sweeps:
        deciding = points[0].decided_by or points[0].task.name
        decided = best[points[0].model, deciding]
        of_variant = [point for point in points if decided and point.variant == decided.variant]
        found.append(of_variant[0] if of_variant else replace(points[0], is_clear=len(points) == 1))
    return found


def best_of(points: list[Group], scores_of: Callable[[Group], list[float | None]]) -> Group | None:
    """Return the variant with the best mean of those with the most scores, the first of equals; None if not clear."""
    if len(points) == 1:
        return points[0]
    scores = [[score for score in scores_of(point) if score is not None] for point in points]
    if not all(point.is_known for point in points) or any(math.isnan(score) for of in scores for score in of):
        return None
    if not any(scores) and not all(point.states for point in points):
        return None
    ranks = [
        (len(of), mean(of) or 0.0, len(point.done), point.failed) for of, point in zip(scores, points, strict=True)
    ]
    return points[ranks.index(max(ranks))]


def count_compared(chosen: Group) -> int:
    """Return how many variants have as many scores as the chosen one."""
    counts = [sum(score is not None for score in point.selecting_scores()) for point in chosen.points]
    return counts.count(sum(score is not None for score in chosen.selecting_scores()))


def is_choice(chosen: Group) -> bool:
    """Tell whether a variant was chosen from several by scores."""
    has_scores = any(score is not None for score in chosen.selecting_scores())
    return len(chosen.points) > 1 and chosen.decided_by is None and has_scores


def optimism(points: list[Group]) -> tuple[Group, Group] | None:
    """Return the variants chosen on the holdout and on validation, where both could be; None where not."""
    if not points[0].has_holdout or not all(point.is_known for point in points):
        return None
    scored = [
        point
        for point in points
        if any(score is not None for score in point.scores())
        and any(score is not None for score in point.holdout_scores())
    ]
    if len(scored) < 2:
        return None
    by_holdout, by_validation = best_of(scored, Group.holdout_scores), best_of(scored, Group.scores)
    return (by_holdout, by_validation) if by_holdout and by_validation else None


def varied(points: Sequence[Group]) -> list[str]:
    """Return the training values in which variants differ; which of them keep their model is no such value."""
    first = points[0].settings
    order = [*first, *(key for point in points for key in point.settings)]
    keys = [key for key in dict.fromkeys(order) if key in SWEPT_KEYS and key != "save_model"]
    return [key for key in keys if any(point.settings.get(key) != first.get(key) for point in points)]
