"""What tables must say about one model on one task: its number, or why there is none."""

from gluegrid.verification import expected_texts as texts
from gluegrid.verification.expected_groups import Group, defined
from gluegrid.verification.expected_texts import Expected


def result(group: Group) -> Expected:
    """Return the metrics of a group and their spread over seeds, or the text in their place."""
    if not group.is_known:
        return texts.ANYTHING
    return metrics(group) if group.done else without_result(group)


def metrics(group: Group) -> Expected:
    """Return the metrics of a group, and their standard deviations if there are any."""
    keys = group.task.metric_keys()
    return texts.spread_text(map(group.values, keys)) if keys else texts.PREDICTED


def without_result(group: Group) -> Expected:
    """Return the text in place of the number of a group in which no run has a result."""
    if not group.runs:
        return texts.NOTHING
    if not group.states:
        return [{"failed", "stopped", "not run"}]
    return [{"failed" if group.failed else "stopped" if group.stopped else "not run"}]


def data_mark(point: Group) -> Expected:
    """Return the mark of a number of a sweep's point: an asterisk if its data differ from the official files."""
    differs = point.has_other_data()
    return [{"*"}] if differs else [{"*", ""}] if differs is None else []


def seeds_of_point(group: Group) -> Expected:
    """Return how many seeds of a point have a result, what happened to others, and the score without degenerates."""
    counts = _counts(group, [f"{len(group.done)} of {len(group.runs)}"])
    without = without_degenerate(group, texts.spread_text([group.without_degenerate().scores()]))
    return texts.joined("; ", [counts, without]) if group.is_known else texts.ANYTHING


def share_of_points(chosen: Group) -> str:
    """Return how many of all variants have as many scores as the chosen one; only their number if all have."""
    counts = [len(defined(point.selecting_scores())) for point in chosen.points]
    same, every = counts.count(len(defined(chosen.selecting_scores()))), len(chosen.points)
    return str(every) if same == every else f"{same} of {every}"


def _counts(group: Group, seeds: list[str]) -> Expected:
    """Return how many seeds have a result, have failed, and are degenerate."""
    if not group.states:
        return texts.ANYTHING
    degenerate = len(group.degenerate)
    troubles = [f"{group.failed} failed"] if group.failed else []
    troubles += [f"{group.stopped} stopped"] if group.stopped else []
    if degenerate:
        troubles.append("degenerate" if len(group.runs) == 1 else f"{degenerate} degenerate")
    return [{", ".join(seeds + troubles)}] if seeds or troubles else []


def without_degenerate(group: Group, numbers: Expected) -> Expected:
    """Return the number of a group without its degenerate runs, if others are left."""
    degenerate = len(group.degenerate)
    if not 0 < degenerate < len(group.done):
        return []
    return [{"without it " if degenerate == 1 else "without them "}, *numbers]
