"""The scores after each epoch, and the weights of the best epoch."""

import logging
from collections.abc import Callable

import torch

from gluegrid.experiment.run import Run
from gluegrid.models.lora import trained_weights

logger = logging.getLogger(__name__)


class EpochScores:
    """Score a model after each epoch with `evaluate`, which gets a function to call between batches and returns the
    metrics. `curve` has the metrics of each epoch, with `epoch` and `step`.

    With `save_model: best`, keep the weights of the epoch whose metrics (on the held-out examples, if there are any)
    have the highest mean; of equal epochs, the first.
    """

    def __init__(self, run: Run, evaluate: Callable[[Callable[[], None]], dict]):
        self.metric_keys = run.task.metric_keys()
        self.selection_keys = run.selection_keys()
        self.evaluate = evaluate
        self.keeps_best = run.save_model == "best"
        self.curve: list[dict] = []
        self.best: dict | None = None

    def score(self, epoch: int, step: int, model: torch.nn.Module, between_batches: Callable[[], None]) -> dict:
        """Score the model after an epoch; return its metrics."""
        metrics = self.evaluate(between_batches)
        self.add(epoch, step, metrics, model)
        return metrics

    def add(self, epoch: float, step: int, metrics: dict, model: torch.nn.Module) -> None:
        """Add an epoch's metrics to the curve."""
        self.curve.append({"epoch": epoch, "step": step, **metrics})
        values = [metrics[key] for key in self.selection_keys]
        logger.info("epoch %g: %s", epoch, ", ".join(f"{key} {metrics[key]}" for key in self.metric_keys))
        if self.keeps_best and None not in values:
            score = sum(values) / len(values)
            if self.best is None or score > self.best["score"]:
                weights = {name: tensor.cpu().clone() for name, tensor in trained_weights(model).items()}
                self.best = {"epoch": epoch, "score": score, "weights": weights}

    def state(self) -> dict:
        """Return what a resumed training needs, as plain values and tensors."""
        return {"curve": self.curve, "best": self.best}

    def restore(self, state: dict) -> None:
        """Resume from a `state()`."""
        self.curve, self.best = state["curve"], state["best"]


def numbers_of(metrics: dict) -> dict[str, float]:
    """Return the metrics that are numbers; undefined ones, which are None, are left out."""
    return {name: value for name, value in metrics.items() if isinstance(value, int | float)}
