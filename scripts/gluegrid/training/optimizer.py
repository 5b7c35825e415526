"""AdamW as transformers.Trainer uses it. Running out of memory neither repeats a step nor leaves one half done."""

from collections.abc import Iterator
from itertools import islice

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer

from gluegrid.common.errors import TransientError
from gluegrid.experiment.run import Run
from gluegrid.models.device_memory import again_if_out_of_memory


def adamw(parameters: list[torch.nn.Parameter], run: Run) -> torch.optim.AdamW:
    """Return the optimizer, without weight decay for biases and normalization weights, which are vectors."""
    groups = [
        {"params": [parameter for parameter in parameters if parameter.dim() > 1], "weight_decay": run.weight_decay},
        {"params": [parameter for parameter in parameters if parameter.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=run.learning_rate, fused=True)


def make_moments(optimizer: AcceleratedOptimizer) -> None:
    """Allocate AdamW's moments, which it would otherwise do in its first step: twice the memory of the weights.

    If memory then runs out, it is in a batch, which can be computed in parts, and not in the middle of an update.
    """

    def make() -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if not optimizer.state[parameter]:
                    optimizer.state[parameter] = {
                        "step": torch.zeros((), device=parameter.device),
                        "exp_avg": torch.zeros_like(parameter),
                        "exp_avg_sq": torch.zeros_like(parameter),
                    }

    again_if_out_of_memory("the optimizer's moments, which are twice the model's size", make)


def clip_once(accelerator: Accelerator, parameters: list[torch.nn.Parameter], largest_norm: float) -> None:
    """Clip the gradients, which a single operation changes all at once.

    Raise TransientError if memory runs out after fp16 gradients were unscaled, when they may or may not be clipped.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    before = [gradient._version for gradient in gradients]

    def is_done() -> bool:
        return before != [gradient._version for gradient in gradients]

    def clip() -> None:
        if not is_done():
            accelerator.clip_grad_norm_(parameters, largest_norm)

    def check_repeatable() -> None:
        if is_done() and accelerator.scaler is not None:
            raise _in_the_middle_of("clipping the gradients")

    again_if_out_of_memory("the clipping of the gradients", clip, check_repeatable)


def step_once(optimizer: AcceleratedOptimizer) -> bool:
    """Do one step for all weights with gradients; make_moments must have been called before.

    Return whether it was done: fp16 skips it if a gradient is infinite. Raise TransientError if memory runs out on the
    way and it cannot be told what was done.
    """
    # For each group, AdamW adds 1 to its counters and then changes all its weights in one operation.
    counters = [
        (group, state["step"]) for group in optimizer.param_groups for state in islice(_states(optimizer, group), 1)
    ]
    versions = [counter._version for _, counter in counters]

    def leave_out_what_is_done() -> None:
        for (group, counter), version in zip(counters, versions, strict=True):
            if counter._version != version:
                _leave_out_if_done(optimizer, group)

    before = _scale(optimizer)
    again_if_out_of_memory("the optimizer's step", optimizer.step, leave_out_what_is_done)
    # A lower scale shows a skipped step. accelerate's `step_was_skipped` does not: fused AdamW is always called and
    # checks itself whether the gradients are finite. Only fp16 waits for the device here.
    return before is None or not bool(_scale(optimizer) < before)


def _scale(optimizer: AcceleratedOptimizer) -> torch.Tensor | None:
    """Return the scale of fp16 gradients, on the device; None in other precisions."""
    if optimizer.scaler is None:
        return None
    return optimizer.scaler.scale(torch.ones((), device=optimizer.param_groups[0]["params"][0].device))


def _leave_out_if_done(optimizer: AcceleratedOptimizer, group: dict) -> None:
    """Drop the gradients of a counted group if its weights were changed; else reset its count.

    Only the first step, before which the moments are 0, shows which of the two it is.
    """
    states = list(_states(optimizer, group))
    if states[0]["step"].item() > 1:
        raise _in_the_middle_of("the optimizer's step")
    if any(state["exp_avg"].any() for state in states):
        for parameter in group["params"]:
            parameter.grad = None
    else:
        for state in states:
            state["step"].zero_()


def _states(optimizer: AcceleratedOptimizer, group: dict) -> Iterator[dict]:
    return (optimizer.state[parameter] for parameter in group["params"] if parameter.grad is not None)


def _in_the_middle_of(what: str) -> TransientError:
    return TransientError(
        f"out of device memory in the middle of {what}; the next attempt resumes from the last checkpoint"
    )
