"""Many comparisons at once: p-values that keep the chance of any false one small. Holm (1979), Scand. J. Statist. 6."""

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number, in the same order.

    Those of at most 0.05 hold a false one with probability 0.05 at most, whatever depends on what.
    """
    adjusted = [0.0] * len(p_values)
    greatest = 0.0
    for place, number in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        greatest = max(greatest, min(1.0, (len(p_values) - place) * p_values[number]))
        adjusted[number] = greatest
    return adjusted
