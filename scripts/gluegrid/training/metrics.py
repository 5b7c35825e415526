"""Score predictions through evaluate's interface, with the formulas of experiment/metrics.py.

`evaluate.load("glue")` would download a script from the hub on every node, into a cache in which jobs collide.
"""

import math
import warnings

import datasets
import evaluate
import numpy

from gluegrid.experiment.metrics import METRICS, Metric
from gluegrid.experiment.task import Task


class TaskMetric(evaluate.Metric):
    """The metrics of one task. Undefined values, such as a correlation with a constant, are None."""

    def __init__(self, task: Task):
        self.task = task
        # keep_in_memory avoids a lock file in a shared cache, over which jobs would compete.
        super().__init__(config_name=task.name, keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        label = datasets.Value(self.task.kind.label_type)
        return evaluate.MetricInfo(
            description="Metrics of a task, as the GLUE benchmark defines them (Wang et al., 2018).",
            citation="Wang et al. 2018, GLUE: A Multi-Task Benchmark, arXiv:1804.07461",
            features=datasets.Features({"predictions": label, "references": label}),
        )

    def _compute(self, predictions: list, references: list) -> dict[str, float | None]:
        predictions, references = numpy.asarray(predictions), numpy.asarray(references)
        with warnings.catch_warnings():
            # About constant predictions and fewer than two examples, for which the value is None.
            warnings.simplefilter("ignore")
            return {name: self._value(METRICS[name], references, predictions) for name in self.task.metrics}

    @staticmethod
    def _value(metric: Metric, references: numpy.ndarray, predictions: numpy.ndarray) -> float | None:
        if len(references) < metric.least_examples:
            return None
        return _finite(metric.score(references, predictions))


def score(task: Task, logits: numpy.ndarray, labels: numpy.ndarray) -> dict[str, object]:
    """Return a validation split's `loss`, metrics, `combined_score` (if there are several metrics) and `degenerate`.

    Degenerate means that the model predicts the same for every example, or that a metric is undefined (None).
    """
    predictions = task.kind.predictions(logits)
    values = TaskMetric(task).compute(predictions=predictions, references=labels)
    scores: dict[str, object] = {"loss": _finite(task.kind.loss(logits.astype(numpy.float64), labels)), **values}
    if len(task.metrics) > 1:
        scores["combined_score"] = None if None in values.values() else float(numpy.mean(list(values.values())))
    is_constant = len(predictions) > 1 and bool(numpy.all(predictions == predictions[0]))
    scores["degenerate"] = is_constant or None in values.values()
    return scores


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
