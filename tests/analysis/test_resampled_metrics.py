import warnings

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from gluegrid.analysis.resampled_metrics import METRICS

OF_CLASSES = {
    "accuracy": metrics.accuracy_score,
    "f1": lambda labels, answers: metrics.f1_score(labels, answers, zero_division=0.0),
    "macro_f1": lambda labels, answers: metrics.f1_score(labels, answers, average="macro", zero_division=0.0),
    "matthews_correlation": metrics.matthews_corrcoef,
}
OF_NUMBERS = {
    "pearson": lambda labels, answers: stats.pearsonr(labels, answers).statistic,
    "spearmanr": lambda labels, answers: stats.spearmanr(labels, answers).statistic,
}


def resampled(name, labels, answers, drawn):
    """Return a metric of resamples, each the numbers of the examples that it drew."""
    weights = numpy.array([numpy.bincount(numbers, minlength=len(labels)) for numbers in drawn], dtype=float)
    return METRICS[name](weights, labels, answers)


def of_library(formulas, name, labels, answers, drawn):
    """Return the same from a library that is given the drawn examples."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constant sides
        return numpy.array(
            [[formulas[name](labels[numbers], run[numbers]) for run in answers.T] for numbers in map(list, drawn)]
        )


@pytest.mark.parametrize("name", OF_CLASSES)
@pytest.mark.parametrize("classes", [2, 3])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_classification_is_scikit_learns_of_the_drawn_examples(name, classes, data):
    if name == "f1" and classes > 2:
        return
    examples, runs = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 3))
    label = st.integers(0, classes - 1)
    labels = numpy.array(data.draw(st.lists(label, min_size=examples, max_size=examples)))
    answers = numpy.array(data.draw(st.lists(label, min_size=examples * runs, max_size=examples * runs)))
    answers = answers.reshape(examples, runs)
    drawn = [data.draw(st.lists(st.integers(0, examples - 1), min_size=examples, max_size=examples)) for _ in range(3)]
    expected = of_library(OF_CLASSES, name, labels, answers, drawn)
    numpy.testing.assert_allclose(resampled(name, labels, answers, drawn), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", OF_NUMBERS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_correlations_are_scipys_of_the_drawn_examples(name, data):
    examples = data.draw(st.integers(2, 12))
    number = st.sampled_from([0.0, 0.5, 1.0, 2.5, -3.0, 4.75])  # with ties
    labels, *columns = (
        numpy.array(data.draw(st.lists(number, min_size=examples, max_size=examples))) for _ in range(3)
    )
    answers = numpy.stack(columns, axis=1)
    drawn = [data.draw(st.lists(st.integers(0, examples - 1), min_size=examples, max_size=examples)) for _ in range(3)]
    expected = of_library(OF_NUMBERS, name, labels, answers, drawn)
    numpy.testing.assert_allclose(resampled(name, labels, answers, drawn), expected, rtol=0, atol=1e-9)


def test_correlations_of_real_labels_in_single_precision():
    generator = numpy.random.default_rng(0)
    labels = generator.integers(0, 26, size=1500).astype(numpy.float32) / 5
    answers = (labels[:, None] + generator.normal(size=(1500, 2))).astype(numpy.float32) * 1000 + 1e5
    drawn = generator.integers(1500, size=(4, 1500))
    for name in OF_NUMBERS:
        expected = of_library(OF_NUMBERS, name, labels.astype(float), answers.astype(float), drawn)
        numpy.testing.assert_allclose(resampled(name, labels, answers, drawn), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_a_correlation_with_a_constant_is_undefined(name):
    labels, answers = numpy.array([1.0, 2.0, 3.0]), numpy.array([[0.1, 0.7], [0.1, 0.7], [0.1, 0.9]])
    values = resampled(name, labels, answers, [[0, 1, 2], [0, 1, 1], [2, 2, 2]])
    assert numpy.isnan(values).tolist() == [[True, False], [True, True], [True, True]]
