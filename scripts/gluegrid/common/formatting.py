"""Format numbers and times for people, and compare numbers. The only place where numbers are rounded."""

import datetime
import sys
from collections.abc import Sequence

UNDEFINED = "undefined"
NOTHING = "-"
# Metrics are recomputed from the same values, so only the order of summation may differ.
TOLERANCE = 1e-9


def percent(value: float | None) -> str:
    """Return a metric times 100 with two decimals."""
    return UNDEFINED if value is None else f"{value * 100:.2f}"


def points(value: float) -> str:
    """Return a number that is already in percent, with two decimals."""
    return f"{value:.2f}"


def signed_points(value: float) -> str:
    """Return a difference that is already in percent, with its sign and two decimals; never -0.00."""
    return f"{round(value, 2) + 0.0:+.2f}"


def signed_percent(value: float) -> str:
    """Return a difference of metrics times 100 with two decimals and its sign."""
    return signed_points(value * 100)


def probability(value: float) -> str:
    """Return a probability with three decimals, but never 0 or 1, which finitely many resamples cannot show."""
    if value < 0.0005:
        return "<0.001"
    return f"{value:.3f}" if value < 0.9995 else ">0.999"


def seconds(value: float | None) -> str:
    """Return seconds with two decimals."""
    return NOTHING if value is None else f"{value:.2f}"


def number(value: float | None) -> str:
    """Return a number of epochs without trailing zeros."""
    return NOTHING if value is None else f"{value:g}"


def grouped(value: float | None, decimals: int = 0) -> str:
    """Return a large number with commas between thousands."""
    return NOTHING if value is None else f"{value:,.{decimals}f}"


def percents(means: list[float | None], spreads: list[float | None]) -> str:
    """Return metrics and, where any is known, their standard deviations, such as 85.78/90.00 ± 0.41/0.35."""
    text = "/".join(map(percent, means))
    if all(spread is None for spread in spreads):
        return text
    return f"{text} ± {'/'.join(map(percent, spreads))}"


def counted(count: int, thing: str) -> str:
    """Return a count with its noun, such as 1 cell, 12 cells, 2 processes."""
    plural = "es" if thing.endswith("s") else "s"
    return f"{count:,} {thing}{'' if count == 1 else plural}"


def first_of(names: Sequence[str]) -> str:
    """Return the first name and how many more there are, such as a/cola and 5 more."""
    return names[0] + (f" and {len(names) - 1:,} more" if len(names) > 1 else "")


def duration(seconds: float) -> str:
    """Return a readable duration, such as 40 s, 12 min, 1 h 05 min, 2 d 03 h."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{hours // 24} d {hours % 24:02} h"


def clock(moment: str) -> str:
    """Return a moment, given in ISO 8601, in local time: today only the time, otherwise with the day."""
    at = datetime.datetime.fromisoformat(moment).astimezone()
    is_today = at.date() == datetime.datetime.now().date()
    is_soon = abs(at - datetime.datetime.now().astimezone()) < datetime.timedelta(days=6)
    return f"{at:%H:%M}" if is_today else f"{at:%a %H:%M}" if is_soon else f"{at:%Y-%m-%d %H:%M}"


def agree(value: object, expected: object) -> bool:
    """Tell whether two values are equal; numbers may differ by the rounding of sums."""
    if is_number(value) and is_number(expected):
        return abs(value - expected) <= TOLERANCE * max(1.0, abs(expected))
    return type(value) is type(expected) and value == expected


def is_number(value: object) -> bool:
    """Tell whether a value of a JSON file is a finite number."""
    # Not math.isfinite, which raises for integers beyond the range of float.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
