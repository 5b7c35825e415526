"""Verdicts: whether results are above, within or below the references, or why they are not compared."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from gluegrid.experiment import references
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.references import MEDIAN, SINGLE_RUN, VALIDATION, Reference, SeedSpread, references_of
from gluegrid.experiment.run import examples_per_update
from gluegrid.results.notes import precisions_of
from gluegrid.results.selection import chosen, sweeps, uses_holdout
from gluegrid.results.summary import Group, Summary, summarised

STATISTICS = ("mean", MEDIAN, SINGLE_RUN)
LEVEL = 0.95  # two-sided
# The variance of the median of many normal values, divided by that of their mean; it is smaller for few values.
VARIANCE_OF_MEDIAN = math.pi / 2
OURS = "our seeds"
ABOVE, WITHIN, BELOW, NOT_COMPARED = "above", "within", "below", "not compared"


@dataclass(frozen=True)
class Spread:
    """A sample standard deviation over seeds, in percent, with its degrees of freedom and its origin."""

    sd: float
    degrees: float
    origin: str


@dataclass(frozen=True)
class Uncertain:
    """The uncertainty of a mean over seeds: the spread of the seeds, and the share of their variance that it has.

    The share is 1 / n, or more for a median.
    """

    spread: Spread
    share: float


@dataclass(frozen=True)
class Verdict:
    """The comparison of a model on a task with a reference, in percent; `ours` is None if they are not compared.

    `tolerance` includes the rounding of the reference. `spreads` has the origins of both sides' spreads, ours first.
    """

    group: Group
    reference: Reference
    word: str
    reason: str = ""
    ours: Summary | None = None
    tolerance: float | None = None
    spreads: tuple[str, ...] = ()

    def record(self) -> dict:
        """Return the verdict as an entry of parity.json."""
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
            "precision": precisions_of(self.group.done) or None,
            "reference": {key: value for key, value in asdict(self.reference).items() if key != "note"},
            "difference": self.ours.mean - self.reference.value if self.ours else None,
            "tolerance": self.tolerance,
            "spreads": list(self.spreads),
        }


def parity_content(experiment: Experiment, groups: Iterable[Group]) -> dict:
    """Return the content of parity.json: the verdicts on all groups, which may be variants of one model and task."""
    every = verdicts(experiment, groups)
    notes = {each.reference.label: each.reference.note for each in every if each.reference.note}
    records = [verdict.record() for verdict in every]
    return {"experiment": experiment.name, "level": LEVEL, "verdicts": records, "notes": notes}


def with_verdict(content: dict) -> list[dict]:
    """Return the records whose verdict is above, within or below."""
    return [record for record in content["verdicts"] if record["verdict"] != NOT_COMPARED]


def verdicts(experiment: Experiment, groups: Iterable[Group]) -> list[Verdict]:
    """Return a verdict for each reference of each model on each task, in the order of the experiment."""
    every = references_of(experiment.config)
    ids = {name: references.reference_model(entry) for name, entry in experiment.models.items()}
    return [
        _verdict(points, reference)
        for points in sweeps(groups)
        for reference in every
        if (reference.model, reference.task) == (ids[points[0].model], points[0].task.name)
    ]


def _verdict(points: list[Group], reference: Reference) -> Verdict:
    """Return the verdict on the variant that matches the reference, or on the chosen one if several or none do."""
    reason = obstacle(reference)
    alike = [] if reason else [group for group in points if not differences(group, reference)]
    group = chosen(alike or points)[0]
    if not reason:
        reason = _why_without_number(group, reference) if alike else "; ".join(differences(group, reference))
    return Verdict(group, reference, NOT_COMPARED, reason) if reason else _compared(group, reference)


def _why_without_number(group: Group, reference: Reference) -> str:
    if f"eval_{reference.metric}" not in group.task.metric_keys():
        return f"{reference.metric} is not scored here"
    if not group.done:
        return "ours failed" if group.failed else f"ours was {'stopped' if group.stopped else 'not run yet'}"
    return "ours is undefined" if group.mean(f"eval_{reference.metric}") is None else ""


def _compared(group: Group, reference: Reference) -> Verdict:
    ours = summarised(100 * outcome.results[f"eval_{reference.metric}"] for outcome in group.done)
    sides = both_sides(ours, reference, references.seed_spreads().get((reference.task, reference.metric)))
    if sides is None:
        return Verdict(group, reference, NOT_COMPARED, "nothing says how much seeds vary; two seeds or more would")
    allowed = tolerance(sides) + reference.rounding
    difference = ours.mean - reference.value
    word = WITHIN if abs(difference) <= allowed else ABOVE if difference > 0 else BELOW
    spreads = tuple(side.spread.origin for side in sides)
    return Verdict(group, reference, word, ours=ours, tolerance=allowed, spreads=spreads)


def obstacle(reference: Reference) -> str:
    """Return why no result can be compared with a reference, or an empty text if one can."""
    if reference.split != VALIDATION:
        return f"the reference is of the {reference.split} split"
    if reference.statistic == "best":
        return "the reference is the best of its runs, not their mean"
    if reference.statistic not in STATISTICS:
        return "the reference does not say which statistic over its runs it is"
    return "" if reference.training else "the reference does not say how it was trained"


def differences(group: Group, reference: Reference) -> list[str]:
    """Return how a group's cells differ from a reference: in their data, and in the training values that it states."""
    theirs = [f"from {reference.training['init_from']}"] if "init_from" in reference.training else []
    return [
        *_other_data(group),
        *(f"ours: {option}" for option in group.options if option not in theirs),
        *(f"theirs: {option}" for option in theirs if option not in group.options),
        *_other_values(group, reference.training),
    ]


def _other_data(group: Group) -> Iterator[str]:
    values = group.values
    subsets = [key for key in ("max_train_samples", "max_eval_samples") if values[key] is not None]
    if group.data:
        yield f"ours: {group.data}"
    elif subsets:
        yield f"ours: a subset ({', '.join(f'{key} {values[key]}' for key in subsets)})"
    if uses_holdout(group):
        yield "ours: a part of train is held out"


def _other_values(group: Group, training: dict) -> Iterator[str]:
    ours = group.values | {"train_batch_size": examples_per_update(group.values)}
    for key, theirs in training.items():
        if key != "init_from" and ours[key] != theirs:
            yield f"{key} {_text(ours[key])}, theirs {_text(theirs)}"


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def both_sides(ours: Summary, reference: Reference, table: SeedSpread | None) -> tuple[Uncertain, Uncertain] | None:
    """Return the uncertainty of a result, in percent, and of a reference, or None if no spread over seeds is known.

    A side that has no spread of its own takes that of the table, or else that of the other side.
    """
    own = None if ours.sd is None else Spread(ours.sd, ours.count - 1, OURS)
    # If the reference does not count its runs, take its spread as exact and its value as that of one run.
    degrees, runs = (reference.n - 1, reference.n) if reference.n else (math.inf, 1)
    their = None if reference.spread is None else Spread(reference.spread, degrees, reference.label)
    origin = f"{table.n} runs of {table.model} ({table.source['text']})" if table else ""
    measured = Spread(table.sd, table.n - 1, origin) if table else None
    if own is None and their is None and measured is None:
        return None
    if their is None and measured is None and own.sd == 0:
        return None  # seeds that all agree, as with a constant prediction, say nothing about other runs
    mine, theirs = own or measured or their, their or measured or own
    share = VARIANCE_OF_MEDIAN / runs if reference.statistic == MEDIAN and runs > 2 else 1 / runs
    return Uncertain(mine, 1 / ours.count), Uncertain(theirs, share)


def tolerance(sides: Iterable[Uncertain]) -> float:
    """Return how far means may be apart: the half-width of the interval that holds LEVEL of the chance differences.

    This is Welch's test with Satterthwaite's degrees of freedom; sides that take the same spread share its error.
    """
    from scipy import special  # takes 0.2 s, so import it only if there is a reference

    shares: dict[Spread, float] = {}
    for side in sides:
        shares[side.spread] = shares.get(side.spread, 0) + side.share
    variances = {spread: spread.sd**2 * share for spread, share in shares.items()}
    variance = sum(variances.values())
    if variance == 0:
        return 0.0
    inverse_degrees = sum((part / variance) ** 2 / spread.degrees for spread, part in variances.items())
    degrees = 1 / inverse_degrees if inverse_degrees else math.inf
    return float(special.stdtrit(degrees, (1 + LEVEL) / 2)) * math.sqrt(variance)
