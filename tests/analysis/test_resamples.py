import warnings

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gluegrid.analysis.resamples import Resamples
from gluegrid.experiment.metrics import METRICS
from gluegrid.experiment.task_kinds import CLASSIFICATION, REGRESSION

OF_CLASSES = [name for name, metric in METRICS.items() if metric.kind is CLASSIFICATION]
OF_NUMBERS = [name for name, metric in METRICS.items() if metric.kind is REGRESSION]
CORRELATIONS = ["pearson", "spearmanr"]


def resampled(name, labels, answers, drawn):
    """Return a metric of resamples, each the numbers of the examples that it drew."""
    weights = numpy.array([numpy.bincount(numbers, minlength=len(labels)) for numbers in drawn], dtype=float)
    return METRICS[name].resampled(Resamples(weights, labels, answers))


def scored(name, labels, answers, drawn):
    """Return the same by the formula that results are scored with, which is given the drawn examples."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constant sides
        return numpy.array(
            [[METRICS[name].score(labels[numbers], run[numbers]) for run in answers.T] for numbers in map(list, drawn)]
        )


@pytest.mark.parametrize("name", OF_CLASSES)
@pytest.mark.parametrize("classes", [2, 3])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_classifications_metric_is_that_of_the_drawn_examples(name, classes, data):
    if METRICS[name].for_more_labels and classes > 2:
        return
    examples, runs = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 3))
    label = st.integers(0, classes - 1)
    labels = numpy.array(data.draw(st.lists(label, min_size=examples, max_size=examples)))
    answers = numpy.array(data.draw(st.lists(label, min_size=examples * runs, max_size=examples * runs)))
    answers = answers.reshape(examples, runs)
    drawn = [data.draw(st.lists(st.integers(0, examples - 1), min_size=examples, max_size=examples)) for _ in range(3)]
    expected = scored(name, labels, answers, drawn)
    numpy.testing.assert_allclose(resampled(name, labels, answers, drawn), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", OF_NUMBERS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_regressions_metric_is_that_of_the_drawn_examples(name, data):
    examples = data.draw(st.integers(2, 12))
    number = st.sampled_from([0.0, 0.5, 1.0, 2.5, -3.0, 4.75])  # with ties
    labels, *columns = (
        numpy.array(data.draw(st.lists(number, min_size=examples, max_size=examples))) for _ in range(3)
    )
    answers = numpy.stack(columns, axis=1)
    drawn = [data.draw(st.lists(st.integers(0, examples - 1), min_size=examples, max_size=examples)) for _ in range(3)]
    expected = scored(name, labels, answers, drawn)
    numpy.testing.assert_allclose(resampled(name, labels, answers, drawn), expected, rtol=0, atol=1e-9)


def test_correlations_of_real_labels_in_single_precision():
    generator = numpy.random.default_rng(0)
    labels = generator.integers(0, 26, size=1500).astype(numpy.float32) / 5
    answers = (labels[:, None] + generator.normal(size=(1500, 2))).astype(numpy.float32) * 1000 + 1e5
    drawn = generator.integers(1500, size=(4, 1500))
    for name in OF_NUMBERS:
        expected = scored(name, labels.astype(float), answers.astype(float), drawn)
        numpy.testing.assert_allclose(resampled(name, labels, answers, drawn), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CORRELATIONS)
def test_a_correlation_with_a_constant_is_undefined(name):
    labels, answers = numpy.array([1.0, 2.0, 3.0]), numpy.array([[0.1, 0.7], [0.1, 0.7], [0.1, 0.9]])
    values = resampled(name, labels, answers, [[0, 1, 2], [0, 1, 1], [2, 2, 2]])
    assert numpy.isnan(values).tolist() == [[True, False], [True, True], [True, True]]
