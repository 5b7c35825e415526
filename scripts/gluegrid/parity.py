"""Verdicts: whether results are above, within or below the references, and why some are neither."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from gluegrid.comparability import differences, obstacle
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.references import Reference, reference_model, references_of, seed_spreads
from gluegrid.selection import chosen, sweeps
from gluegrid.summary import Group, Summary, summarised
from gluegrid.tolerance import LEVEL, both_sides, tolerance

ABOVE, WITHIN, BELOW, NOT_COMPARED = "above", "within", "below", "not compared"


@dataclass(frozen=True)
class Verdict:
    """What a reference says of a model on a task. Numbers are in percent; without a comparison there are none of ours.

    `tolerance` has the rounding of the reference in it; `spreads` says where those of both sides come from, ours first.
    """

    group: Group
    reference: Reference
    word: str
    reason: str = ""
    ours: Summary | None = None
    tolerance: float | None = None
    spreads: tuple[str, ...] = ()

    def record(self) -> dict:
        """Return the verdict as parity.json has it."""
        return {
            "model": self.group.model,
            "task": self.group.task.name,
            "display_name": self.group.display_name,
            "variant": self.group.variant,
            "best_of_variants": len(self.group.chosen_from) or 1,
            "metric": self.reference.metric,
            "verdict": self.word,
            "reason": self.reason,
            "ours": asdict(self.ours) if self.ours else None,
            "reference": {key: value for key, value in asdict(self.reference).items() if key != "note"},
            "difference": self.ours.mean - self.reference.value if self.ours else None,
            "tolerance": self.tolerance,
            "spreads": list(self.spreads),
        }


def parity_content(experiment: Experiment, groups: Iterable[Group]) -> dict:
    """Return the content of parity.json: the verdicts on all groups, of which several may be variants of one cell."""
    found = verdicts(experiment, groups)
    notes = {each.reference.label: each.reference.note for each in found if each.reference.note}
    records = [verdict.record() for verdict in found]
    return {"experiment": experiment.name, "level": LEVEL, "verdicts": records, "notes": notes}


def with_verdict(content: dict) -> list[dict]:
    """Return the records that are above, within or below."""
    return [record for record in content["verdicts"] if record["verdict"] != NOT_COMPARED]


def verdicts(experiment: Experiment, groups: Iterable[Group]) -> list[Verdict]:
    """Return a verdict for each reference of each model on each task, in the order of the experiment."""
    references = references_of(experiment.config)
    return [
        _verdict(points, reference)
        for points in sweeps(groups)
        for reference in references
        if _is_of(reference, experiment, points[0])
    ]


def _is_of(reference: Reference, experiment: Experiment, group: Group) -> bool:
    model = reference_model(experiment.models[group.model])
    return (reference.model, reference.task) == (model, group.task.name)


def _verdict(points: list[Group], reference: Reference) -> Verdict:
    """Return the verdict on the variant that is as the reference is; on the chosen one where several or none are."""
    reason = obstacle(reference)
    alike = [] if reason else [group for group in points if not differences(group, reference)]
    group = chosen(alike or points)[0]
    reason = reason or _differences_of(group, reference, alike) or _why_without_number(group, reference)
    return Verdict(group, reference, NOT_COMPARED, reason) if reason else _compared(group, reference)


def _differences_of(group: Group, reference: Reference, alike: list[Group]) -> str:
    return "" if alike else "; ".join(differences(group, reference))


def _why_without_number(group: Group, reference: Reference) -> str:
    if f"eval_{reference.metric}" not in group.task.metric_keys():
        return f"{reference.metric} is not scored here"
    if not group.done:
        return "ours failed" if group.failed else "ours was not run yet"
    return "ours is undefined" if group.mean(f"eval_{reference.metric}") is None else ""


def _compared(group: Group, reference: Reference) -> Verdict:
    ours = summarised(100 * outcome.results[f"eval_{reference.metric}"] for outcome in group.done)
    sides = both_sides(ours, reference, seed_spreads().get((reference.task, reference.metric)))
    if sides is None:
        return Verdict(group, reference, NOT_COMPARED, "nothing says how much seeds vary; two seeds or more would")
    allowed = tolerance(sides) + reference.rounding
    difference = ours.mean - reference.value
    word = WITHIN if abs(difference) <= allowed else ABOVE if difference > 0 else BELOW
    spreads = tuple(side.spread.origin for side in sides)
    return Verdict(group, reference, word, ours=ours, tolerance=allowed, spreads=spreads)
