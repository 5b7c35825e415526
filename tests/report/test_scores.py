import math

import numpy
import pytest
from scipy import stats

from gluegrid.report.scores import interval
from gluegrid.results.summary import summarised


def test_the_interval_is_students():
    # The quantile of 2 degrees of freedom, from the tables in print.
    low, high = interval(summarised([0.1, 0.2, 0.3]))
    assert high - low == pytest.approx(2 * 4.30265 * 0.1 / math.sqrt(3), rel=1e-5)
    assert (low + high) / 2 == pytest.approx(0.2)


def test_of_many_samples_the_interval_holds_the_mean_in_95_of_100():
    draws = numpy.random.default_rng(1).normal(0.8, 0.02, (2000, 4)).tolist()
    hits = sum(low <= 0.8 <= high for low, high in (interval(summarised(draw)) for draw in draws))
    assert stats.binomtest(hits, 2000, 0.95).pvalue > 0.001


@pytest.mark.parametrize("values", [[], [0.5], [0.5, None]])
def test_where_no_spread_is_known_there_is_no_interval(values):
    assert interval(summarised(values)) is None
