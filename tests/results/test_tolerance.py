"""The tolerance of a verdict is that of Welch's test; what is not known of the spread is taken from others."""

import math

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gluegrid.experiment.references import Reference, SeedSpread
from gluegrid.results.parity import both_sides, tolerance
from gluegrid.results.summary import Summary, summarised

TABLE = SeedSpread("rte", "accuracy", 2.04, 20, "bert", {"text": "IBM"})
SPREADS = st.floats(0.01, 10)


def reference(statistic="mean", n=None, spread=None, value=70.0) -> Reference:
    return Reference("theirs", "org/m", "rte", "accuracy", value, 2, "validation", statistic, {"text": "t"}, n, spread)


def ours(mean=70.0, sd=None, count=1) -> Summary:
    return Summary(count, mean, sd, mean, mean)


def width(*arguments) -> float:
    return tolerance(both_sides(*arguments))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(SPREADS, st.integers(2, 30), SPREADS, st.integers(2, 200))
def test_at_the_tolerance_welchs_test_is_just_significant(sd, count, spread, n):
    allowed = width(ours(70, sd, count), reference(n=n, spread=spread), TABLE)
    test = stats.ttest_ind_from_stats(70 + allowed, sd, count, 70, spread, n, equal_var=False)
    assert test.pvalue == pytest.approx(0.05, abs=1e-6)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.floats(40, 90), min_size=3, max_size=8, unique=True), st.integers(2, 30), SPREADS)
def test_verdicts_agree_with_welchs_test_on_the_seeds_themselves(values, n, spread):
    mine = summarised(values)
    allowed = width(mine, reference(n=n, spread=spread), None)
    test = stats.ttest_ind_from_stats(mine.mean, mine.sd, len(values), 70, spread, n, equal_var=False)
    if abs(test.pvalue - 0.05) > 1e-6:
        assert (abs(mine.mean - 70) > allowed) == (test.pvalue < 0.05)


def test_two_single_runs_differ_by_as_much_as_the_table_says():
    expected = stats.t.ppf(0.975, 19) * 2.04 * math.sqrt(2)
    assert width(ours(), reference("single run", n=1), TABLE) == pytest.approx(expected)


def test_one_run_among_seeds_lies_in_their_prediction_interval():
    expected = stats.t.ppf(0.975, 4) * 1.5 * math.sqrt(1 + 1 / 5)
    assert width(ours(70, 1.5, 5), reference("single run", n=1), None) == pytest.approx(expected)


def test_a_single_run_of_ours_takes_the_spread_of_a_reference_where_no_table_has_one():
    expected = stats.t.ppf(0.975, 9) * 1.2 * math.sqrt(1 + 1 / 10)
    assert width(ours(), reference(n=10, spread=1.2), None) == pytest.approx(expected)


def test_a_single_run_of_ours_takes_the_tables_spread_before_that_of_a_reference():
    mine, theirs = both_sides(ours(), reference(n=10, spread=1.2), TABLE)
    assert (mine.spread.sd, mine.spread.degrees, theirs.spread.sd, theirs.spread.degrees) == (2.04, 19, 1.2, 9)
    assert mine.spread.origin == "20 runs of bert (IBM)"
    assert theirs.spread.origin == "theirs"


def test_different_spreads_have_satterthwaites_degrees_of_freedom():
    mine, theirs = 1.5**2 / 5, 2.04**2
    degrees = (mine + theirs) ** 2 / (mine**2 / 4 + theirs**2 / 19)
    expected = stats.t.ppf(0.975, degrees) * math.sqrt(mine + theirs)
    assert width(ours(70, 1.5, 5), reference("single run", n=1), TABLE) == pytest.approx(expected)


def test_a_mean_of_runs_without_a_spread_is_surer_than_one_run():
    expected = stats.t.ppf(0.975, 19) * 2.04 * math.sqrt(1 + 1 / 5)
    assert width(ours(), reference("mean", n=5), TABLE) == pytest.approx(expected)


def test_a_median_is_less_sure_than_a_mean():
    expected = stats.t.ppf(0.975, 19) * 2.04 * math.sqrt(1 + math.pi / 2 / 5)
    assert width(ours(), reference("median", n=5), TABLE) == pytest.approx(expected)
    assert width(ours(), reference("median", n=2), TABLE) == width(ours(), reference("mean", n=2), TABLE)


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_of_unknown_runs_is_as_of_one(statistic):
    assert width(ours(), reference(statistic), TABLE) == width(ours(), reference("single run", n=1), TABLE)


def test_a_stated_spread_of_unknown_runs_is_taken_as_exact_and_of_one_run():
    assert width(ours(70, 0.4, 1000), reference(spread=0.5), TABLE) == pytest.approx(1.96 * 0.5, rel=0.001)
    assert width(ours(), reference(spread=0.5), None) == pytest.approx(1.96 * 0.5 * math.sqrt(2), rel=0.001)


def test_without_any_spread_there_is_no_tolerance():
    assert both_sides(ours(), reference("single run", n=1), None) is None


def test_seeds_that_all_agree_say_nothing_of_other_runs():
    assert both_sides(ours(56.34, 0.0, 3), reference("single run", n=1), None) is None
    mine, theirs = both_sides(ours(56.34, 0.0, 3), reference("single run", n=1), TABLE)
    assert (mine.spread.sd, theirs.spread.sd) == (0.0, 2.04)
    assert width(ours(56.34, 0.0, 3), reference("single run", n=1), TABLE) == pytest.approx(
        stats.t.ppf(0.975, 19) * 2.04
    )


@pytest.mark.parametrize("n", [1, 5])
def test_equal_means_are_called_different_as_rarely_as_promised(n):
    """The chance that one of five seeds, or their mean, lies outside the tolerance around three of ours."""
    draws = numpy.random.default_rng(1).normal(70, 1.7, (4000, 3 + n))
    outside = 0
    for draw in draws:
        theirs = float(draw[3:].mean())
        spread = float(draw[3:].std(ddof=1)) if n > 1 else None
        mine = summarised(map(float, draw[:3]))
        outside += abs(mine.mean - theirs) > width(mine, reference("mean", n, spread, theirs), None)
    assert 0.03 < outside / len(draws) < 0.06
