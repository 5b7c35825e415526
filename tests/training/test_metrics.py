import json
import math
import warnings

import builders
import numpy
import pytest
import torch
from scipy import stats
from sklearn import metrics
from waiting import HANG

from gluegrid.training.metrics import TaskMetric, score

BINARY = builders.task(metrics=builders.metrics_for(["no", "yes"]))
TERNARY = builders.task(metrics=builders.metrics_for(builders.NLI_LABELS), labels=builders.NLI_LABELS)
REGRESSION = builders.task(metrics=builders.metrics_for(None), labels=None)
SEEDS = range(12)


def logits_and_labels(task, seed, rows=None, scale=3.0):
    """Return random logits as a model gives them, and labels that have something to do with them."""
    random = numpy.random.default_rng(seed)
    rows = rows or int(random.integers(2, 200))
    logits = random.normal(scale=scale, size=(rows, task.number_of_outputs)).astype(numpy.float32)
    if task.is_regression:
        return logits, (logits[:, 0] + random.normal(scale=2, size=rows)).round(1).astype(numpy.float32)
    noise = random.normal(scale=scale, size=logits.shape)
    return logits, (logits + noise).argmax(axis=1)


@pytest.mark.parametrize("seed", SEEDS)
def test_binary_metrics_equal_their_definitions(seed):
    logits, labels = logits_and_labels(BINARY, seed)
    predicted = logits.argmax(axis=1)
    true_positives, true_negatives = (predicted * labels).sum(), ((1 - predicted) * (1 - labels)).sum()
    false_positives, false_negatives = (predicted * (1 - labels)).sum(), ((1 - predicted) * labels).sum()
    margins = [predicted.sum(), (1 - predicted).sum(), labels.sum(), (1 - labels).sum()]
    difference = true_positives * true_negatives - false_positives * false_negatives
    scores = score(BINARY, logits, labels)
    assert scores["accuracy"] == pytest.approx((predicted == labels).mean())
    either = 2 * true_positives + false_positives + false_negatives
    assert scores["f1"] == pytest.approx(2 * true_positives / either if either else 0)
    product = math.sqrt(math.prod(float(margin) for margin in margins))
    assert scores["matthews_correlation"] == pytest.approx(difference / product if product else 0)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("task", [BINARY, TERNARY], ids=["binary", "ternary"])
def test_classification_metrics_equal_those_of_scikit_learn(task, seed):
    logits, labels = logits_and_labels(task, seed)
    predicted = logits.argmax(axis=1)
    formulas = {
        "accuracy": metrics.accuracy_score,
        "f1": lambda *both: metrics.f1_score(*both, zero_division=0),
        "macro_f1": lambda *both: metrics.f1_score(*both, average="macro", zero_division=0),
        "matthews_correlation": metrics.matthews_corrcoef,
    }
    scores = score(task, logits, labels)
    for name in formulas.keys() & {*task.metrics}:
        assert scores[name] == pytest.approx(formulas[name](labels, predicted), abs=1e-12)


def test_macro_f1_is_the_mean_over_the_classes_that_are_asked_for_or_said():
    # Of three classes one is never asked for: said once (F1 of 0), it counts; never said, it does not.
    said = numpy.eye(3, dtype=numpy.float32)
    assert score(TERNARY, said[[0, 1, 2]], numpy.array([0, 1, 1]))["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert score(TERNARY, said[[0, 1, 0]], numpy.array([0, 1, 1]))["macro_f1"] == pytest.approx((2 / 3 + 2 / 3) / 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_regression_metrics_equal_those_of_numpy_and_scipy(seed):
    logits, labels = logits_and_labels(REGRESSION, seed)
    numbers, labels = logits[:, 0].astype(float), labels.astype(float)
    scores = score(REGRESSION, logits, labels)
    assert scores["pearson"] == pytest.approx(numpy.corrcoef(numbers, labels)[0, 1], abs=1e-6)
    ranks = numpy.corrcoef(stats.rankdata(numbers), stats.rankdata(labels))[0, 1]
    assert scores["spearmanr"] == pytest.approx(ranks, abs=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("scale", [1.0, 300.0])
@pytest.mark.parametrize("task", [BINARY, TERNARY], ids=["binary", "ternary"])
def test_the_loss_of_a_classification_is_cross_entropy(task, scale, seed):
    logits, labels = logits_and_labels(task, seed, scale=scale)
    expected = torch.nn.functional.cross_entropy(torch.tensor(logits).double(), torch.tensor(labels))
    assert score(task, logits, labels)["loss"] == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_loss_of_a_regression_is_the_mean_squared_error(seed):
    logits, labels = logits_and_labels(REGRESSION, seed)
    expected = torch.nn.functional.mse_loss(torch.tensor(logits[:, 0]).double(), torch.tensor(labels).double())
    assert score(REGRESSION, logits, labels)["loss"] == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("task", [BINARY, TERNARY, REGRESSION], ids=["binary", "ternary", "regression"])
def test_the_combined_score_is_the_mean_of_the_metrics(task):
    scores = score(task, *logits_and_labels(task, seed=1))
    assert scores["combined_score"] == pytest.approx(numpy.mean([scores[name] for name in task.metrics]))
    assert scores["degenerate"] is False


def test_a_single_metric_has_no_combined_score():
    task = builders.task(metrics=["accuracy"])
    assert set(score(task, *logits_and_labels(task, seed=1))) == {"loss", "accuracy", "degenerate"}


@pytest.mark.parametrize("label", [0, 1])
def test_a_classifier_that_says_one_thing_is_degenerate_and_keeps_its_numbers(label):
    logits = numpy.tile(numpy.eye(2, dtype=numpy.float32)[label], (10, 1))
    scores = score(BINARY, logits, numpy.array([0] * 4 + [1] * 6))
    assert scores["degenerate"] is True
    assert scores["accuracy"] == [0.4, 0.6][label]
    assert scores["f1"] == pytest.approx([0, 0.75][label])
    assert scores["matthews_correlation"] == 0


@pytest.mark.parametrize("constant", [0.0, 2.5, -1e30])
def test_a_regressor_that_says_one_thing_has_no_correlation(constant):
    logits = numpy.full((9, 1), constant, dtype=numpy.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = score(REGRESSION, logits, numpy.arange(9, dtype=numpy.float32))
    assert (scores["pearson"], scores["spearmanr"], scores["combined_score"]) == (None, None, None)
    assert scores["degenerate"] is True
    assert "NaN" not in json.dumps(scores)


def test_constant_labels_leave_a_correlation_undefined():
    logits = numpy.arange(5, dtype=numpy.float32)[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = score(REGRESSION, logits, numpy.full(5, 2.0, dtype=numpy.float32))
    assert (scores["pearson"], scores["degenerate"]) == (None, True)


@pytest.mark.parametrize("task", [BINARY, TERNARY, REGRESSION], ids=["binary", "ternary", "regression"])
def test_a_split_of_one_row_is_scored_without_a_warning(task):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = score(task, *logits_and_labels(task, seed=3, rows=1))
    assert scores["degenerate"] is task.is_regression
    assert ("pearson" in scores) == task.is_regression
    assert json.dumps(scores, allow_nan=False)


def test_values_are_plain_python_numbers():
    scores = score(BINARY, *logits_and_labels(BINARY, seed=5))
    assert {type(value) for value in scores.values()} == {float, bool}


def test_metrics_are_computed_through_the_interface_of_evaluate():
    task = builders.task(metrics=["accuracy", "f1", "matthews_correlation"])
    result = TaskMetric(task).compute(predictions=[1, 0, 1, 1], references=[1, 0, 0, 1])
    assert result == {
        "accuracy": 0.75,
        "f1": pytest.approx(0.8),
        "matthews_correlation": pytest.approx(math.sqrt(1 / 3)),
    }


SCORE_TWICE = """
import numpy, os, sys
from pathlib import Path
from gluegrid.training.metrics import score
from gluegrid.experiment.task import Task
task = Task(name="tiny", source="s", revision="r", text_columns=["t"], label_column="label", train="train",
            validation={"validation": ""}, test=[], metrics=["accuracy", "f1"], labels=["no", "yes"])
for _ in range(2):
    score(task, numpy.eye(2), numpy.array([0, 1]))
"""


def test_scoring_leaves_nothing_in_the_users_cache(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    environment = {"HOME": str(home), "HF_HOME": str(home / "hf"), "XDG_CACHE_HOME": str(home / "cache")}
    process = builders.python(SCORE_TWICE, env=environment, cwd=tmp_path)
    _, errors = process.communicate(timeout=HANG)
    assert process.returncode == 0, errors
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
