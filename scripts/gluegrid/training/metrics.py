"""Predictions to scores, through evaluate's interface over scikit-learn and scipy.

`evaluate.load("glue")` would fetch a script from the hub on every node, and its cache collides between jobs.
"""

import math
import warnings

import datasets
import evaluate
import numpy
from scipy import special, stats
from sklearn import metrics

from gluegrid.experiment.task import Task, predictions_of


def _f1(references: numpy.ndarray, predictions: numpy.ndarray) -> float:
    return metrics.f1_score(references, predictions, zero_division=0.0)


def _macro_f1(references: numpy.ndarray, predictions: numpy.ndarray) -> float:
    return metrics.f1_score(references, predictions, average="macro", zero_division=0.0)


def _pearson(references: numpy.ndarray, predictions: numpy.ndarray) -> float:
    return stats.pearsonr(references, predictions).statistic


def _spearmanr(references: numpy.ndarray, predictions: numpy.ndarray) -> float:
    return stats.spearmanr(references, predictions).statistic


FORMULAS = {
    "accuracy": metrics.accuracy_score,
    "f1": _f1,
    "macro_f1": _macro_f1,
    "matthews_correlation": metrics.matthews_corrcoef,
    "pearson": _pearson,
    "spearmanr": _spearmanr,
}


class TaskMetric(evaluate.Metric):
    """The metrics of one task. Undefined values (a correlation with a constant, say) are None."""

    def __init__(self, task: Task):
        self.task = task
        # A lock file in a shared cache otherwise, which jobs fight over.
        super().__init__(config_name=task.name, keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        kind = datasets.Value("float32" if self.task.is_regression else "int64")
        return evaluate.MetricInfo(
            description="Metrics of a task, as the GLUE benchmark defines them (Wang et al., 2018).",
            citation="Wang et al. 2018, GLUE: A Multi-Task Benchmark, arXiv:1804.07461",
            features=datasets.Features({"predictions": kind, "references": kind}),
        )

    def _compute(self, predictions: list, references: list) -> dict[str, float | None]:
        predictions, references = numpy.asarray(predictions), numpy.asarray(references)
        with warnings.catch_warnings():
            # Constant predictions and fewer than two examples: the value says it by being None.
            warnings.simplefilter("ignore")
            return {name: self._value(name, references, predictions) for name in self.task.metrics}

    @staticmethod
    def _value(name: str, references: numpy.ndarray, predictions: numpy.ndarray) -> float | None:
        if len(references) < 2 and name in ("pearson", "spearmanr"):
            return None
        value = float(FORMULAS[name](references, predictions))
        return value if math.isfinite(value) else None


def score(task: Task, logits: numpy.ndarray, labels: numpy.ndarray) -> dict[str, object]:
    """Return a validation split's `loss`, metrics, `combined_score` (of several metrics) and `degenerate`.

    Degenerate means that the model says the same for every example, or that a metric is undefined (None).
    """
    predictions = predictions_of(task, logits)
    values = TaskMetric(task).compute(predictions=predictions, references=labels)
    scores: dict[str, object] = {"loss": _loss(task, logits, labels), **values}
    if len(task.metrics) > 1:
        scores["combined_score"] = None if None in values.values() else float(numpy.mean(list(values.values())))
    is_constant = len(predictions) > 1 and bool(numpy.all(predictions == predictions[0]))
    scores["degenerate"] = is_constant or None in values.values()
    return scores


def _loss(task: Task, logits: numpy.ndarray, labels: numpy.ndarray) -> float | None:
    """Return the mean of the training loss over the examples: squared error, or cross entropy."""
    logits = logits.astype(numpy.float64)
    if task.is_regression:
        value = float(numpy.mean((logits[:, 0] - labels) ** 2))
    else:
        # scikit-learn's log_loss cuts the loss of an example off at 36.
        value = float(-numpy.mean(special.log_softmax(logits, axis=1)[numpy.arange(len(labels)), labels]))
    return value if math.isfinite(value) else None
