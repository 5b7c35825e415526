"""Numbers over seeds by their definitions, in plain Python: the check on summary.py, with which it shares nothing."""

import math
from collections.abc import Iterable
from fractions import Fraction

UNKNOWN = math.nan  # its predictions cannot be read, which was reported; None is an undefined metric

Value = float | None


def over_seeds(values: list[Value]) -> dict[str, Value]:
    """Return mean, sd, median and best of a value over seeds: UNKNOWN where one is, None where undefined."""
    return {"mean": mean(values), "sd": deviation(values), "median": median(values), "best": best(values)}


def mean(values: Iterable[Value]) -> Value:
    """Return the mean; UNKNOWN where any value is, else None where any is undefined, or for no values."""
    values = list(values)
    if any(value is not None and math.isnan(value) for value in values):
        return UNKNOWN
    if not values or None in values:
        return None
    # Exact until it is divided, so that equal means of variants are equal here too.
    return float(sum(map(Fraction, values)) / len(values))


def deviation(values: Iterable[Value]) -> Value:
    """Return the sample standard deviation, of n - 1 degrees of freedom; None for fewer than two values."""
    values = list(values)
    middle = mean(values)
    if middle is None or math.isnan(middle):
        return middle
    return math.sqrt(math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1)) if values[1:] else None


def median(values: Iterable[Value]) -> Value:
    """Return the middle value, of an even number the mean of the two in the middle."""
    values = list(values)
    unclear = mean(values)
    if unclear is None or math.isnan(unclear):
        return unclear
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2


def best(values: Iterable[Value]) -> Value:
    """Return the largest of the values that are defined."""
    values = [value for value in values if value is not None]
    if any(map(math.isnan, values)):
        return UNKNOWN
    return sorted(values)[-1] if values else None
