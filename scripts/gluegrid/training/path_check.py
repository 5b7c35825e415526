"""Which path computes a cell's updates: the fastest whose numbers, on the cell's own first batches, are right.

Gradients of static batches may differ from the exact ones (the general path's in fp32, without dropout) at most twice
as much as the general path's own do in the run's precision, and by a little. Graphs must give the bits that the same
function gives when it is called, dropout and what it draws among them. A path that fails is not taken.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import numpy
import torch

from gluegrid.common.errors import in_one_line
from gluegrid.experiment.run import COMPUTE_PATHS
from gluegrid.models.deterministic_kernels import deterministic_or_else
from gluegrid.models.device_memory import free_memory, is_out_of_memory
from gluegrid.models.packing import exact_fp32
from gluegrid.training.dataset import Rows
from gluegrid.training.device import random_states, set_random_states
from gluegrid.training.forward_pass import CUDA_GRAPHS, STATIC, ForwardPass
from gluegrid.training.step_graphs import StepGraphs

logger = logging.getLogger(__name__)

TOLERANCE = 1e-3  # of a norm of gradients, relative to the exact one's
TOLERANCE_OF_GRAPHS = 1e-2  # where equal bits are not promised
SMALLEST_NORM = 1e-7
PATHS = tuple(COMPUTE_PATHS)  # the fastest last

Gradients = list[torch.Tensor | None]
Result = TypeVar("Result")


@dataclass
class PathCheck:
    """What was found: `path`, and why none that is faster is taken (None: it is the fastest).

    `error` is the largest of the static gradients' errors, relative to the exact gradients' norm, and `general_error`
    that of the general path; None where it did not come to that.
    """

    path: str
    reason: str | None = None
    error: float | None = None
    general_error: float | None = None
    seconds: float = 0.0


def choose_path(forward: ForwardPass, graphs: StepGraphs | None, rows: Rows, batches: list[numpy.ndarray]) -> PathCheck:
    """Try the static path, with graphs if there are any, on batches; leave to `forward` and `graphs` what is right.

    Random states, and weights, are as before. Gradients are lost.
    """
    if forward.static is None:
        return PathCheck(forward.path)
    started = time.perf_counter()
    before, static = random_states(forward.device), forward.static
    check = PathCheck(forward.path)
    try:
        # The first updates that are computed: what has no deterministic kernels says so here.
        check.reason = deterministic_or_else(lambda: _why_not_static(check, forward, graphs, rows, batches))
        if check.reason is None and graphs is not None:
            check.reason = _why_no_graphs(forward, graphs, rows, batches)
            check.path = CUDA_GRAPHS if check.reason is None else check.path
        elif check.reason is not None:
            static = None
    except Exception as error:  # whatever kernels, drivers and versions of torch do
        static = None
        check.reason = "memory does not hold the check" if is_out_of_memory(error) else in_one_line(error)
    finally:
        forward.static = static
        forward.model.train()
        set_random_states(before, forward.device)
    check.path = forward.path if static is None else check.path
    take_path(check.path, forward, graphs, check.reason)
    free_memory()
    check.seconds = time.perf_counter() - started
    _tell(check)
    return check


def take_path(path: str, forward: ForwardPass, graphs: StepGraphs | None, reason: str | None) -> None:
    """Let updates be computed by this path, and by none that is faster."""
    if PATHS.index(path) < PATHS.index(STATIC):
        forward.static = None
    if graphs is not None and graphs.why_not is None and path != CUDA_GRAPHS:
        graphs.do_without_capturing(reason)


def _tell(check: PathCheck) -> None:
    why = "" if check.reason is None else f", since {check.reason}"
    errors = "" if check.error is None else f"; error {check.error:.2g}, of the general path {check.general_error:.2g}"
    logger.info("updates are computed by: %s%s (checked in %.1f s%s)", check.path, why, check.seconds, errors)


def _why_not_static(
    check: PathCheck, forward: ForwardPass, graphs: StepGraphs | None, rows: Rows, batches: list[numpy.ndarray]
) -> str | None:
    """Return why static gradients are not right; None where they are."""
    forward.model.eval()
    parameters = [parameter for parameter in forward.model.parameters() if parameter.requires_grad]

    def general(numbers: numpy.ndarray) -> Gradients:
        loss = forward(rows, numbers, with_labels=True).loss
        return list(torch.autograd.grad(loss, parameters, allow_unused=True))

    def fast(numbers: numpy.ndarray) -> Gradients:
        graphs(rows, numbers, 1.0, graph=False)
        gradients = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None
        return gradients

    def errors(numbers: numpy.ndarray) -> tuple[float, float]:
        with _in_the_general_way(forward, nullcontext), exact_fp32():
            exact = general(numbers)
        with _in_the_general_way(forward, forward.autocast):
            general_error = _difference(general(numbers), exact)
        return _difference(general(numbers) if graphs is None else fast(numbers), exact), general_error

    for batch in batches:
        error, general_error = _of_as_many_as_fit(errors, batch)
        check.error, check.general_error = max(check.error or 0, error), max(check.general_error or 0, general_error)
        # Not `>`: what is no number is not right either.
        if not error <= 2 * general_error + TOLERANCE:
            of_general = f"those of the general path by {general_error:.2g}"
            return f"static gradients differ by {error:.2g} from the exact ones, {of_general}"
    return None


def _of_as_many_as_fit(function: Callable[[numpy.ndarray], Result], numbers: numpy.ndarray) -> Result:
    """Return what a function returns for rows of these numbers, or for some where memory does not hold all."""
    while True:
        try:
            return function(numbers)
        except RuntimeError as error:
            if len(numbers) == 1 or not is_out_of_memory(error):
                raise
        free_memory()
        numbers = numbers[::2]


def _why_no_graphs(forward: ForwardPass, graphs: StepGraphs, rows: Rows, batches: list[numpy.ndarray]) -> str | None:
    """Return why graphs are not right; None where they are. Those that are made stay."""
    forward.model.train()
    for numbers in batches:
        if not graphs.takes(rows, numbers):
            return "its batches are too small or too large"
        states = random_states(forward.device)
        outcomes = []
        try:
            for graph in (False, True):
                set_random_states(states, forward.device)
                loss = graphs(rows, numbers, 1.0, graph=graph)
                gradients = [tensor.clone() for tensor in graphs.gradients.tensors]
                outcomes.append([loss, *gradients, *_drawn(forward.device)])
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return "the device's memory does not hold them"
        if graphs.why_not is not None:
            return graphs.why_not
        if not all(map(_is_same, *outcomes)):
            return "graphs do not give the same bits" if _has_equal_bits() else "graphs do not give the same numbers"
    return None


def _has_equal_bits() -> bool:
    return not torch.cuda.is_available() or torch.are_deterministic_algorithms_enabled()


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Tell whether tensors are the same: to the last bit, or, where that is not promised, nearly, but what is drawn."""
    if _has_equal_bits() or not one.is_floating_point():
        return torch.equal(one, other)
    return bool((one - other).norm() <= TOLERANCE_OF_GRAPHS * one.norm())


def _drawn(device: torch.device) -> list[torch.Tensor]:
    states = random_states(device)
    return [states["torch"], *states["cuda"]]


@contextmanager
def _in_the_general_way(forward: ForwardPass, autocast: Callable[[], AbstractContextManager]) -> Iterator[None]:
    """Let a forward pass compute packed batches, in this precision, for a while."""
    before = forward.static, forward.autocast
    forward.static, forward.autocast = None, autocast
    try:
        yield
    finally:
        forward.static, forward.autocast = before


def _difference(gradients: Gradients, exact: Gradients) -> float:
    """Return the norm of the difference, relative to the exact ones'; infinite where others have gradients."""
    if [one is None for one in gradients] != [one is None for one in exact]:
        return float("inf")
    pairs = [(one.float(), other) for one, other in zip(gradients, exact, strict=True) if one is not None]
    difference = torch.stack([(one - other).norm() for one, other in pairs]).norm()
    return (difference / torch.stack([other.norm() for _, other in pairs]).norm().clamp(min=SMALLEST_NORM)).item()
