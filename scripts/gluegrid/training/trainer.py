"""The training loop: computes what run_glue.py's Trainer does, on accelerate, and can resume at any step."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Protocol

import numpy
import torch
from transformers import get_scheduler

from gluegrid.common.errors import TrainingError
from gluegrid.experiment.run import Run
from gluegrid.models.lora import load_trained_weights, trained_weights
from gluegrid.training.dataset import Order, Rows
from gluegrid.training.device import random_states, set_random_states
from gluegrid.training.distributed import Processes
from gluegrid.training.epochs import EpochScores, numbers_of
from gluegrid.training.forward_pass import ForwardPass
from gluegrid.training.gradients import Gradients
from gluegrid.training.optimizer import adamw, clip_once, make_moments, step_once
from gluegrid.training.step_graphs import StepGraphs
from gluegrid.training.trackers import Trackers

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOG_LINES = 10
BATCHES_TO_CHECK = 2


class Keeper(Protocol):
    """Keeps training progress; gluegrid.training.checkpointing implements it."""

    def restore(self, training: "Training") -> None:
        """Resume a fresh training where an earlier attempt left off."""

    def look_after(self, training: "Training") -> None:
        """Save a due checkpoint, and raise Stopped when asked to; called before each step and after the last."""

    def note_progress(self, progress: dict) -> None:
        """Record how far the training is; called now and then."""


class Training:
    """A model in training, with the optimizer and schedules of transformers.Trainer.

    An update is one step of AdamW along the gradient of the mean loss of `run.examples_per_update` rows, in any number
    of parts and processes. `step` counts the updates done; all that the next ones depend on is in
    `state()`. `trackers` log it; `epochs` scores the model between epochs; `graphs` are for `gradients`.
    """

    def __init__(
        self,
        processes: Processes,
        forward: ForwardPass,
        rows: Rows,
        run: Run,
        trackers: Trackers,
        epochs: EpochScores | None = None,
        graphs: StepGraphs | None = None,
    ):
        self.accelerator = processes.accelerator
        self.processes = processes
        self.forward = forward
        self.model = forward.model
        self.rows = rows
        self.run = run
        self.trackers = trackers
        self.epochs = epochs
        self.steps_per_epoch = math.ceil(len(rows) / run.examples_per_update)
        self.steps = math.ceil(run.num_train_epochs * self.steps_per_epoch)
        self.gradients = Gradients(processes, forward, rows, run, graphs)
        self.parameters = self.gradients.parameters
        optimizer = adamw(self.parameters, run)
        warmup_steps = math.ceil(run.warmup_ratio * self.steps)
        self._rates = get_scheduler(run.lr_scheduler_type, optimizer, warmup_steps, self.steps)
        self._optimizer = self.accelerator.prepare_optimizer(optimizer, device_placement=False)
        self._order = Order(rows, run)
        self.step = 0
        self.tokens = 0
        self._losses = torch.zeros(self.steps, device=self.accelerator.device)
        self._seconds_before = 0.0
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds spent on training, in all attempts."""
        return self._seconds_before + time.perf_counter() - self._started

    @property
    def is_at_end_of_epoch(self) -> bool:
        """Whether the last step ended an epoch or the training."""
        return self.step > 0 and (self.step % self.steps_per_epoch == 0 or self.step == self.steps)

    def finish(self, keeper: Keeper | None = None) -> dict:
        """Do the remaining steps; return run_glue.py's train metrics, times in seconds.

        Raise TrainingError if the loss is not finite.
        """
        if keeper is not None:
            keeper.restore(self)

        def look_after() -> None:
            if keeper is not None:
                keeper.look_after(self)

        self._choose_path()
        make_moments(self._optimizer)
        self.trackers.start(asdict(self.run), self.step)
        progress = _Progress(self, keeper)
        epoch, order = -1, numpy.empty(0, int)
        self.model.train()
        while self.step < self.steps:
            look_after()
            self._score_epoch(look_after)
            if self.step // self.steps_per_epoch != epoch:
                epoch = self.step // self.steps_per_epoch
                order = self._order.in_epoch(epoch)
            self._update(self._batch(order, self.step))
            progress.tell()
        self.check_finite()
        self.check_equal()
        look_after()
        return self._metrics()

    def _batch(self, order: numpy.ndarray, step: int) -> numpy.ndarray:
        """Return the numbers of the rows of an update, in the order of the epoch."""
        first = step % self.steps_per_epoch * self.run.examples_per_update
        return order[first : first + self.run.examples_per_update]

    def _choose_path(self) -> None:
        if self.step < self.steps:
            order = self._order.in_epoch(self.step // self.steps_per_epoch)
            steps = range(min(BATCHES_TO_CHECK, self.steps_per_epoch))
            self.gradients.choose_path([self._batch(order, step) for step in steps])

    def _score_epoch(self, between_batches: Callable[[], None]) -> None:
        """Score the model if an epoch has just ended; neither training nor its measured time is affected."""
        epoch, steps_in = divmod(self.step, self.steps_per_epoch)
        if self.epochs is None or steps_in != 0 or len(self.epochs.curve) >= epoch:
            return
        started = time.perf_counter()
        metrics = self.epochs.score(epoch, self.step, self.model, between_batches)
        self.trackers.log(numbers_of(metrics), self.step)
        self.model.train()
        self._seconds_before -= time.perf_counter() - started

    def state(self) -> dict:
        """Return everything that the next steps depend on, as tensors and plain values."""
        scaler = self.accelerator.scaler
        return {
            "step": self.step,
            "tokens": self.tokens,
            "model": trained_weights(self.model),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._rates.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "losses": self._losses[: self.step].clone(),
            "seconds": self.seconds,
            "micro_batch_rows": self.gradients.micro_batches.rows,
            "micro_batch_rows_of_all": self.processes.gathered(self.gradients.micro_batches.rows),
            "epochs": None if self.epochs is None else self.epochs.state(),
            "paths": self.gradients.paths,
            "random_states": self.processes.gathered(random_states(self.forward.device)),
        }

    def restore(self, state: dict, seconds: float) -> None:
        """Resume from a `state()` of the same run, after `seconds` of training in earlier attempts."""
        load_trained_weights(self.model, state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._rates.load_state_dict(state["schedule"])
        if state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self.tokens = state["step"], state["tokens"]
        self.gradients.paths = [*state.get("paths", [])]
        self._losses[: self.step] = state["losses"]
        # Older checkpoints have the main process's value only.
        rows = state.get("micro_batch_rows_of_all") or [state["micro_batch_rows"]] * self.processes.count
        self.gradients.micro_batches.rows = rows[self.processes.rank]
        if self.epochs is not None:
            self.epochs.restore(state["epochs"])
        self.count_earlier(seconds)
        set_random_states(state["random_states"][self.processes.rank], self.forward.device)

    def count_earlier(self, seconds: float) -> None:
        """Count the time that earlier attempts have spent."""
        self._seconds_before = seconds

    def check_finite(self) -> None:
        """Raise TrainingError for a loss that is infinite or NaN, with its step and learning rate."""
        bad = (~torch.isfinite(self._losses[: self.step])).nonzero()
        if len(bad):
            step = int(bad[0]) + 1
            raise TrainingError(
                f"the loss is {self._losses[step - 1].item()} at step {step}, learning rate {self._rate_of(step):.3g};"
                " try a smaller learning_rate"
            )

    def check_equal(self) -> None:
        """Raise TransientError if the weights of several processes, which do the same updates, differ."""
        self.processes.check_equal(self.parameters, "the weights")

    def progress(self) -> dict:
        """Return how far the training is, for people and programs; waits for the device."""
        return {
            "step": self.step,
            "steps": self.steps,
            "loss": self._losses[self.step - 1].item(),
            "learning_rate": self._rate_of(self.step),
            "train_seconds": self.seconds,
        }

    def _update(self, numbers: numpy.ndarray) -> None:
        """Do one step for the rows with these numbers."""
        loss = self.gradients.compute(numbers)
        if self.run.max_grad_norm > 0:
            clip_once(self.accelerator, self.parameters, self.run.max_grad_norm)
        is_done = step_once(self._optimizer)
        # Not after the last update, since not every schedule is defined beyond its end.
        if self.step + 1 < self.steps and is_done:
            self._rates.step()
        self.gradients.forget()
        self._losses[self.step] = loss
        self.tokens += int(self.rows.lengths[numbers].sum())
        self.step += 1

    def _rate_of(self, step: int) -> float:
        return self.run.learning_rate * self._rates.lr_lambdas[0](step - 1)

    def _metrics(self) -> dict:
        epochs = self.steps / self.steps_per_epoch
        seconds = self.seconds
        return {
            "epoch": int(epochs) if epochs.is_integer() else epochs,
            "train_loss": self._losses.double().mean().item(),
            "train_runtime": seconds,
            "train_samples": len(self.rows),
            "train_samples_per_second": len(self.rows) * self.run.num_train_epochs / seconds,
            "train_steps_per_second": self.steps / seconds,
        }


class _Progress:
    """Log step, loss, learning rate and time left, only now and then, since reading them waits for the device."""

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
        if not self.training.processes.is_main:
            return
        progress = self.training.progress()
        self.training.trackers.log({name: progress[name] for name in ("loss", "learning_rate")}, step)
        if self.keeper is not None:
            self.keeper.note_progress(progress)
        left = (now - self.started) / (step - self.first_step) * (steps - step)
        loss, rate = progress["loss"], progress["learning_rate"]
        logger.info("step %d of %d, loss %.4f, learning rate %.3g, %.0f s left", step, steps, loss, rate, left)
