"""What table cells of results.md must say, in parts, and how numbers are written there, with rounding of its own."""

import json
import math
import re
from collections.abc import Iterable

from gluegrid.common import escaping
from gluegrid.verification.over_seeds import Value, over_seeds

TIE = 1e-9  # sums in another order may round a tie the other way
LONGEST_TEXT = 60  # characters of a name or a training value

# The parts of a text, each with all strings that are right for it. An empty set means unknown: anything is right.
Expected = list[set[str]]
ANYTHING: Expected = [set()]
NOTHING: Expected = [{"-"}]
PREDICTED: Expected = [{"predicted"}]


def matches(shown: str, expected: Expected) -> bool:
    """Tell whether a text is as expected."""
    pattern = "".join(f"(?:{'|'.join(map(re.escape, texts))})" if texts else ".*" for texts in expected)
    return re.fullmatch(pattern, shown) is not None


def in_words(expected: Expected) -> str:
    """Return an expected text in a form for people."""
    return "".join(" or ".join(sorted(texts)) if texts else "..." for texts in expected)


def exactly(text: str) -> Expected:
    """Return an expected text without unknown parts; an empty text has no parts."""
    return [{text}] if text else []


def joined(separator: str, parts: Iterable[Expected]) -> Expected:
    """Return the parts that are not empty, with a separator between them."""
    text: Expected = []
    for part in filter(None, parts):
        # A part that may be anything may be empty, and then has no separator.
        is_separated = text and text[-1] and part[0]
        text += [{separator}, *part] if is_separated else part
    return text


def shortened(text: str) -> str:
    """Return a name or a training value as tables show it."""
    return escaping.one_line(escaping.shortened(text, LONGEST_TEXT))


def value_text(value: object) -> str:
    """Return a training value of any type as tables show it."""
    return shortened(value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False))


def spread_text(metrics: Iterable[list[Value]]) -> Expected:
    """Return means of metrics over seeds and, if any is known, standard deviations: 85.78/90.00 ± 0.41/0.35."""
    numbers = list(map(over_seeds, metrics))
    if any(each["mean"] is not None and math.isnan(each["mean"]) for each in numbers):
        return ANYTHING
    means, deviations = ([percentage(each[key]) for each in numbers] for key in ("mean", "sd"))
    has_spread = any(each["sd"] is not None for each in numbers)
    return joined("/", means) + ([{" ± "}, *joined("/", deviations)] if has_spread else [])


def percentage(value: Value) -> Expected:
    """Return a metric times 100 with two decimals."""
    return [{"undefined"}] if value is None else two_decimals(value * 100)


def seconds(value: Value) -> Expected:
    """Return a time with two decimals."""
    return NOTHING if value is None else two_decimals(value)


def epochs(value: Value) -> Expected:
    """Return a number without needless decimals."""
    return NOTHING if value is None else ANYTHING if math.isnan(value) else [{f"{value:g}"}]


def two_decimals(value: float) -> Expected:
    """Return a number with two decimals; accept both roundings of a tie."""
    return ANYTHING if math.isnan(value) else [{f"{value + nudge:.2f}" for nudge in (-TIE, 0, TIE)}]
