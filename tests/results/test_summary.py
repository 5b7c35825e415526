import math

import builders
import numpy
import pytest
from groups import outcome, point
from hypothesis import given
from hypothesis import strategies as st

from gluegrid.execution.reasons import Cause, Reason
from gluegrid.experiment.cell import Cell
from gluegrid.results.outcomes import Outcome
from gluegrid.results.summary import Summary, groups, mean, score, summarised

# With ties, an even and an odd number, and values near 1 and 0.
SCORES = st.lists(st.floats(-1, 1), min_size=2, max_size=9)


@given(SCORES)
def test_summaries_are_numpys(values):
    found = summarised(values)
    assert found.count == len(values)
    assert found.mean == pytest.approx(numpy.mean(values), abs=1e-15)
    assert found.sd == pytest.approx(numpy.std(values, ddof=1), abs=1e-12)
    assert found.median == pytest.approx(numpy.median(values), abs=1e-15)
    assert found.best == numpy.max(values)


def test_equal_values_have_no_spread():
    assert summarised([0.1, 0.1, 0.1]) == Summary(3, 0.1, 0.0, 0.1, 0.1)


def test_one_value_has_no_standard_deviation():
    assert summarised([0.5]) == Summary(1, 0.5, None, 0.5, 0.5)


def test_no_value_gives_nothing():
    assert summarised([]) == Summary(0, None, None, None, None)
    assert mean([]) is None


def test_an_undefined_seed_leaves_only_the_best_defined():
    assert summarised([0.5, None, 0.25]) == Summary(3, None, None, None, 0.5)
    assert summarised([None]) == Summary(1, None, None, None, None)


def test_whole_numbers_have_a_mean_of_the_same_kind():
    assert mean([3, 3]) == 3
    assert isinstance(mean([3, 4]), float)


PAIR = {"metrics": ["accuracy", "f1"]}
COLLAPSED = {"eval_accuracy": 0.66, "eval_f1": 0.8, "degenerate": True}


def test_the_score_is_the_mean_of_a_tasks_metrics_seed_by_seed():
    group = point("base", {"eval_accuracy": 0.8, "eval_f1": 0.9}, {"eval_accuracy": 0.6, "eval_f1": 0.9}, **PAIR)
    found = group.score_summary()
    assert (found.mean, found.best) == (pytest.approx(0.8), pytest.approx(0.85))
    assert found.sd == pytest.approx(math.sqrt(2 * 0.05**2))
    assert group.score() == found.mean
    assert group.summary("eval_accuracy").median == pytest.approx(0.7)


def test_degenerate_seeds_are_counted_and_can_be_left_out():
    group = point("base", {"eval_accuracy": 0.86, "eval_f1": 0.9}, COLLAPSED, "killed", None, **PAIR)
    assert (len(group.done), len(group.failed), len(group.degenerate)) == (2, 1, 1)
    assert group.summary("eval_accuracy").mean == pytest.approx(0.76)
    others = group.without_degenerate()
    assert others.summary("eval_accuracy") == Summary(1, 0.86, None, 0.86, 0.86)
    assert (len(others.outcomes), others.degenerate) == (3, [])


def test_an_undefined_seed_makes_the_mean_undefined_until_it_is_left_out():
    group = point("base", 0.5, {"eval_accuracy": None, "degenerate": True})
    assert group.score() is None
    assert group.without_degenerate().score() == 0.5


def test_what_is_only_predicted_has_no_score():
    group = point("base", {}, validation={})
    assert score(group.outcomes[0], group.task.metric_keys()) is None
    assert group.score_summary() == Summary(1, None, None, None, None)


def test_groups_follow_the_config_by_model_task_and_variant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = builders.experiment(tmp_path)
    cells = [
        Outcome(Cell("tiny", task, variant, seed, {"recipe": 1}), tmp_path, why=Reason(Cause.KILLED))
        for seed in (1, 2)
        for variant in ("learning_rate-3e-05", "base")
        for task in ("number", "pair")
    ]
    found = groups(experiment, cells)
    assert [(group.task.name, group.variant) for group in found] == [
        ("pair", "learning_rate-3e-05"),
        ("pair", "base"),
        ("number", "learning_rate-3e-05"),
        ("number", "base"),
    ]
    assert [[outcome.cell.seed for outcome in group.outcomes] for group in found] == [[1, 2]] * 4
    assert found[0].display_name == "Pair"


def test_a_cell_without_a_result_is_not_degenerate():
    assert not outcome(reason="killed").is_degenerate
    assert not outcome(results={"eval_accuracy": 1.0}).is_degenerate
