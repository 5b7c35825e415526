"""How far two means over seeds may be apart by chance: the tolerance of a verdict (docs/references.md)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from gluegrid.experiment.references import MEDIAN, Reference, SeedSpread
from gluegrid.summary import Summary

LEVEL = 0.95  # two-sided
# The variance of the median of normal values over that of their mean, for many of them; it is less for few.
VARIANCE_OF_MEDIAN = math.pi / 2
OURS = "our seeds"


@dataclass(frozen=True)
class Spread:
    """A sample standard deviation over seeds, in percent: of how many degrees of freedom, and where it comes from."""

    sd: float
    degrees: float
    origin: str


@dataclass(frozen=True)
class Uncertain:
    """A mean over seeds: the spread of its seeds, and its variance as a part of theirs (1 / n; more for a median)."""

    spread: Spread
    share: float


def both_sides(ours: Summary, reference: Reference, table: SeedSpread | None) -> tuple[Uncertain, Uncertain] | None:
    """Return how uncertain a result, in percent, and a reference are; None where nothing says how much seeds vary.

    A side that has no spread of its own takes that of the table, or else that of the other side.
    """
    own, their = _spread_of_ours(ours), _spread_of(reference)
    measured = _spread_in(table) if table else None
    if own is None and their is None and measured is None:
        return None
    if their is None and measured is None and own.sd == 0:
        return None  # seeds that all agree, as where one answer is always given, say nothing about other runs
    mine, theirs = own or measured or their, their or measured or own
    return Uncertain(mine, 1 / ours.count), Uncertain(theirs, _share(reference))


def tolerance(sides: Iterable[Uncertain]) -> float:
    """Return how far means may be apart: the half width of the interval that holds LEVEL of the chance differences.

    Welch's test, with the degrees of freedom of Satterthwaite; sides that take one spread share its error.
    """
    from scipy import special  # 0.2 s that only those pay who have a reference

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


def _spread_of_ours(ours: Summary) -> Spread | None:
    return None if ours.sd is None else Spread(ours.sd, ours.count - 1, OURS)


def _spread_of(reference: Reference) -> Spread | None:
    if reference.spread is None:
        return None
    # Of runs that are not counted: taken as exact, and the number itself as that of one run.
    degrees = reference.n - 1 if reference.n else math.inf
    return Spread(reference.spread, degrees, reference.label)


def _spread_in(table: SeedSpread) -> Spread:
    return Spread(table.sd, table.n - 1, f"{table.n} runs of {table.model} ({table.source['text']})")


def _share(reference: Reference) -> float:
    runs = reference.n or 1
    return VARIANCE_OF_MEDIAN / runs if reference.statistic == MEDIAN and runs > 2 else 1 / runs
