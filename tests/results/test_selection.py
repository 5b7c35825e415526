import pytest
from groups import point

from gluegrid.results.selection import (
    chosen,
    compared,
    optimism,
    selecting_scores,
    sweeps,
    swept_keys,
    uses_holdout,
    values_of,
    was_chosen,
)

HOLDOUT = {"selection": "holdout"}


def names(groups):
    return [group.variant for group in groups]


def test_the_variant_with_the_best_mean_over_seeds_is_chosen():
    lucky = point("lucky", 0.9, 0.5)
    steady = point("steady", 0.75, 0.75)
    assert chosen([lucky, steady]) == [steady]


def test_each_model_and_task_has_its_own_choice_in_the_order_of_the_groups():
    groups = [
        point("low", 0.1),
        point("high", 0.9),
        point("low", 0.8, task="rte"),
        point("high", 0.7, task="rte"),
        point("low", 0.3, model="roberta"),
    ]
    assert [(group.model, group.task.name, group.variant) for group in chosen(groups)] == [
        ("bert", "cola", "high"),
        ("bert", "rte", "low"),
        ("roberta", "cola", "low"),
    ]
    assert [len(points) for points in sweeps(groups)] == [2, 2, 1]


def test_the_first_of_equals_is_chosen():
    assert names(chosen([point("first", 0.5, 0.75), point("second", 0.75, 0.5)])) == ["first"]


def test_a_mean_of_fewer_seeds_does_not_beat_one_of_more():
    assert names(chosen([point("half", 0.9, None), point("killed", 0.95, "killed"), point("whole", 0.6, 0.6)])) == [
        "whole"
    ]


def test_an_undefined_seed_counts_as_one_that_lacks_a_score():
    undefined = {"eval_accuracy": None, "degenerate": True}
    assert names(chosen([point("broken", 0.9, undefined), point("whole", 0.6, 0.6)])) == ["whole"]
    assert names(chosen([point("worse", 0.8, undefined), point("better", 0.9, undefined)])) == ["better"]


def test_a_degenerate_seed_with_a_score_pulls_its_variant_down():
    collapsed = {"eval_accuracy": 0.3, "degenerate": True}
    assert names(chosen([point("unstable", 0.9, 0.9, collapsed), point("steady", 0.8, 0.8, 0.8)])) == ["steady"]


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([[None], [None]], "0"),
        ([[None], ["killed"]], "1"),
        ([["killed"], [{"eval_accuracy": None}]], "1"),
        ([[None], ["killed"], ["killed"]], "1"),
        ([["killed"], [0.0]], "1"),
        ([["killed"], [-0.2]], "1"),
    ],
)
def test_without_scores_what_came_furthest_is_shown(results, expected):
    groups = [point(str(number), *of_variant) for number, of_variant in enumerate(results)]
    assert names(chosen(groups)) == [expected]


def test_a_task_without_validation_is_chosen_without_a_score():
    assert names(chosen([point("base", {}, validation={})])) == ["base"]


def held(validation, holdout):
    return {"eval_accuracy": validation, "eval_accuracy_holdout": holdout}


def test_with_a_holdout_its_score_chooses_and_the_optimism_is_what_validation_would_have_added():
    by_validation = point("a", held(0.9, 0.6), held(0.8, 0.6), run=HOLDOUT)
    by_holdout = point("b", held(0.8, 0.7), held(0.7, 0.7), run=HOLDOUT)
    assert uses_holdout(by_holdout)
    assert selecting_scores(by_holdout) == [0.7, 0.7]
    assert chosen([by_validation, by_holdout]) == [by_holdout]
    (found,) = optimism([by_validation, by_holdout])
    assert (found.by_validation, found.by_holdout) == (by_validation, by_holdout)
    assert found.difference == pytest.approx(0.85 - 0.75)


def test_the_holdout_scores_all_metrics_once_also_where_there_are_two_validation_splits():
    result = {
        "eval_accuracy": 0.5,
        "eval_accuracy_mm": 0.5,
        "eval_f1": 0.5,
        "eval_f1_mm": 0.5,
        "eval_accuracy_holdout": 0.6,
        "eval_f1_holdout": 0.8,
    }
    splits = {"validation_matched": "", "validation_mismatched": "_mm"}
    group = point("base", result, run=HOLDOUT, validation=splits, metrics=["accuracy", "f1"])
    assert selecting_scores(group) == [pytest.approx(0.7)]


OF_MNLI = {"do_train": False, "init_from": {"task": "mnli", "variant": "base", "run_sha256": ""}}


def test_what_only_evaluates_anothers_models_has_the_variant_that_was_chosen_there():
    mnli = [point("base", 0.5, task="mnli"), point("rate", 0.8, task="mnli")]
    hans = [point("base", 0.9, task="hans", run=OF_MNLI), point("rate", 0.1, task="hans", run=OF_MNLI)]
    ax = [point(variant, {}, task="ax", run=OF_MNLI, validation={}) for variant in ("base", "rate")]
    found = chosen([*mnli, *hans, *ax])
    assert names(found) == ["rate", "rate", "rate"]
    assert [was_chosen(group) for group in found] == [True, False, False]
    assert optimism([*mnli, *hans]) == []


def test_a_trained_task_that_starts_from_another_chooses_for_itself():
    run = {"init_from": OF_MNLI["init_from"]}
    mnli = [point("base", 0.5, task="mnli"), point("rate", 0.8, task="mnli")]
    rte = [point("base", 0.9, task="rte", run=run), point("rate", 0.1, task="rte", run=run)]
    assert names(chosen([*mnli, *rte])) == ["rate", "base"]


def test_the_points_that_were_compared_have_as_many_scores_as_the_chosen_one():
    points = [point("base", 0.5, 0.5), point("a", 0.6, 0.6), point("b", 0.9, None), point("c", 0.9, "killed")]
    (found,) = chosen(points)
    assert found.chosen_from == points
    assert names(compared(found, points)) == ["base", "a"]


def test_values_that_differ_are_the_swept_ones_in_the_order_of_the_recipe():
    points = [
        point("base", 0.5, run={"num_train_epochs": 2, "warmup_ratio": 0.1, "save_model": "last"}),
        point("a", 0.5, run={"num_train_epochs": 4, "warmup_ratio": 0.1, "learning_rate": 3e-5}),
        point("b", 0.5, run={"num_train_epochs": 4, "warmup_ratio": 0.1, "global_batch_size": 8}),
    ]
    keys = swept_keys(points)
    assert keys == ["learning_rate", "num_train_epochs", "global_batch_size"]
    assert values_of(points[0], keys) == {"learning_rate": 2e-5, "num_train_epochs": 2, "global_batch_size": None}
    assert swept_keys(points[:1]) == []


def test_both_choices_being_the_same_is_no_optimism():
    groups = [point("a", held(0.9, 0.9), run=HOLDOUT), point("b", held(0.8, 0.8), run=HOLDOUT)]
    (found,) = optimism(groups)
    assert found.difference == 0


def test_optimism_is_measured_only_where_a_holdout_chose_among_several_scores():
    assert optimism([point("a", held(0.9, 0.9), run=HOLDOUT)]) == []
    assert optimism([point("a", 0.9), point("b", 0.8)]) == []
    assert optimism([point("a", held(0.9, 0.9), run=HOLDOUT), point("b", None, run=HOLDOUT)]) == []
