"""Numbers over seeds, by their definitions and in plain Python."""

import math
from collections.abc import Iterable
from fractions import Fraction

UNKNOWN = math.nan  # its predictions cannot be read, which was reported; None is an undefined metric

Value = float | None


def over_seeds(values: Iterable[Value]) -> dict[str, Value]:
    """Return mean, sample standard deviation (n - 1), median and best of a value over seeds.

    All are UNKNOWN where one value is. Of values of which some are undefined only the best is defined, and a single
    value has no deviation.
    """
    values = list(values)
    known = sorted(value for value in values if value is not None)
    count = len(known)
    if any(map(math.isnan, known)):
        return dict.fromkeys(("mean", "sd", "median", "best"), UNKNOWN)
    if count < max(1, len(values)):
        return {"mean": None, "sd": None, "median": None, "best": known[-1] if known else None}
    # Exact until it is divided, so that equal means of variants are equal here too.
    middle = float(sum(map(Fraction, known)) / count)
    squares = math.fsum((value - middle) ** 2 for value in known)
    return {
        "mean": middle,
        "sd": math.sqrt(squares / (count - 1)) if count > 1 else None,
        "median": (known[(count - 1) // 2] + known[count // 2]) / 2,
        "best": known[-1],
    }


def mean(values: Iterable[Value]) -> Value:
    """Return the mean; UNKNOWN where any value is, else None where any is undefined, or for no values."""
    return over_seeds(values)["mean"]
