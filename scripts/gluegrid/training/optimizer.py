"""AdamW as transformers.Trainer makes it; running out of memory neither repeats a step nor leaves one half done."""

from collections.abc import Iterator
from itertools import islice

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer

from gluegrid.common.errors import TransientError
from gluegrid.experiment.run import Run
from gluegrid.models.device_memory import again_if_out_of_memory


def adamw(parameters: list[torch.nn.Parameter], run: Run) -> torch.optim.AdamW:
    """Return the optimizer: biases and the weights of normalisations, which are vectors, do not decay."""
    groups = [
        {"params": [parameter for parameter in parameters if parameter.dim() > 1], "weight_decay": run.weight_decay},
        {"params": [parameter for parameter in parameters if parameter.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=run.learning_rate, fused=True)


def make_moments(optimizer: AcceleratedOptimizer) -> None:
    """Make what AdamW would make in its first step, where it is not there: twice the memory of the weights.

    So early, it is batches that do not fit, which can be computed in parts; an update that is half done can not.
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
    """Clip the gradients, which one operation changes: all or none.

    Raises TransientError where memory gives out when those of fp16 are scaled back, and perhaps not clipped.
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
    """Do one step for all weights that have gradients, of which make_moments must have made the moments.

    Return whether it was done: with fp16 it is left out where a gradient is infinite. Raises TransientError where
    memory gives out on the way, and what is done cannot be told.
    """
    # AdamW goes from group to group: it adds 1 to the group's counters, and changes all its weights in one operation.
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
    # A lower scale says so. accelerate's `step_was_skipped` does not: where AdamW is fused, it is called all the same,
    # and looks itself whether the gradients are finite. Only fp16 waits here for the device.
    return before is None or not bool(_scale(optimizer) < before)


def _scale(optimizer: AcceleratedOptimizer) -> torch.Tensor | None:
    """Return the scale of fp16's gradients, on the device; None in another precision."""
    if optimizer.scaler is None:
        return None
    return optimizer.scaler.scale(torch.ones((), device=optimizer.param_groups[0]["params"][0].device))


def _leave_out_if_done(optimizer: AcceleratedOptimizer, group: dict) -> None:
    """Of a group that has been counted, drop the gradients if its weights were changed; else take back the count.

    That shows in the first step only, before which the moments are 0.
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
        f"the device's memory gave out in the middle of {what}; the next attempt goes on from the last checkpoint"
    )
