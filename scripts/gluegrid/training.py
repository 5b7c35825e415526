"""The training loop: what run_glue.py's Trainer computes, on accelerate."""

import logging
import math
import time

import numpy
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from gluegrid.errors import TrainingError
from gluegrid.run import Run

logger = logging.getLogger(__name__)

MAX_GRAD_NORM = 1.0
SECONDS_BETWEEN_LOG_LINES = 10


def train(
    accelerator: Accelerator, model: PreTrainedModel, loader: DataLoader, run: Run
) -> tuple[PreTrainedModel, dict]:
    """Train in place; return the prepared model and run_glue.py's train metrics, times in seconds.

    AdamW without weight decay, linear decay to 0 without warm-up, gradients clipped at norm 1.0, as
    transformers.TrainingArguments has them by default. Raises TrainingError when the loss is not finite.
    """
    samples = len(loader.dataset)
    steps_per_epoch = len(loader)
    steps = math.ceil(run.num_train_epochs * steps_per_epoch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=run.learning_rate, weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, num_warmup_steps=0, num_training_steps=steps)
    model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
    model.train()
    progress = _Progress(steps)
    losses = torch.zeros((), device=accelerator.device)
    step = 0
    while step < steps:
        loader.set_epoch(step // steps_per_epoch)
        for batch in loader:
            loss = model(**batch).loss
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
            optimizer.step()
            rate = schedule.get_last_lr()[0]
            schedule.step()
            optimizer.zero_grad()
            losses += loss.detach()
            step += 1
            progress.tell(step, loss, rate)
            if step == steps:
                break
    progress.check_finite(step, losses, rate)
    return model, _train_metrics(run, samples, steps, steps_per_epoch, losses.item(), progress.seconds)


def _train_metrics(run: Run, samples: int, steps: int, steps_per_epoch: int, losses: float, seconds: float) -> dict:
    epochs = steps / steps_per_epoch
    return {
        "epoch": int(epochs) if epochs.is_integer() else epochs,
        "train_loss": losses / steps,
        "train_runtime": seconds,
        "train_samples": samples,
        "train_samples_per_second": samples * run.num_train_epochs / seconds,
        "train_steps_per_second": steps / seconds,
    }


class _Progress:
    """Writes a line with step, loss, rate and time left, now and then, so that nothing waits for the device."""

    def __init__(self, steps: int):
        self.steps = steps
        self.started = self.told = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds since training began."""
        return time.perf_counter() - self.started

    def tell(self, step: int, loss: torch.Tensor, rate: float) -> None:
        """Log this step if the last line is old enough."""
        if time.perf_counter() - self.told < SECONDS_BETWEEN_LOG_LINES and step < self.steps:
            return
        self.told = time.perf_counter()
        self.check_finite(step, loss, rate)
        left = self.seconds / step * (self.steps - step)
        logger.info(
            "step %d of %d, loss %.4f, learning rate %.3g, %.0f s left", step, self.steps, loss.item(), rate, left
        )

    @staticmethod
    def check_finite(step: int, loss: torch.Tensor, rate: float) -> None:
        """Raise TrainingError for a loss that is infinite or not a number."""
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss.item()} at step {step}, learning rate {rate:.3g}; try a smaller learning_rate"
            )


def predict(
    accelerator: Accelerator, model: PreTrainedModel, loader: DataLoader, label_order: list[int] | None
) -> tuple[numpy.ndarray, float]:
    """Return logits of shape (examples, outputs), outputs in the order of the data's labels, and the seconds taken.

    Raises TrainingError when they are not finite.
    """
    started = time.perf_counter()
    loader = accelerator.prepare(loader)
    model.eval()
    batches = []
    with torch.inference_mode():
        for batch in loader:
            batch.pop("labels")
            batches.append(model(**batch).logits.float().cpu())
    logits = torch.cat(batches).numpy()
    if not numpy.isfinite(logits).all():
        raise TrainingError("the trained model's outputs are infinite or no numbers; try a smaller learning_rate")
    if label_order is not None:
        logits = logits[:, label_order]
    return logits, time.perf_counter() - started
