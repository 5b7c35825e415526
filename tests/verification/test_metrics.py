"""The metrics that `make verify` recomputes, against the libraries that training scores with."""

import math
import warnings

import builders
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from sklearn import metrics

from gluegrid.common.formatting import agree
from gluegrid.experiment.task import Task
from gluegrid.training.metrics import score
from gluegrid.verification.metrics import ranks, recomputed_scores

BINARY = builders.task(metrics=builders.metrics_for(["no", "yes"]))
TERNARY = builders.task(metrics=builders.metrics_for(builders.NLI_LABELS), labels=builders.NLI_LABELS)
REGRESSION = builders.task(metrics=builders.metrics_for(None), labels=None)
# Few different values, so that ties, one class alone and constants are common.
COARSE = st.integers(-3, 3).map(float)
FINE = st.floats(-1e6, 1e6, width=32)


@st.composite
def classified(draw, task: Task):
    """Draw logits of shape (examples, outputs) and labels of shape (examples,)."""
    outputs = task.number_of_outputs
    logit = draw(st.sampled_from([COARSE, FINE]))
    rows = draw(st.lists(st.tuples(st.integers(0, outputs - 1), *[logit] * outputs), min_size=1, max_size=30))
    table = numpy.array(rows)
    return table[:, 1:].astype(numpy.float32), table[:, 0].astype(numpy.int64)


@st.composite
def measured(draw):
    """Draw a regression's outputs of shape (examples, 1) and its labels."""
    number = draw(st.sampled_from([COARSE, st.floats(-10, 10, width=16)]))
    table = numpy.array(draw(st.lists(st.tuples(number, number), min_size=1, max_size=30)), dtype=numpy.float32)
    return table[:, :1], table[:, 1].astype(numpy.float64)


def defined(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


@pytest.mark.filterwarnings("ignore:A single label was found")
@settings(deadline=None)
@given(classified(BINARY))
def test_binary_metrics_are_those_of_scikit_learn(logits_and_labels):
    logits, labels = logits_and_labels
    said = logits.argmax(axis=1)
    scores = recomputed_scores(BINARY, logits, labels)
    assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(labels, said), abs=1e-12)
    assert scores["f1"] == pytest.approx(metrics.f1_score(labels, said, zero_division=0.0), abs=1e-12)
    assert scores["matthews_correlation"] == pytest.approx(metrics.matthews_corrcoef(labels, said), abs=1e-12)
    log_probabilities = special.log_softmax(logits.astype(float), axis=1)
    assert scores["loss"] == pytest.approx(-log_probabilities[range(len(labels)), labels].mean(), rel=1e-12, abs=1e-12)
    assert scores["degenerate"] is (len(said) > 1 and len(set(said)) == 1)


@pytest.mark.filterwarnings("ignore:A single label was found")
@settings(deadline=None)
@given(classified(TERNARY))
def test_the_metrics_of_three_classes_are_those_of_scikit_learn(logits_and_labels):
    logits, labels = logits_and_labels
    said = logits.argmax(axis=1)
    scores = recomputed_scores(TERNARY, logits, labels)
    assert scores["matthews_correlation"] == pytest.approx(metrics.matthews_corrcoef(labels, said), abs=1e-12)
    expected = metrics.f1_score(labels, said, average="macro", zero_division=0.0)
    assert scores["macro_f1"] == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(measured())
def test_correlations_are_those_of_scipy(outputs_and_labels):
    outputs, labels = outputs_and_labels
    said = outputs[:, 0].astype(float)
    scores = recomputed_scores(REGRESSION, outputs, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        both = [stats.pearsonr, stats.spearmanr]
        pearson, spearman = (defined(f(labels, said).statistic) if len(labels) > 1 else None for f in both)
    assert scores["pearson"] == pytest.approx(pearson, abs=1e-9)
    assert scores["spearmanr"] == pytest.approx(spearman, abs=1e-9)
    assert scores["loss"] == pytest.approx(numpy.mean((said - labels) ** 2))
    assert scores["degenerate"] is (pearson is None)


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1))
def test_ranks_are_those_of_scipy(values):
    assert ranks(numpy.array(values)).tolist() == stats.rankdata(values).tolist()


@pytest.mark.filterwarnings("ignore:A single label was found")
@settings(deadline=None)
@given(classified(BINARY), classified(TERNARY), measured())
def test_scores_are_those_of_training(binary, ternary, regression):
    for task, (logits, labels) in ((BINARY, binary), (TERNARY, ternary), (REGRESSION, regression)):
        recomputed, trained = recomputed_scores(task, logits, labels), score(task, logits, labels)
        assert recomputed.keys() == trained.keys()
        assert all(agree(trained[key], recomputed[key]) for key in trained)


def test_the_correlation_of_many_examples_does_not_overflow():
    labels = numpy.tile([0, 1, 1, 0, 1], 40_000)
    logits = numpy.stack([-labels, labels], axis=1).astype(numpy.float32)
    assert recomputed_scores(BINARY, logits, labels)["matthews_correlation"] == 1.0
