"""Compute statistics over seeds by their definitions, in plain Python."""

import math
from collections.abc import Iterable
from fractions import Fraction

UNKNOWN = math.nan  # the predictions cannot be read, which has been reported; None is undefined

Value = float | None


def over_seeds(values: Iterable[Value]) -> dict[str, Value]:
    """Return mean, sample standard deviation (n - 1), median and best of a value over seeds.

    All are UNKNOWN if one value is. If some values are undefined, only the best is defined. A single value has no
    standard deviation.
    """
    values = list(values)
    known = sorted(value for value in values if value is not None)
    count = len(known)
    if any(map(math.isnan, known)):
        return dict.fromkeys(("mean", "sd", "median", "best"), UNKNOWN)
    if count < max(1, len(values)):
        return {"mean": None, "sd": None, "median": None, "best": known[-1] if known else None}
    # Sum exactly before dividing, so that equal means of variants are equal here too.
    middle = float(sum(map(Fraction, known)) / count)
    squares = math.fsum((value - middle) ** 2 for value in known)
    return {
        "mean": middle,
        "sd": math.sqrt(squares / (count - 1)) if count > 1 else None,
        "median": (known[(count - 1) // 2] + known[count // 2]) / 2,
        "best": known[-1],
    }


def mean(values: Iterable[Value]) -> Value:
    """Return the mean: UNKNOWN if any value is, otherwise None if any is undefined or there are no values."""
    return over_seeds(values)["mean"]
