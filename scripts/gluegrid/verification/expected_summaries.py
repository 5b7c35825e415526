"""What results.json must say of each variant over seeds, and of the optimism of choosing on validation."""

from gluegrid.verification.expected_choice import optimism, varied
from gluegrid.verification.expected_groups import Group
from gluegrid.verification.recomputed_statistics import mean, over_seeds


def summary(group: Group, chosen: Group) -> dict:
    """Return the entry of a group, NaN where a value is not known. `chosen` is the variant that tables show."""
    others = group.without_degenerate()
    has_both = bool(group.degenerate and others.done)
    return {
        "model": group.model,
        "task": group.task.name,
        "variant": group.variant,
        "values": {key: group.settings.get(key) for key in varied(group.points)},
        "of": len(group.runs),
        "n": len(group.done),
        "failed": group.failed,
        "degenerate": len(group.degenerate),
        "chosen": group.variant == chosen.variant,
        "all": _numbers(group),
        "without_degenerate": _numbers(others) if has_both else None,
    }


def optimism_entry(points: list[Group]) -> dict | None:
    """Return the entry of a sweep; None where its optimism is not measured."""
    found = optimism(points)
    if found is None:
        return None
    scores = [mean(group.scores()) for group in found]
    ways = [{"variant": group.variant, "score": score} for group, score in zip(found, scores, strict=True)]
    return {
        "model": points[0].model,
        "task": points[0].task.name,
        "by_holdout": ways[0],
        "by_validation": ways[1],
        "difference": scores[1] - scores[0],
    }


def _numbers(group: Group) -> dict[str, dict]:
    values = {key: group.values(key) for key in group.task.metric_keys()}
    if values:
        values["score"] = group.scores()
    if group.has_holdout:
        values["score_holdout"] = group.holdout_scores()
    return {key: {"count": len(of_key), **over_seeds(of_key)} for key, of_key in values.items()}
