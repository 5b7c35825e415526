"""Numbers as people read them. The only place where numbers are rounded."""

UNDEFINED = "undefined"
NOTHING = "-"


def percent(value: float | None) -> str:
    """Return a metric times 100 with two decimals."""
    return UNDEFINED if value is None else f"{value * 100:.2f}"


def points(value: float) -> str:
    """Return a number that is in percent already, with two decimals."""
    return f"{value:.2f}"


def signed_points(value: float) -> str:
    """Return a difference that is in percent already, with its sign and two decimals; nothing is +0.00."""
    return f"{round(value, 2) + 0.0:+.2f}"


def signed_percent(value: float) -> str:
    """Return a difference of metrics times 100 with two decimals and its sign."""
    return signed_points(value * 100)


def probability(value: float) -> str:
    """Return a probability with three decimals, and never 0 or 1, of which a finite number of draws is no proof."""
    if value < 0.0005:
        return "<0.001"
    return f"{value:.3f}" if value < 0.9995 else ">0.999"


def seconds(value: float | None) -> str:
    """Return seconds with two decimals."""
    return NOTHING if value is None else f"{value:.2f}"


def number(value: float | None) -> str:
    """Return a number of epochs without needless decimals."""
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
