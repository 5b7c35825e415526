"""The metrics: all that is to be known of each, in one place. A new one is one more decorated formula here.

The schemas, the checks of a config, scoring and comparisons ask METRICS; only verification/metrics.py has formulas of
its own, on purpose. No heavy library is loaded before a formula is called.

Of every metric more is better: the best seed, the best variant, and means over metrics and tasks count on it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gluegrid.experiment.task_kinds import CLASSIFICATION, REGRESSION, TaskKind, kind_of

Array = Any  # of numpy, which is not imported here
Resamples = Any  # of analysis/resamples.py, which is above this package
Score = Callable[[Array, Array], float]
Resampled = Callable[[Resamples], Array]
ROUNDING = 1e-12  # of a variance: what is less is the error of sums


@dataclass(frozen=True)
class Metric:
    """A metric of tasks of one kind.

    `score` makes one value of labels and predictions of shape (examples,): that of all_results.json, by scikit-learn or
    SciPy. `resampled` makes the same of many resamples at once, of shape (resamples, runs); NaN where it is undefined.
    """

    name: str
    kind: TaskKind
    range: tuple[int, int]  # perfect predictions have the upper end
    score: Score
    resampled: Resampled
    least_examples: int = 1  # it is undefined for fewer
    for_more_labels: str | None = None  # the metric for more than two labels, where this one is for two only


METRICS: dict[str, Metric] = {}


def problem_of_metric(name: str, labels: Sequence[str] | None) -> str | None:
    """Return why a metric does not suit a task with these labels; None where it does."""
    metric, kind = METRICS[name], kind_of(labels)
    if metric.kind is not kind:
        allowed = ", ".join(each.name for each in METRICS.values() if each.kind is kind)
        return f"{name!r} does not suit a {kind.described}; allowed: {allowed}"
    if metric.for_more_labels and len(labels) > 2:
        return f"{name!r} is for two labels, and the task has {len(labels)}; {metric.for_more_labels} is for more"
    return None


def _metric(kind: TaskKind, least_and_most: tuple[int, int], score: Score, **needs: object) -> Callable:
    """Declare the metric that has the name of the decorated function, which is its formula for resamples."""

    def declare(resampled: Resampled) -> Resampled:
        name = resampled.__name__
        METRICS[name] = Metric(name, kind, least_and_most, score, resampled, **needs)
        return resampled

    return declare


def _by_sklearn(function: str, **options: object) -> Score:
    def score(labels: Array, predictions: Array) -> float:
        from sklearn import metrics

        return getattr(metrics, function)(labels, predictions, **options)

    return score


def _by_scipy(function: str) -> Score:
    def score(labels: Array, predictions: Array) -> float:
        from scipy import stats

        return getattr(stats, function)(labels, predictions).statistic

    return score


@_metric(CLASSIFICATION, (0, 1), _by_sklearn("accuracy_score"))
def accuracy(drawn: Resamples) -> Array:
    """The share of predictions that are the label."""
    return drawn.correct() / drawn.examples


@_metric(CLASSIFICATION, (0, 1), _by_sklearn("f1_score", zero_division=0.0), for_more_labels="macro_f1")
def f1(drawn: Resamples) -> Array:
    """The harmonic mean of precision and recall of class 1; 0 where it is neither a label nor predicted."""
    return _ratio(2 * drawn.true_positives(1), drawn.support(1) + drawn.predicted(1), otherwise=0.0)


@_metric(CLASSIFICATION, (0, 1), _by_sklearn("f1_score", average="macro", zero_division=0.0))
def macro_f1(drawn: Resamples) -> Array:
    """The mean of the F1 of each class that is a label or predicted among the drawn examples."""
    total = classes = 0
    for each in drawn.classes:
        count = drawn.support(each) + drawn.predicted(each)
        total = total + _ratio(2 * drawn.true_positives(each), count, otherwise=0.0)
        classes = classes + (count > 0)
    return total / classes


@_metric(CLASSIFICATION, (-1, 1), _by_sklearn("matthews_corrcoef"))
def matthews_correlation(drawn: Resamples) -> Array:
    """The coefficient of two or more classes; 0 where labels or predictions are of one class only."""
    counts = [(drawn.support(each), drawn.predicted(each)) for each in drawn.classes]
    covariance = drawn.examples * drawn.correct() - sum(support * predicted for support, predicted in counts)
    of_labels = drawn.examples**2 - sum(support**2 for support, _ in counts)
    of_answers = drawn.examples**2 - sum(predicted**2 for _, predicted in counts)
    return _ratio(covariance, (of_labels * of_answers) ** 0.5, otherwise=0.0)


@_metric(REGRESSION, (-1, 1), _by_scipy("pearsonr"), least_examples=2)
def pearson(drawn: Resamples) -> Array:
    """The product-moment correlation."""
    import numpy

    first, second = drawn.standardised(drawn.labels[:, None]), drawn.standardised(drawn.answers)
    means = drawn.mean(first), drawn.mean(second)
    covariance = drawn.mean(first * second) - means[0] * means[1]
    variances = drawn.mean(first**2) - means[0] ** 2, drawn.mean(second**2) - means[1] ** 2
    is_defined = (variances[0] > ROUNDING) & (variances[1] > ROUNDING)
    spread = numpy.sqrt(numpy.where(is_defined, variances[0] * variances[1], 0.0))
    return numpy.clip(_ratio(covariance, spread, otherwise=numpy.nan), -1.0, 1.0)


@_metric(REGRESSION, (-1, 1), _by_scipy("spearmanr"), least_examples=2)
def spearmanr(drawn: Resamples) -> Array:
    """The rank correlation: Pearson's of the ranks among the drawn examples."""
    import numpy

    def correlation(ranks: Array) -> Array:
        covariance = numpy.einsum("ij,ij->i", weighted, ranks)
        spread = numpy.sqrt(numpy.einsum("ij,ij,ij->i", drawn.weights, ranks, ranks))
        return _ratio(covariance, spread_of_labels * spread, otherwise=numpy.nan)

    of_labels = drawn.centred_ranks(drawn.labels)
    weighted = drawn.weights * of_labels
    spread_of_labels = numpy.sqrt(numpy.einsum("ij,ij->i", weighted, of_labels))
    return numpy.stack([correlation(drawn.centred_ranks(run)) for run in drawn.answers.T], axis=1)


def _ratio(numerator: Array, denominator: Array, otherwise: float) -> Array:
    """Return a quotient; `otherwise` where the denominator is 0."""
    import numpy

    return numpy.divide(numerator, denominator, out=numpy.full(numerator.shape, otherwise), where=denominator > 0)
