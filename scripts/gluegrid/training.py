"""The training loop: what run_glue.py's Trainer computes, on accelerate, from any step on."""

import logging
import math
import random
import time
from typing import Protocol

import numpy
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from gluegrid.errors import TrainingError
from gluegrid.micro_batches import MicroBatches
from gluegrid.run import Run

logger = logging.getLogger(__name__)

MAX_GRAD_NORM = 1.0
SECONDS_BETWEEN_LOG_LINES = 10


class Keeper(Protocol):
    """What keeps a training from being lost: gluegrid.safekeeping has the real one."""

    def restore(self, training: "Training") -> None:
        """Bring a fresh training to where an earlier attempt left it."""

    def look_after(self, training: "Training") -> None:
        """Be called before each step and after the last: save what is due, and leave (Stopped) when asked to."""

    def note_progress(self, progress: dict) -> None:
        """Be told now and then how far the training is."""


class Training:
    """A model in training, by the defaults of transformers.TrainingArguments.

    They are AdamW without weight decay, linear decay to 0 without warm-up, and gradients clipped at norm 1.0. `step`
    counts the updates that are done; everything that decides the next ones is in `state()`.
    """

    def __init__(self, accelerator: Accelerator, model: PreTrainedModel, loader: DataLoader, run: Run):
        self.accelerator = accelerator
        self.run = run
        self.samples = len(loader.dataset)
        self.steps_per_epoch = len(loader)
        self.steps = math.ceil(run.num_train_epochs * self.steps_per_epoch)
        self._batch_size = loader.batch_size
        self._sampler = loader.sampler
        optimizer = torch.optim.AdamW(model.parameters(), lr=run.learning_rate, weight_decay=0.0)
        self._rates = get_linear_schedule_with_warmup(optimizer, num_warmup_steps=0, num_training_steps=self.steps)
        prepared = accelerator.prepare(model, optimizer, loader, self._rates)
        self.model, self._optimizer, self._loader, self._schedule = prepared
        self.micro_batches = MicroBatches("training")
        self.step = 0
        self._losses = torch.zeros(self.steps, device=accelerator.device)
        self._seconds_before = 0.0
        self._started = time.perf_counter()
        self._random_states: dict | None = None

    @property
    def seconds(self) -> float:
        """Seconds spent on training, in all attempts."""
        return self._seconds_before + time.perf_counter() - self._started

    @property
    def is_at_end_of_epoch(self) -> bool:
        """Whether the last step ended an epoch, or the training."""
        return self.step > 0 and (self.step % self.steps_per_epoch == 0 or self.step == self.steps)

    def finish(self, keeper: Keeper | None = None) -> dict:
        """Do the steps that are left; return run_glue.py's train metrics, times in seconds.

        Raises TrainingError when the loss is not finite.
        """
        if keeper is not None:
            keeper.restore(self)
        progress = _Progress(self, keeper)
        self.model.train()
        while self.step < self.steps:
            epoch, done = divmod(self.step, self.steps_per_epoch)
            self._sampler.begin_at(epoch, done * self._batch_size)
            for batch in self._loader:
                self._restore_random_states()
                if keeper is not None:
                    keeper.look_after(self)
                self._update(batch)
                progress.tell()
                if self.step == self.steps:
                    break
        self.check_finite()
        if keeper is not None:
            keeper.look_after(self)
        return self._metrics()

    def state(self) -> dict:
        """Return all that the steps to come depend on, as tensors and plain values."""
        return {
            "step": self.step,
            "model": self.accelerator.unwrap_model(self.model).state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._rates.state_dict(),
            "losses": self._losses[: self.step].clone(),
            "seconds": self.seconds,
            "micro_batch_rows": self.micro_batches.rows,
            "random_states": _random_states(),
        }

    def restore(self, state: dict, seconds: float) -> None:
        """Go on from a `state()` of the same run, after `seconds` of training in earlier attempts."""
        self.accelerator.unwrap_model(self.model).load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._rates.load_state_dict(state["schedule"])
        self.step = state["step"]
        self._losses[: self.step] = state["losses"]
        self.micro_batches.rows = state["micro_batch_rows"]
        self.count_earlier(seconds)
        # Set when the first batch is there: whoever makes an iterator draws from the generators.
        self._random_states = state["random_states"]

    def count_earlier(self, seconds: float) -> None:
        """Count the time that earlier attempts have spent."""
        self._seconds_before = seconds

    def check_finite(self) -> None:
        """Raise TrainingError for a loss that is infinite or not a number, with its step and learning rate."""
        bad = (~torch.isfinite(self._losses[: self.step])).nonzero()
        if len(bad):
            step = int(bad[0]) + 1
            raise TrainingError(
                f"the loss is {self._losses[step - 1].item()} at step {step}, learning rate {self._rate_of(step):.3g};"
                " try a smaller learning_rate"
            )

    def progress(self) -> dict:
        """Return how far the training is, for people and programs; waits for the device."""
        return {
            "step": self.step,
            "steps": self.steps,
            "loss": self._losses[self.step - 1].item(),
            "learning_rate": self._rate_of(self.step),
            "train_seconds": self.seconds,
        }

    def _update(self, batch: dict) -> None:
        losses = self.micro_batches.compute(batch, self._backward, self._optimizer.zero_grad)
        self.accelerator.clip_grad_norm_(self.model.parameters(), MAX_GRAD_NORM)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()
        self._losses[self.step] = sum(losses[1:], start=losses[0])
        self.step += 1

    def _backward(self, part: dict, share: float) -> torch.Tensor:
        """Add a part's gradients; its mean loss counts as much as its share of the batch."""
        loss = self.model(**part).loss * share
        self.accelerator.backward(loss)
        return loss.detach()

    def _restore_random_states(self) -> None:
        if self._random_states is not None:
            _set_random_states(self._random_states)
            self._random_states = None

    def _rate_of(self, step: int) -> float:
        return self.run.learning_rate * self._rates.lr_lambdas[0](step - 1)

    def _metrics(self) -> dict:
        epochs = self.steps / self.steps_per_epoch
        seconds = self.seconds
        return {
            "epoch": int(epochs) if epochs.is_integer() else epochs,
            "train_loss": self._losses.double().mean().item(),
            "train_runtime": seconds,
            "train_samples": self.samples,
            "train_samples_per_second": self.samples * self.run.num_train_epochs / seconds,
            "train_steps_per_second": self.steps / seconds,
        }


def _random_states() -> dict:
    """Return the states of all generators that a model's code may draw from."""
    kind, keys, *position = numpy.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, keys.tolist(), *position),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _set_random_states(states: dict) -> None:
    random.setstate(states["python"])
    numpy.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])


class _Progress:
    """Writes a line with step, loss, rate and time left, now and then, so that nothing waits for the device."""

    def __init__(self, training: Training, keeper: Keeper | None):
        self.training = training
        self.keeper = keeper
        self.first_step = training.step
        self.started = self.told = time.perf_counter()

    def tell(self) -> None:
        """Log the last step if the last line is old enough."""
        now = time.perf_counter()
        step, steps = self.training.step, self.training.steps
        if now - self.told < SECONDS_BETWEEN_LOG_LINES and step < steps:
            return
        self.told = now
        self.training.check_finite()
        progress = self.training.progress()
        if self.keeper is not None:
            self.keeper.note_progress(progress)
        left = (now - self.started) / (step - self.first_step) * (steps - step)
        loss, rate = progress["loss"], progress["learning_rate"]
        logger.info("step %d of %d, loss %.4f, learning rate %.3g, %.0f s left", step, steps, loss, rate, left)


def predict(
    accelerator: Accelerator,
    model: PreTrainedModel,
    loader: DataLoader,
    label_order: list[int] | None,
    micro_batches: MicroBatches,
) -> tuple[numpy.ndarray, float]:
    """Return logits of shape (examples, outputs), outputs in the order of the data's labels, and the seconds taken.

    Raises TrainingError when they are not finite.
    """
    started = time.perf_counter()
    loader = accelerator.prepare(loader)
    model.eval()
    batches = []

    def logits_of(part: dict, share: float) -> torch.Tensor:
        return model(**part).logits.float().cpu()

    with torch.inference_mode():
        for batch in loader:
            batch.pop("labels")
            batches += micro_batches.compute(batch, logits_of, undo=lambda: None)
    logits = torch.cat(batches).numpy()
    if not numpy.isfinite(logits).all():
        raise TrainingError("the trained model's outputs are infinite or no numbers; try a smaller learning_rate")
    if label_order is not None:
        logits = logits[:, label_order]
    return logits, time.perf_counter() - started
