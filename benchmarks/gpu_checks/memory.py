"""Check 5: the card's memory really gives out, and the same is trained; and the largest batch that it holds."""

import gc
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy
import torch
from arms import Ours
from cells import Cell
from in_process import forget_earlier_settings

from gluegrid.models.device_memory import free_memory, is_out_of_memory
from gluegrid.training.dataset import Rows

from .materials import cell_of
from .setting import Findings, Setting

BATCH_SIZES = 256, 16  # on a card so large that activations are most of what is taken
MOST_DIFFERENCE = 1e-4  # of losses, relative: micro-batches add up in another order
MOST_DIFFERENCE_OF_THE_SAME = 1e-6
FIRST_ROWS, MOST_ROWS = 32, 2**16
NEAR_ENOUGH = 1.1


def run_out(setting: Setting, findings: Findings) -> None:
    """Train with less memory than a batch needs: in the forward pass, in the backward pass alone, and for a moment.

    Where it lacks for good, micro-batches give the same losses but for rounding, without dropout. Where garbage takes
    it, the same batch is computed again, and with dropout too the losses are the same.
    """
    batch_size = setting.of(*BATCH_SIZES)
    rows = (setting.of(8, 2) * batch_size, 1)
    values = {"precision": "fp32", "per_device_train_batch_size": batch_size}
    size = setting.size("small")
    cell = cell_of(setting, "mnli", size, rows, 0.0, **values)
    memory = PretendedMemory(batch_size // 2) if setting.pretend else CardsMemory()
    undisturbed, _ = train(cell, memory.measured)
    for name, way in (("forward", memory.short_in_forward), ("backward", memory.short_in_backward)):
        losses, micro_rows = train(cell, way)
        _compare(findings, name, losses, undisturbed, MOST_DIFFERENCE)
        findings.figures[name]["micro_batch_rows"] = micro_rows
        findings.must(micro_rows is not None, f"{name}: memory never gave out, or nothing was split")
    with_dropout = cell_of(setting, "mnli", size, rows, 0.1, **values)
    undisturbed, _ = train(with_dropout, memory.measured)
    losses, micro_rows = train(with_dropout, memory.full_of_garbage)
    _compare(findings, "garbage, with dropout", losses, undisturbed, MOST_DIFFERENCE_OF_THE_SAME)
    findings.must(micro_rows is None, "garbage: a batch was split for good, though it fits once the garbage is gone")
    findings.must(memory.times_out > 0, "garbage: memory never gave out")


def _compare(findings: Findings, name: str, losses: numpy.ndarray, expected: numpy.ndarray, allowed: float) -> None:
    difference = float(numpy.max(numpy.abs(losses - expected) / numpy.abs(expected)))
    findings.figures[name] = {"largest_difference": difference}
    findings.must(
        difference <= allowed, f"{name}: losses differ by {difference:.1e} from those with enough memory; {allowed:.0e} is allowed"
    )
    findings.save()


def train(cell: Cell, way: Callable[[torch.nn.Module], Iterator[None]]) -> tuple[numpy.ndarray, int | None]:
    """Train a cell's rows once, with its model in one of a memory's ways; return the losses, and rows of micro-batches."""
    forget_earlier_settings()
    ours = Ours(cell, cell.rows, 1)
    with contextmanager(way)(ours.training.model):
        ours.train()
    losses = ours.training.training.state()["losses"].double().cpu().numpy()
    return losses, ours.training.micro_batch_rows["train"]


class CardsMemory:
    """The memory of a card, of which torch is allowed a part only: what it then raises is real."""

    def __init__(self):
        self.all = torch.cuda.get_device_properties().total_memory
        self.before_forward = self.after_forward = 0  # bytes that tensors take, at the first batch
        self.times_out = 0

    def measured(self, model: torch.nn.Module) -> Iterator[None]:
        """Allow all, and measure what a batch takes."""
        self.before_forward = self.after_forward = 0

        def before(*_: object) -> None:
            self.before_forward = self.before_forward or torch.cuda.memory_allocated()

        def after(*_: object) -> None:
            self.after_forward = max(self.after_forward, torch.cuda.memory_allocated())

        yield from self._with(model, before, after)

    def short_in_forward(self, model: torch.nn.Module) -> Iterator[None]:
        """Allow a part of the activations."""
        limit = self.before_forward + 0.6 * (self.after_forward - self.before_forward)
        yield from self._with(model, lambda *_: self._allow(limit))

    def short_in_backward(self, model: torch.nn.Module) -> Iterator[None]:
        """Allow all in the forward pass, and behind it no more than a whole batch has taken by then."""

        def no_more(*_: object) -> None:
            torch.cuda.empty_cache()
            self._allow(self.after_forward)

        yield from self._with(model, lambda *_: self._allow(self.all), no_more)

    def full_of_garbage(self, model: torch.nn.Module) -> Iterator[None]:
        """Fill the memory, before the second batch, with a tensor that is free as soon as somebody collects garbage."""
        calls = itertools.count()

        def fill(*_: object) -> None:
            if next(calls) == 1:
                torch.cuda.empty_cache()
                self._allow(self.after_forward * 1.5)
                size = int(self.after_forward * 1.5) - torch.cuda.memory_reserved() - 2**22
                circle: list = [torch.empty(size, dtype=torch.uint8, device="cuda")]
                circle.append(circle)
                self.times_out += 1

        gc.disable()
        try:
            yield from self._with(model, fill)
        finally:
            gc.enable()

    def _with(self, model: torch.nn.Module, before: Callable, after: Callable | None = None) -> Iterator[None]:
        hooks = [model.register_forward_pre_hook(before)]
        hooks += [model.register_forward_hook(after)] if after else []
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            self._allow(self.all)
            free_memory()

    def _allow(self, size: float) -> None:
        torch.cuda.set_per_process_memory_fraction(min(1.0, size / self.all))


class PretendedMemory:
    """A memory that gives out, by an error of torch's, where a batch has more than so many rows."""

    def __init__(self, most_rows: int):
        self.most_rows = most_rows
        self.times_out = 0

    def measured(self, model: torch.nn.Module) -> Iterator[None]:
        """Hold all."""
        yield

    def short_in_forward(self, model: torch.nn.Module) -> Iterator[None]:
        """Give out before the model computes."""

        def before(module: torch.nn.Module, args: tuple, kwargs: dict) -> None:
            self._give_out(len(kwargs["labels"]) > self.most_rows)

        yield from _hooked(model.register_forward_pre_hook(before, with_kwargs=True))

    def short_in_backward(self, model: torch.nn.Module) -> Iterator[None]:
        """Give out when the gradient of the loss comes."""

        def after(module: torch.nn.Module, args: tuple, kwargs: dict, output) -> None:
            too_many = len(kwargs["labels"]) > self.most_rows
            output.loss.register_hook(lambda gradient: self._give_out(too_many))

        yield from _hooked(model.register_forward_hook(after, with_kwargs=True))

    def full_of_garbage(self, model: torch.nn.Module) -> Iterator[None]:
        """Give out once, at the second batch."""
        calls = itertools.count()
        yield from _hooked(model.register_forward_pre_hook(lambda *_: self._give_out(next(calls) == 1)))

    def _give_out(self, really: bool) -> None:
        if really:
            self.times_out += 1
            raise torch.OutOfMemoryError("pretended")


def _hooked(hook) -> Iterator[None]:
    try:
        yield
    finally:
        hook.remove()


def largest_batch(ours: Ours, rows: Rows, setting: Setting, seconds: float) -> dict:
    """Return how many of the longest row a model in training holds at once, found by real trials within some seconds.

    `fits` is known to, `too_many` not to, None where the trials ended before.
    """
    longest = int(rows.lengths.argmax())
    ends = setting.seconds_left - seconds
    fits, too_many = 0, None
    while setting.seconds_left > ends and (count := _next_count(fits, too_many)) is not None:
        if _holds(ours, rows, longest, count, setting):
            fits = count
        else:
            too_many = count
    return {"tokens_of_a_row": int(rows.lengths[longest]), "fits": fits, "too_many": too_many}


def _next_count(fits: int, too_many: int | None) -> int | None:
    """Return how many rows to try next; None when it is known well enough."""
    if too_many is None:
        count = fits * 2 or FIRST_ROWS
        return count if count <= MOST_ROWS else None
    return None if too_many <= fits * NEAR_ENOUGH or too_many - fits <= 1 else (fits + too_many) // 2


def _holds(ours: Ours, rows: Rows, number: int, count: int, setting: Setting) -> bool:
    """Tell whether forward and backward pass of so many copies of a row fit."""
    try:
        if setting.pretend and count > 3 * FIRST_ROWS:
            raise torch.OutOfMemoryError("pretended")
        loss = ours.training.forward(rows, numpy.full(count, number), with_labels=True).loss
        ours.training.accelerator.backward(loss)
        return True
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    finally:
        loss = None
        for parameter in ours.training.model.parameters():
            parameter.grad = None
    free_memory()
    return False
