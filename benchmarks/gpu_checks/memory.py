"""Check 5: training gives the same results when GPU memory really runs out. Also find the largest batch that fits."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy
import torch
from arms import Ours
from cells import Cell
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from gluegrid.models.deterministic_kernels import deterministic_or_else
from gluegrid.models.device_memory import free_memory, is_out_of_memory
from gluegrid.training.dataset import Rows

from .materials import cell_of, ours_on
from .pretended import PretendedCard
from .setting import Findings, Setting

BATCH_SIZES = 256, 16  # so large on a GPU that activations take most of the memory
BATCH_SIZE_OF_GRAPHS = 64
MOST_DIFFERENCE = 1e-4  # of losses, relative: micro-batches add up in another order
MOST_DIFFERENCE_OF_THE_SAME = 1e-6
FIRST_ROWS, MOST_ROWS = 32, 2**16
NEAR_ENOUGH = 1.1
ROUNDING = 2**22  # bytes: torch takes memory in blocks

Way = Callable[[torch.nn.Module], Iterator[None]]


def run_out(setting: Setting, findings: Findings) -> None:
    """Train with less memory than a batch needs: in the forward pass, only in the backward pass, and for a moment.

    If memory stays short, micro-batches give the same losses except for rounding, without dropout. If garbage takes it,
    the same batch is computed again, and losses are the same even with dropout. If CUDA graphs have taken it, they are
    given up.
    """
    size, batch_size = setting.size("small"), setting.of(*BATCH_SIZES)
    values = {"precision": "fp32", "per_device_train_batch_size": batch_size}
    rows = (setting.of(6, 3) * batch_size, 1)
    memory = Memory(PretendedCard() if setting.pretend else Card())
    cell = cell_of(setting, "mnli", size, rows, 0.0, **values)
    undisturbed, _ = _train(setting, cell, memory.measured)
    for name, way in (("forward", memory.short_in_forward), ("backward", memory.short_in_backward)):
        losses, micro_rows = _train(setting, cell, way)
        _compare(findings, name, losses, undisturbed, MOST_DIFFERENCE)
        findings.figures[name]["micro_batch_rows"] = micro_rows
        findings.must(micro_rows is not None, f"{name}: memory never ran out, or no batch was split")
    cell = cell_of(setting, "mnli", size, rows, 0.1, **values)
    undisturbed, _ = _train(setting, cell, memory.measured)
    losses, micro_rows = _train(setting, cell, memory.full_of_garbage)
    _compare(findings, "garbage, with dropout", losses, undisturbed, MOST_DIFFERENCE_OF_THE_SAME)
    findings.must(micro_rows is None, "garbage: batches stayed split, though they fit once the garbage is collected")
    findings.must(memory.was_collected, "garbage: memory never ran out, or the garbage was not collected")
    values["per_device_train_batch_size"] = setting.of(BATCH_SIZE_OF_GRAPHS, batch_size)
    cell = cell_of(setting, "mnli", size, rows, 0.0, **values)
    undisturbed, _ = _train(setting, cell, memory.measured)
    losses, micro_rows = _train(setting, cell, memory.full_of_graphs)
    _compare(findings, "graphs", losses, undisturbed, MOST_DIFFERENCE)
    findings.figures["graphs"]["micro_batch_rows"] = micro_rows


def _compare(findings: Findings, name: str, losses: numpy.ndarray, expected: numpy.ndarray, allowed: float) -> None:
    difference = float(numpy.max(numpy.abs(losses - expected) / numpy.abs(expected)))
    findings.figures[name] = {"largest_difference": difference}
    findings.must(
        difference <= allowed,
        f"{name}: losses differ by {difference:.1e} from those with enough memory; {allowed:.0e} is allowed",
    )
    findings.save()


def _train(setting: Setting, cell: Cell, way: Way) -> tuple[numpy.ndarray, int | None]:
    """Train a cell's rows once; return the losses, and the rows of micro-batches.

    Its model is in one of a memory's ways from the second step on. The first step, before which paths are tried, has
    enough memory.
    """
    ours = ours_on(setting, cell)
    with _after_first_step(contextmanager(way), ours.training.model):
        ours.train()
    losses = ours.training.training.state()["losses"].double().cpu().numpy()
    return losses, ours.training.micro_batch_rows["train"]


@contextmanager
def _after_first_step(way: Callable, model: torch.nn.Module) -> Iterator[None]:
    """Enter a way after the first optimizer step."""
    entered = None

    def enter(*_: object) -> None:
        nonlocal entered
        if entered is None:
            entered = way(model)
            entered.__enter__()

    hook = register_optimizer_step_post_hook(enter)
    try:
        yield
    finally:
        hook.remove()
        if entered is not None:
            entered.__exit__(None, None, None)


class Card:
    """The GPU's memory, of which torch may be allowed only a part: the errors that it then raises are real."""

    def __init__(self):
        self.size = torch.cuda.get_device_properties().total_memory

    def taken(self) -> int:
        """Return the bytes that tensors take."""
        return torch.cuda.memory_allocated()

    def kept(self) -> int:
        """Return the bytes that torch reserves, for tensors or for itself."""
        return torch.cuda.memory_reserved()

    def allow(self, size: float) -> None:
        """Allow at most so many bytes, and free what torch reserves but does not use."""
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(min(1.0, size / self.size))

    def fill(self, size: int) -> object:
        """Return an object that takes so many bytes."""
        return torch.empty(size, dtype=torch.uint8, device="cuda")

    def watch(self, model: torch.nn.Module) -> list[RemovableHandle]:
        """Make a model's batches take memory; on a GPU, they do."""
        return []


class Memory:
    """Ways to give a model in training too little memory. Each is entered at some moment, and left."""

    def __init__(self, card: Card | PretendedCard):
        self.card = card
        self.before_forward = self.after_forward = 0  # the most bytes taken then
        self.was_collected = False

    def measured(self, model: torch.nn.Module) -> Iterator[None]:
        """Allow all memory, and measure what batches take."""
        self.before_forward = self.after_forward = 0

        def before(*_: object) -> None:
            self.before_forward = max(self.before_forward, self.card.taken())

        def after(*_: object) -> None:
            self.after_forward = max(self.after_forward, self.card.taken())

        yield from self._with(model, before, after)

    def short_in_forward(self, model: torch.nn.Module) -> Iterator[None]:
        """Allow memory for a part of the activations."""
        yield from self._with(model, lambda *_: self.card.allow(self._with_activations(0.6)))

    def short_in_backward(self, model: torch.nn.Module) -> Iterator[None]:
        """Allow all memory in the forward pass, and then only a part of what a batch needs."""
        limit = self._with_activations(0.8)
        yield from self._with(model, lambda *_: self.card.allow(self.card.size), lambda *_: self.card.allow(limit))

    def full_of_garbage(self, model: torch.nn.Module) -> Iterator[None]:
        """Fill the free memory once, with what is freed as soon as garbage is collected."""

        filling: weakref.ref | None = None

        def fill(*_: object) -> None:
            nonlocal filling
            if filling is None:
                limit = int(1.5 * self.after_forward)
                self.card.allow(limit)
                circle: list = [self.card.fill(limit - self.card.kept() - ROUNDING)]
                circle.append(circle)
                filling = weakref.ref(circle[0])
            elif filling() is None:
                self.was_collected = True

        gc.disable()
        try:
            yield from self._with(model, fill)
        finally:
            gc.enable()

    def full_of_graphs(self, model: torch.nn.Module) -> Iterator[None]:
        """Allow a part of the activations beside what is taken now: new shapes find no room beside CUDA graphs."""
        self.card.allow(self.card.size)
        self.card.allow(self.card.kept() + 0.6 * (self.after_forward - self.before_forward))
        yield from self._with(model)

    def _with_activations(self, share: float) -> float:
        return self.before_forward + share * (self.after_forward - self.before_forward)

    def _with(
        self, model: torch.nn.Module, before: Callable | None = None, after: Callable | None = None
    ) -> Iterator[None]:
        hooks = [model.register_forward_pre_hook(before)] if before else []
        hooks += self.card.watch(model)
        hooks += [model.register_forward_hook(after)] if after else []
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            self.card.allow(self.card.size)
            free_memory()


def largest_batch(ours: Ours, rows: Rows, setting: Setting, seconds: float) -> dict:
    """Return how many copies of the longest row a model in training holds at once, by real trials within some seconds.

    `fits` are known to fit. `too_many` are known not to; it is None if the trials ended before.
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
    """Return how many rows to try next; None if the limit is known well enough."""
    if too_many is None:
        count = fits * 2 or FIRST_ROWS
        return count if count <= MOST_ROWS else None
    return None if too_many <= fits * NEAR_ENOUGH or too_many - fits <= 1 else (fits + too_many) // 2


def _holds(ours: Ours, rows: Rows, number: int, count: int, setting: Setting) -> bool:
    """Tell whether the forward and the backward pass of so many copies of a row fit."""

    def compute() -> None:
        if setting.pretend and count > 3 * FIRST_ROWS:
            raise torch.OutOfMemoryError("pretended")
        loss = ours.training.forward(rows, numpy.full(count, number), with_labels=True).loss
        ours.training.accelerator.backward(loss)

    try:
        deterministic_or_else(compute)
        return True
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    finally:
        for parameter in ours.training.model.parameters():
            parameter.grad = None
    free_memory()
    return False
