"""Intervals of a mean over seeds."""

import math

from scipy import stats

from gluegrid.results.summary import Summary

CONFIDENCE = 0.95


def interval(summary: Summary) -> tuple[float, float] | None:
    """Return the 95% interval of a mean by Student's t, in the summary's unit; None where no spread is known."""
    if summary.mean is None or summary.sd is None:
        return None
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, summary.count - 1))
    half = quantile * summary.sd / math.sqrt(summary.count)
    return summary.mean - half, summary.mean + half
