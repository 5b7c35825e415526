"""The kinds of tasks, by what a label is: all that follows from it, in one place.

Only verification/metrics.py has losses of its own, on purpose. No heavy library is loaded before a loss is computed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Array = Any  # of numpy, which is not imported here


@dataclass(frozen=True)
class TaskKind:
    """A kind of task. Logits have the shape (examples, outputs), labels and predictions (examples,)."""

    described: str  # in messages
    problem_type: str  # by transformers' name, which decides the loss in training
    staged_type: str  # of the labels in converted data
    label_type: str  # of the labels in tokens and predictions, and so in training and scoring
    number_of_outputs: Callable[[Sequence[str] | None], int]  # of the head, from the names of the classes
    predictions: Callable[[Array], Array]  # from logits
    loss: Callable[[Array, Array], float]  # from logits and labels: the mean of the training loss over the examples


def kind_of(labels: Sequence[str] | None) -> TaskKind:
    """Return the kind of the task whose classes have these names; None: it has no classes."""
    return REGRESSION if labels is None else CLASSIFICATION


def _cross_entropy(logits: Array, labels: Array) -> float:
    from scipy.special import log_softmax

    # scikit-learn's log_loss cuts the loss of an example off at 36.
    return -log_softmax(logits, axis=1)[range(len(labels)), labels].mean()


def _squared_error(logits: Array, labels: Array) -> float:
    return ((logits[:, 0] - labels) ** 2).mean()


CLASSIFICATION = TaskKind(
    described="classification",
    problem_type="single_label_classification",
    staged_type="int64",
    label_type="int64",
    number_of_outputs=len,
    predictions=lambda logits: logits.argmax(axis=1),  # the first of equals
    loss=_cross_entropy,
)
REGRESSION = TaskKind(
    described="regression (what a task without labels is)",
    problem_type="regression",
    staged_type="float64",
    label_type="float32",
    number_of_outputs=lambda _: 1,
    predictions=lambda logits: logits[:, 0],
    loss=_squared_error,
)
