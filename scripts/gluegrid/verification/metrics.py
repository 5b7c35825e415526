"""Compute scores from logits and labels by their definitions, with numpy alone.

This checks training/metrics.py and experiment/metrics.py, so it shares no formula with them and calls no library's
metrics.
"""

import math

import numpy

from gluegrid.experiment.task import Task


def recomputed_scores(task: Task, logits: numpy.ndarray, labels: numpy.ndarray) -> dict[str, float | bool | None]:
    """Return a split's `loss`, metrics, `combined_score` (of several metrics) and `degenerate`.

    `logits` has the shape (examples, outputs), `labels` (examples,), with at least one example. An undefined value is
    None. A model is degenerate if it predicts the same for all of several examples, or if a metric is undefined.
    """
    logits = logits.astype(numpy.float64)
    answers = logits[:, 0] if task.is_regression else logits.argmax(axis=1)
    values = {name: METRICS[name](labels, answers) for name in task.metrics}
    undefined = None in values.values()
    is_constant = len(answers) > 1 and answers.min() == answers.max()
    scores = {"loss": squared_error(labels, answers) if task.is_regression else cross_entropy(labels, logits), **values}
    if len(values) > 1:
        scores["combined_score"] = None if undefined else math.fsum(values.values()) / len(values)
    return scores | {"degenerate": bool(is_constant or undefined)}


def accuracy(labels: numpy.ndarray, answers: numpy.ndarray) -> float:
    """Return the share of answers that equal the label."""
    return _count(labels == answers) / len(labels)


def f1(labels: numpy.ndarray, answers: numpy.ndarray) -> float:
    """Return the harmonic mean of precision and recall of class 1; 0 if neither labels nor answers have that class.

    With counts: 2 TP / (2 TP + FP + FN). Van Rijsbergen, Information Retrieval, 2nd edition (1979), chapter 7.
    """
    return _f1_of(1, labels, answers)


def macro_f1(labels: numpy.ndarray, answers: numpy.ndarray) -> float:
    """Return the unweighted mean of the F1 of each class that labels or answers have.

    The "averaged F1" of Opitz and Burst (2019), Macro F1 and Macro F1, arXiv:1911.03347.
    """
    classes = numpy.union1d(labels, answers)
    return math.fsum(_f1_of(each, labels, answers) for each in classes) / len(classes)


def _f1_of(asked: int, labels: numpy.ndarray, answers: numpy.ndarray) -> float:
    hits = _count((labels == asked) & (answers == asked))
    asked_and_said = _count(labels == asked) + _count(answers == asked)
    return 2 * hits / asked_and_said if asked_and_said else 0.0


def matthews_correlation(labels: numpy.ndarray, answers: numpy.ndarray) -> float:
    """Return Matthews' correlation coefficient; 0 if labels or answers are all of one class.

    For two classes Matthews (1975), Biochimica et Biophysica Acta 405; for more Gorodkin's generalisation (2004),
    Computational Biology and Chemistry 28.
    """
    classes = numpy.union1d(labels, answers)
    examples, right = len(labels), _count(labels == answers)
    counts = [(_count(labels == each), _count(answers == each)) for each in classes]
    covariance = right * examples - sum(asked * said for asked, said in counts)
    of_labels = examples**2 - sum(asked**2 for asked, _ in counts)
    of_answers = examples**2 - sum(said**2 for _, said in counts)
    return covariance / math.sqrt(of_labels * of_answers) if of_labels and of_answers else 0.0


def pearson(labels: numpy.ndarray, answers: numpy.ndarray) -> float | None:
    """Return the product-moment correlation; None for fewer than two examples, or if one side is constant.

    Pearson (1895), Proceedings of the Royal Society of London 58.
    """
    if len(labels) < 2 or any(side.min() == side.max() for side in (labels, answers)):
        return None
    first, second = (_normalised_deviations(side.astype(numpy.float64)) for side in (labels, answers))
    return float(numpy.sum(first * second))


def _normalised_deviations(values: numpy.ndarray) -> numpy.ndarray:
    """Return deviations from the mean, scaled to length 1; divide by the largest first to prevent overflow."""
    deviations = values - values.mean()
    deviations /= numpy.abs(deviations).max()
    return deviations / math.sqrt(numpy.sum(deviations**2))


def spearmanr(labels: numpy.ndarray, answers: numpy.ndarray) -> float | None:
    """Return the rank correlation: Pearson's of the ranks. Spearman (1904), American Journal of Psychology 15."""
    return pearson(ranks(labels), ranks(answers))


def ranks(values: numpy.ndarray) -> numpy.ndarray:
    """Return the rank of each value, from 1; equal values share the mean of their ranks.

    Kendall (1945), The treatment of ties in ranking problems, Biometrika 33.
    """
    _, which, counts = numpy.unique(values, return_inverse=True, return_counts=True)
    last = numpy.cumsum(counts)
    return (last - (counts - 1) / 2)[which]


def squared_error(labels: numpy.ndarray, answers: numpy.ndarray) -> float | None:
    """Return the mean squared error, or None if it overflows."""
    with numpy.errstate(all="ignore"):
        value = float(numpy.mean((answers - labels.astype(numpy.float64)) ** 2))
    return value if math.isfinite(value) else None


def cross_entropy(labels: numpy.ndarray, logits: numpy.ndarray) -> float:
    """Return the mean over examples of log(sum(exp(logits))) - logit of the label, in nats.

    Bishop, Pattern Recognition and Machine Learning (2006), section 4.3.4. Subtracting the largest logit from all does
    not change the result, and prevents overflow and loss of digits.
    """
    logits = logits - logits.max(axis=1, keepdims=True)
    log_sum = numpy.log(numpy.exp(logits).sum(axis=1))
    return float(numpy.mean(log_sum - logits[numpy.arange(len(labels)), labels]))


def _count(which: numpy.ndarray) -> int:
    """Return how many are true, as a Python int, whose products do not overflow."""
    return int(numpy.count_nonzero(which))


METRICS = {
    "accuracy": accuracy,
    "f1": f1,
    "macro_f1": macro_f1,
    "matthews_correlation": matthews_correlation,
    "pearson": pearson,
    "spearmanr": spearmanr,
}
