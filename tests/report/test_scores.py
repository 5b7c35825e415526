import math
from dataclasses import asdict

import numpy
import pytest
from groups import point
from scipy import stats

from gluegrid.analysis.bootstrap import Difference
from gluegrid.analysis.comparisons import Comparison
from gluegrid.report.scores import bounds_of, interval, score_table
from gluegrid.report.significance import SavedComparisons, best_models
from gluegrid.results.summary import summarised

ANY = (-math.inf, math.inf)


def test_the_interval_is_students():
    # The quantile of 2 degrees of freedom, from the tables in print.
    low, high = interval([summarised([0.1, 0.2, 0.3])], ANY)
    assert high - low == pytest.approx(2 * 4.30265 * 0.1 / math.sqrt(3), rel=1e-5)
    assert (low + high) / 2 == pytest.approx(0.2)


@pytest.mark.parametrize("spreads", [(0.02,), (0.01, 0.05, 0.002)])
def test_of_many_samples_the_interval_holds_the_mean_in_95_of_100(spreads):
    chance = numpy.random.default_rng(1)
    draws = [[summarised(chance.normal(0.8, spread, 4).tolist()) for spread in spreads] for _ in range(2000)]
    hits = sum(low <= 0.8 <= high for low, high in (interval(draw, ANY) for draw in draws))
    # Of several spreads, Satterthwaite's degrees of freedom are an approximation.
    assert abs(hits / 2000 - 0.95) < 0.015


@pytest.mark.parametrize("values", [[], [0.5], [0.5, None]])
def test_where_no_spread_is_known_there_is_no_interval(values):
    assert interval([summarised(values)], ANY) is None
    assert interval([summarised([0.1, 0.2]), summarised(values)], ANY) is None


def test_an_interval_ends_where_the_metric_does():
    wide = summarised([0.5, 0.99])
    assert interval([wide], bounds_of(["accuracy"])) == (0, 1)
    assert interval([wide], bounds_of(["matthews_correlation"])) == (-1, 1)
    assert interval([wide], bounds_of(["pearson", "accuracy"])) == (-0.5, 1)
    assert interval([summarised([1.0, 1.0])], bounds_of(["accuracy"])) == (1, 1)


def compared(first: str, second: str, sign: int, one_seed: bool = False, tasks=("cola",)) -> Comparison:
    """Return a comparison that tells two models apart (1: the first is better) or does not (0)."""
    difference = Difference(0.02 * sign, 0.01 * sign - 0.001, 0.02 * sign + 0.001, 0.5, 0.001 if sign else 0.9)
    return Comparison(list(tasks), first, second, (0.5, 0.5), difference, one_seed, 0.001 if sign else 0.9)


MEANS = {"a": 0.9, "b": 0.89, "c": 0.5}
ALL = [compared("a", "b", 0), compared("a", "c", 1), compared("b", "c", 1)]


def test_the_best_share_the_mark_with_those_not_told_apart_from_them():
    assert best_models(MEANS, [], ALL) == {"a": False, "b": False}


def test_where_no_model_is_worse_none_is_best():
    assert best_models({"a": 0.9, "b": 0.89}, [], [compared("a", "b", 0)]) == {}
    assert best_models({"a": 0.9}, [], []) == {}
    assert best_models({}, [], []) == {}


def test_a_win_that_does_not_survive_the_correction_is_none():
    (win,) = [each for each in ALL if each.second == "c" and each.first == "a"]
    weak = Comparison(**{**vars(win), "adjusted": 0.06})
    assert best_models({"a": 0.9, "c": 0.5}, [], [win]) == {"a": False}
    assert best_models({"a": 0.9, "c": 0.5}, [], [weak]) == {}


def test_a_degenerate_model_is_never_best_and_none_below_it_is():
    assert best_models(MEANS, ["b"], ALL) == {"a": False}
    assert best_models(MEANS, ["a"], ALL) == {}
    equal = {"a": 0.9, "b": 0.9, "c": 0.5}
    assert best_models(equal, ["a"], ALL) == {"b": False}


def test_the_highest_score_that_was_not_compared_leaves_no_best():
    assert best_models(MEANS | {"d": 0.95}, [], ALL) == {}


def test_a_mark_that_rests_on_one_seed_says_so():
    assert best_models({"a": 0.9, "c": 0.5}, [], [compared("a", "c", 1, one_seed=True)]) == {"a": True}
    assert best_models({"a": 0.9, "c": 0.5}, [], [compared("c", "a", -1)]) == {"a": False}


def saved(*comparisons: Comparison, is_outdated: bool = False) -> SavedComparisons:
    return SavedComparisons(0.95, list(comparisons), [], is_outdated)


def test_comparisons_of_other_results_mark_nothing():
    groups = [point("base", 0.9, 0.91, model="a"), point("base", 0.5, 0.52, model="b")]
    win = compared("a", "b", 1)
    assert [row.scores[0].is_best for row in score_table(groups, saved(win)).rows] == [True, False]
    assert [row.is_best for row in score_table(groups, saved(win)).rows] == [True, False]
    assert not any(row.scores[0].is_best for row in score_table(groups, saved(win, is_outdated=True)).rows)
    assert not any(row.scores[0].is_best or row.is_best for row in score_table(groups).rows)


def test_a_mean_is_best_only_by_a_comparison_over_the_same_tasks():
    groups = [
        point("base", score, model=model, task=task)
        for model, scores in {"a": (0.9, 0.8), "b": (0.5, 0.4)}.items()
        for task, score in zip(("cola", "rte"), scores, strict=True)
    ]
    over_both, over_others = (compared("a", "b", 1, tasks=tasks) for tasks in (("rte", "cola"), ("rte", "sst2")))
    for of_means, expected in (([over_both], True), ([over_others], False), ([], False)):
        comparisons = SavedComparisons(0.95, [compared("a", "b", 1)], of_means, False)
        assert score_table(groups, comparisons).rows[0].is_best is expected


def test_ranks_are_means_over_common_tasks_and_equal_scores_share_them():
    results = {"a": (0.9, 0.8, 0.7), "b": (0.9, 0.7, 0.6), "c": (0.5, 0.9, "failed"), "d": ("failed",) * 3}
    groups = [
        point("base", result, model=model, task=task)
        for model, of_model in results.items()
        for task, result in zip(("cola", "rte", "sst2"), of_model, strict=True)
    ]
    table = score_table(groups)
    assert list(table.common) == ["cola", "rte"]
    assert table.has_gaps
    assert [row.rank for row in table.rows] == [(1.5 + 2) / 2, (1.5 + 3) / 2, (3 + 1) / 2, None]
    assert [row.common_mean for row in table.rows] == pytest.approx([0.85, 0.8, 0.7, None])
    expected = {key: value for key, value in asdict(table.rows[0].scores[0].summary).items() if key == "mean"}
    assert expected == {"mean": 0.9}


def test_one_model_has_no_rank():
    table = score_table([point("base", 0.5, model="a")])
    assert not table.has_ranks and not table.has_gaps


def test_the_interval_of_a_mean_needs_two_seeds_of_each_task():
    groups = [point("base", 0.5, 0.6, task="cola"), point("base", 0.7, 0.8, task="rte")]
    (row,) = score_table(groups).rows
    half = stats.t.ppf(0.975, 2) * math.sqrt(0.005) / 2  # two equal variances of a mean, 0.0025 each
    assert row.common_interval == pytest.approx((0.65 - half, 0.65 + half))
    (row,) = score_table([*groups, point("base", 0.7, task="sst2")]).rows
    assert row.common_interval is None
