"""Metrics of many resamples at once, from how often each example was drawn.

`weights` has the shape (resamples, examples): counts, each row's sum is the number of examples. `labels` has the shape
(examples,), `answers` (examples, runs). Values have the shape (resamples, runs) and are those of scikit-learn and SciPy
for the drawn examples; NaN where a correlation is undefined.
"""

import numpy

ROUNDING = 1e-12  # of a variance: what is less is the error of sums


def accuracy(weights: numpy.ndarray, labels: numpy.ndarray, answers: numpy.ndarray) -> numpy.ndarray:
    """Return the share of answers that are the label."""
    return weights @ (answers == labels[:, None]) / len(labels)


def f1(weights: numpy.ndarray, labels: numpy.ndarray, answers: numpy.ndarray) -> numpy.ndarray:
    """Return the harmonic mean of precision and recall of class 1; 0 where it is neither asked for nor said."""
    hits, asked_and_said = _counts(1, weights, labels, answers)
    return _ratio(2 * hits, asked_and_said, otherwise=0.0)


def macro_f1(weights: numpy.ndarray, labels: numpy.ndarray, answers: numpy.ndarray) -> numpy.ndarray:
    """Return the mean of the F1 of each class that is asked for or said among the drawn examples."""
    total, classes = numpy.zeros((2, len(weights), answers.shape[1]))
    for each in numpy.union1d(labels, answers):
        hits, asked_and_said = _counts(each, weights, labels, answers)
        total += _ratio(2 * hits, asked_and_said, otherwise=0.0)
        classes += asked_and_said > 0
    return total / classes


def _counts(
    each: int, weights: numpy.ndarray, labels: numpy.ndarray, answers: numpy.ndarray
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return how often a class is rightly said, and how often it is asked for or said, which counts twice if both."""
    asked, said = (labels == each)[:, None], answers == each
    return weights @ (asked & said), weights @ asked + weights @ said


def matthews_correlation(weights: numpy.ndarray, labels: numpy.ndarray, answers: numpy.ndarray) -> numpy.ndarray:
    """Return Matthews' correlation coefficient of two or more classes; 0 where one side is of one class only."""
    examples = len(labels)
    covariance = examples * (weights @ (answers == labels[:, None]))
    of_labels = numpy.full((len(weights), 1), float(examples**2))
    of_answers = numpy.full(covariance.shape, float(examples**2))
    for each in numpy.union1d(labels, answers):
        asked, said = weights @ (labels == each)[:, None], weights @ (answers == each)
        covariance -= asked * said
        of_labels -= asked**2
        of_answers -= said**2
    return _ratio(covariance, numpy.sqrt(of_labels * of_answers), otherwise=0.0)


def pearson(weights: numpy.ndarray, labels: numpy.ndarray, answers: numpy.ndarray) -> numpy.ndarray:
    """Return the product-moment correlation."""
    first, second = _standardised(labels[:, None]), _standardised(answers)
    means = [_mean(weights, side) for side in (first, second)]
    covariance = _mean(weights, first * second) - means[0] * means[1]
    variances = [_mean(weights, side**2) - mean**2 for side, mean in zip((first, second), means, strict=True)]
    is_defined = (variances[0] > ROUNDING) & (variances[1] > ROUNDING)
    spread = numpy.sqrt(numpy.where(is_defined, variances[0] * variances[1], 0.0))
    return numpy.clip(_ratio(covariance, spread, otherwise=numpy.nan), -1.0, 1.0)


def spearmanr(weights: numpy.ndarray, labels: numpy.ndarray, answers: numpy.ndarray) -> numpy.ndarray:
    """Return the rank correlation: Pearson's of the ranks among the drawn examples, equal values sharing theirs."""
    of_labels = _centred_ranks(weights, labels)
    columns = [_rank_correlation(weights, of_labels, _centred_ranks(weights, answer)) for answer in answers.T]
    return numpy.stack(columns, axis=1)


def _rank_correlation(weights: numpy.ndarray, first: numpy.ndarray, second: numpy.ndarray) -> numpy.ndarray:
    weighted = weights * first
    covariance = numpy.einsum("ij,ij->i", weighted, second)
    variances = numpy.einsum("ij,ij->i", weighted, first), numpy.einsum("ij,ij,ij->i", weights, second, second)
    return _ratio(covariance, numpy.sqrt(variances[0]) * numpy.sqrt(variances[1]), otherwise=numpy.nan)


def _centred_ranks(weights: numpy.ndarray, values: numpy.ndarray) -> numpy.ndarray:
    """Return each example's rank among the drawn, less the mean of all ranks; of shape (resamples, examples)."""
    _, which, first_places = _distinct(values)
    drawn = numpy.add.reduceat(weights[:, numpy.argsort(which, kind="stable")], first_places, axis=1)
    # Ranks from c - d + 1 to c for d equal values, c of them and smaller ones; the mean of all is (n + 1) / 2.
    ranks = numpy.cumsum(drawn, axis=1) - (drawn + len(values)) / 2
    return ranks[:, which]


def _distinct(values: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """Return the distinct values in order, the number of each value among them, and their first places when sorted."""
    distinct, which, counts = numpy.unique(values, return_inverse=True, return_counts=True)
    return distinct, which, numpy.cumsum(counts) - counts


def _standardised(values: numpy.ndarray) -> numpy.ndarray:
    """Return columns with mean 0 and variance 1; constant ones are 0."""
    values = values.astype(numpy.float64)  # labels are in single precision
    deviations = values - values.mean(axis=0)
    spread = deviations.std(axis=0)
    is_constant = values.max(axis=0) == values.min(axis=0)
    return numpy.where(is_constant, 0.0, deviations / numpy.where(is_constant, 1.0, spread))


def _mean(weights: numpy.ndarray, values: numpy.ndarray) -> numpy.ndarray:
    return weights @ values / len(values)


def _ratio(numerator: numpy.ndarray, denominator: numpy.ndarray, otherwise: float) -> numpy.ndarray:
    """Return a quotient; `otherwise` where the denominator is 0."""
    return numpy.divide(numerator, denominator, out=numpy.full(numerator.shape, otherwise), where=denominator > 0)


METRICS = {
    "accuracy": accuracy,
    "f1": f1,
    "macro_f1": macro_f1,
    "matthews_correlation": matthews_correlation,
    "pearson": pearson,
    "spearmanr": spearmanr,
}
