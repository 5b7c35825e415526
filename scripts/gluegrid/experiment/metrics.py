"""The metrics, each defined in one place. To add one, add a decorated formula here.

Schemas, config checks, scoring and comparisons read METRICS; only verification/metrics.py has its own formulas, on
purpose. No heavy library is loaded before a formula is called.

Higher is better for every metric: the best seed, the best variant, and means over metrics and tasks rely on it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gluegrid.experiment.task_kinds import CLASSIFICATION, REGRESSION, TaskKind, kind_of

Array = Any  # of numpy, which is not imported here
Resamples = Any  # of analysis/resamples.py, which this package must not import
Score = Callable[[Array, Array], float]
Resampled = Callable[[Resamples], Array]
ROUNDING = 1e-12  # a smaller variance is only rounding error


@dataclass(frozen=True)
class Metric:
    """A metric for tasks of one kind.

    `score` computes the value in all_results.json from labels and predictions of shape (examples,), by scikit-learn or
    SciPy. `resampled` computes it for many resamples at once, of shape (resamples, runs), with NaN where undefined.
    """

    name: str
    kind: TaskKind
    range: tuple[int, int]  # perfect predictions reach the upper bound
    score: Score
    resampled: Resampled
    least_examples: int = 1  # undefined for fewer
    for_more_labels: str | None = None  # which metric to use for more than two labels, if this one is for two only


METRICS: dict[str, Metric] = {}


def problem_of_metric(name: str, labels: Sequence[str] | None) -> str | None:
    """Return why a metric does not suit a task with these labels; None where it does."""
    metric, kind = METRICS[name], kind_of(labels)
    if metric.kind is not kind:
        allowed = ", ".join(each.name for each in METRICS.values() if each.kind is kind)
        return f"{name!r} does not suit a {kind.described}; allowed: {allowed}"
    if metric.for_more_labels and len(labels) > 2:
        return f"{name!r} is for two labels, but the task has {len(labels)}; use {metric.for_more_labels} instead"
    return None


def _metric(kind: TaskKind, least_and_most: tuple[int, int], score: Score, **needs: object) -> Callable:
    """Declare a metric, named after the decorated function, which is its formula for resamples."""

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
    """Return the share of predictions that equal the label."""
    return drawn.correct() / drawn.examples


@_metric(CLASSIFICATION, (0, 1), _by_sklearn("f1_score", zero_division=0.0), for_more_labels="macro_f1")
def f1(drawn: Resamples) -> Array:
    """Return the harmonic mean of precision and recall for class 1; 0 if it is neither a label nor predicted."""
    return _ratio(2 * drawn.true_positives(1), drawn.support(1) + drawn.predicted(1), otherwise=0.0)


@_metric(CLASSIFICATION, (0, 1), _by_sklearn("f1_score", average="macro", zero_division=0.0))
def macro_f1(drawn: Resamples) -> Array:
    """Return the mean F1 over the classes that occur in the labels or predictions of the drawn examples."""
    total = classes = 0
    for each in drawn.classes:
        count = drawn.support(each) + drawn.predicted(each)
        total = total + _ratio(2 * drawn.true_positives(each), count, otherwise=0.0)
        classes = classes + (count > 0)
    return total / classes


@_metric(CLASSIFICATION, (-1, 1), _by_sklearn("matthews_corrcoef"))
def matthews_correlation(drawn: Resamples) -> Array:
    """Return Matthews' coefficient for two or more classes; 0 if labels or predictions have one class only."""
    counts = [(drawn.support(each), drawn.predicted(each)) for each in drawn.classes]
    covariance = drawn.examples * drawn.correct() - sum(support * predicted for support, predicted in counts)
    of_labels = drawn.examples**2 - sum(support**2 for support, _ in counts)
    of_answers = drawn.examples**2 - sum(predicted**2 for _, predicted in counts)
    return _ratio(covariance, (of_labels * of_answers) ** 0.5, otherwise=0.0)


@_metric(REGRESSION, (-1, 1), _by_scipy("pearsonr"), least_examples=2)
def pearson(drawn: Resamples) -> Array:
    """Return Pearson's product-moment correlation."""
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
    """Return Spearman's rank correlation: Pearson's correlation of the ranks among the drawn examples."""
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
    """Return the quotient, or `otherwise` where the denominator is 0."""
    import numpy

    return numpy.divide(numerator, denominator, out=numpy.full(numerator.shape, otherwise), where=denominator > 0)
