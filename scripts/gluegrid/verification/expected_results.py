"""What tables must say of one model on one task: its number, and what limits it."""

from gluegrid.verification import expected_texts as texts
from gluegrid.verification.expected_groups import Group, defined, varied
from gluegrid.verification.expected_texts import Expected


def result(group: Group) -> Expected:
    """Return the metrics of a group, their spread over seeds, and in parentheses what limits them."""
    if not group.is_known:
        return texts.ANYTHING
    if not group.done:
        return without_result(group) + _failures(group)
    single = len(group.runs) == 1
    counts = _counts(group, [] if single else [f"{len(group.done)} of {len(group.runs)} seeds"])
    without = _without_degenerate(group, metrics(group.without_degenerate()))
    named = [[{text}] for text in (*_options(group), *_point(group))]
    data = texts.ANYTHING if group.data() is None else texts.exactly(group.data())
    limits = texts.joined("; ", [counts, without, *named, data])
    if limits in ([], texts.ANYTHING):
        return metrics(group) + limits
    return [*metrics(group), {" ("}, *limits, {")"}]


def metrics(group: Group) -> Expected:
    """Return the metrics of a group, and their standard deviations where there are any."""
    keys = group.task.metric_keys()
    return texts.spread_text(map(group.values, keys)) if keys else texts.PREDICTED


def without_result(group: Group) -> Expected:
    """Return what stands for the number of a group in which no run has a result."""
    if not group.runs:
        return texts.NOTHING
    if not group.states:
        return [{"failed", "stopped", "not run"}]
    return [{"failed" if group.failed else "stopped" if group.stopped else "not run"}]


def data_mark(groups: list[Group]) -> Expected:
    """Return what stands behind a number of these groups: an asterisk where the data of any are not the official."""
    data = [group.data() for group in groups]
    return [{"*"}] if any(data) else [{"*", ""}] if None in data else []


def seeds_of_point(group: Group) -> Expected:
    """Return how many seeds of a point have a result, what became of others, and the score of the sound ones."""
    counts = _counts(group, [f"{len(group.done)} of {len(group.runs)}"])
    without = _without_degenerate(group, texts.spread_text([group.without_degenerate().scores()]))
    return texts.joined("; ", [counts, without]) if group.is_known else texts.ANYTHING


def share_of_points(chosen: Group) -> str:
    """Return how many variants have as many scores as the chosen one, of how many; their number where all have."""
    counts = [len(defined(point.selecting_scores())) for point in chosen.points]
    same, every = counts.count(len(defined(chosen.selecting_scores()))), len(chosen.points)
    return str(every) if same == every else f"{same} of {every}"


def _failures(group: Group) -> Expected:
    if group.runs and not group.states:
        return texts.ANYTHING
    alike = group.failed or group.stopped
    return [{f" ({alike} of {len(group.runs)} seeds)"}] if alike and len(group.runs) > 1 else []


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


def _without_degenerate(group: Group, numbers: Expected) -> Expected:
    degenerate = len(group.degenerate)
    if not 0 < degenerate < len(group.done):
        return []
    return [{"without it " if degenerate == 1 else "without them "}, *numbers]


def _options(group: Group) -> list[str]:
    """Return the ways to train that make another number of it."""
    run = group.runs[0].cell.run
    strategy, start = run.get("train_sampling_strategy", "random"), run.get("init_from")
    named = {
        strategy: strategy != "random",
        "lora": run.get("lora"),
        f"from {start and start['task']}": start,
        "not trained here": run.get("do_train") is False,
    }
    return [name for name, is_used in named.items() if is_used]


def _point(group: Group) -> list[str]:
    """Return what is said of a variant and of those that it was chosen from."""
    if len(group.points) == 1:
        return []
    if group.is_choice:
        values = ", ".join(f"{key} {texts.value_text(group.settings.get(key))}" for key in varied(group.points))
        return [*filter(None, [values]), f"best of {share_of_points(group)} points"]
    return [f"variant {group.variant}" + (f", chosen on {group.decided_by}" if group.decided_by else "")]
