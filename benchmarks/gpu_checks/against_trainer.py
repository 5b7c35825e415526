"""Checks 2 and 3: our loop has the same losses as transformers.Trainer for the same rows in the same order."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy
import torch
from arms import Theirs
from cells import BATCH_SIZE, Cell
from in_process import forget_earlier_settings
from torch.optim.optimizer import register_optimizer_step_pre_hook

from gluegrid.experiment.run import read_run
from gluegrid.training.dataset import Order

from .materials import cell_of, ours_on, with_values
from .setting import Findings, Setting, SkippedError

TASKS = ("sst2", "stsb", "mnli")
LARGEST_DIFFERENCE = 1e-4  # of losses in fp32, relative
LARGEST_DIFFERENCE_IN_BF16 = 0.03  # of losses, on average: bf16 has 8 bits
ERROR_OF_FP32 = 1e-5  # of a product of 1,024 x 1,024, relative; TF32's is about 3e-4
SIDE = 1024


def fp32(setting: Setting, findings: Findings) -> None:
    """Compare the losses of each step in fp32, without dropout, on tasks with one text, a number, and two texts."""
    steps = setting.of(54, 2)
    size, rows = setting.size("base"), (steps * BATCH_SIZE, 1)
    cells = [cell_of(setting, task, size, rows, 0.0, precision="fp32") for task in TASKS]
    for cell in cells:
        ours = losses_of_ours(setting, cell)
        findings.figures["error_of_a_product"] = error = _error_of_a_product(setting.device)
        findings.must(error < ERROR_OF_FP32, f"fp32 is not exact: a product is off by {error:.1e}; is TF32 on?")
        theirs = losses_of_trainer(cell)
        difference = float(numpy.max(numpy.abs(ours - theirs) / numpy.abs(theirs).clip(1e-3)))
        findings.figures[cell.task.name] = {"steps": len(ours), "largest_difference": difference}
        findings.must(len(ours) == len(theirs) == cell.rows // BATCH_SIZE, f"{cell.task.name}: steps are missing")
        findings.must(
            difference <= LARGEST_DIFFERENCE,
            f"{cell.task.name}: losses differ from Trainer's by {difference:.1e}; {LARGEST_DIFFERENCE:.0e} is allowed",
        )
        findings.save()


def bf16(setting: Setting, findings: Findings) -> None:
    """Compare the losses in bf16 with Trainer's in bf16 and with our own in fp32; all gradients must be finite."""
    if setting.findings(0).get("figures", {}).get("has_bf16") is False:
        raise SkippedError("this GPU does not support bf16")
    steps = setting.of(100, 4)
    cell = cell_of(setting, "sst2", setting.size("base"), (steps * BATCH_SIZE, 1), 0.0, precision="bf16")
    with _finite_gradients() as are_finite:
        ours = losses_of_ours(setting, cell)
    findings.figures |= {"steps": len(ours), "first_loss": float(ours[0]), "last_losses": float(ours[-10:].mean())}
    findings.must(bool(numpy.isfinite(ours).all()), "losses are not finite")
    findings.must(all(bool(each) for each in are_finite), "gradients are not finite")
    findings.must(len(are_finite) == len(ours), f"{len(are_finite)} steps of the optimizer, but {len(ours)} losses")
    others = {
        "Trainer's bf16": losses_of_trainer(cell, bf16=True),
        "our fp32": losses_of_ours(setting, with_values(setting, cell, precision="fp32")),
    }
    for name, losses in others.items():
        difference = float(numpy.abs(ours - losses).mean() / numpy.abs(losses).mean())
        findings.figures[f"difference from {name}"] = difference
        findings.must(
            difference <= LARGEST_DIFFERENCE_IN_BF16,
            f"losses differ from {name} by {difference:.1%} on average; {LARGEST_DIFFERENCE_IN_BF16:.0%} is allowed",
        )


def losses_of_ours(setting: Setting, cell: Cell) -> numpy.ndarray:
    """Train one epoch of a cell's rows with our loop; return the loss of each step."""
    ours = ours_on(setting, cell)
    ours.train()
    return ours.training.training.state()["losses"].double().cpu().numpy()


def losses_of_trainer(cell: Cell, **arguments: object) -> numpy.ndarray:
    """Train one epoch of a cell's rows with transformers.Trainer, in our order; return the loss of each step.

    `arguments` are further arguments for Trainer.
    """
    forget_earlier_settings()
    theirs = Theirs("b", cell, cell.rows, 1, **arguments)
    trainer, losses = theirs.trainer, []
    order = Order(cell.read_tokens().split(cell.task.train), read_run(cell.run_json))
    trainer._get_train_sampler = lambda *_, **__: _Fixed(order.in_epoch(0).tolist())
    training_step = trainer.training_step

    def noting_step(*values: object, **options: object) -> torch.Tensor:
        loss = training_step(*values, **options)
        losses.append(loss.detach())
        return loss

    trainer.training_step = noting_step
    theirs.train()
    return torch.stack(losses).double().cpu().numpy()


class _Fixed(torch.utils.data.Sampler):
    """Rows in a given order."""

    def __init__(self, numbers: list[int]):
        self.numbers = numbers

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


@contextmanager
def _finite_gradients() -> Iterator[list[torch.Tensor]]:
    """Yield a list that gets, at each optimizer step, whether all gradients are finite: a tensor on their device."""
    are_finite: list[torch.Tensor] = []

    def look(optimizer: torch.optim.Optimizer, *_: object) -> None:
        parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        are_finite.append(torch.stack([torch.isfinite(gradient).all() for gradient in gradients]).all())

    hook = register_optimizer_step_pre_hook(look)
    try:
        yield are_finite
    finally:
        hook.remove()


def _error_of_a_product(device: str) -> float:
    """Return the relative error of a product of fp32 matrices."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(SIDE, SIDE, generator=generator).to(device) for _ in range(2))
    exact = left.double() @ right.double()
    return float(((left @ right).double() - exact).norm() / exact.norm())
