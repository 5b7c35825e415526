"""The kinds of tasks, by what a label is, and everything that follows from it.

Only verification/metrics.py has its own losses, on purpose. No heavy library is loaded before a loss is computed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Array = Any  # of numpy, which is not imported here


@dataclass(frozen=True)
class TaskKind:
    """A kind of task. Logits have the shape (examples, outputs), labels and predictions (examples,)."""

    described: str  # in messages
    problem_type: str  # transformers' name, which determines the training loss
    staged_type: str  # of the labels in converted data
    label_type: str  # of the labels in tokens and predictions, and thus in training and scoring
    number_of_outputs: Callable[[Sequence[str] | None], int]  # of the head, from the names of the classes
    predictions: Callable[[Array], Array]  # from logits
    loss: Callable[[Array, Array], float]  # from logits and labels: the mean training loss over the examples


def kind_of(labels: Sequence[str] | None) -> TaskKind:
    """Return the kind of a task from the names of its classes, or None if it has no classes."""
    return REGRESSION if labels is None else CLASSIFICATION


def _cross_entropy(logits: Array, labels: Array) -> float:
    from scipy.special import log_softmax

    # scikit-learn's log_loss clips an example's loss at 36.
    return -log_softmax(logits, axis=1)[range(len(labels)), labels].mean()


def _squared_error(logits: Array, labels: Array) -> float:
    return ((logits[:, 0] - labels) ** 2).mean()


CLASSIFICATION = TaskKind(
    described="classification",
    problem_type="single_label_classification",
    staged_type="int64",
    label_type="int64",
    number_of_outputs=len,
    predictions=lambda logits: logits.argmax(axis=1),  # the first in case of a tie
    loss=_cross_entropy,
)
REGRESSION = TaskKind(
    described="regression (a task without labels)",
    problem_type="regression",
    staged_type="float64",
    label_type="float32",
    number_of_outputs=lambda _: 1,
    predictions=lambda logits: logits[:, 0],
    loss=_squared_error,
)
