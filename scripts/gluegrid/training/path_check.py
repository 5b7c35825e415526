"""Choose the path that computes a cell's updates: the fastest that is correct on the cell's own first batches.

Without dropout, the error of static gradients in the run's precision may be at most twice that of the general path,
plus a tolerance; errors are relative to the general path in fp32. Graphs must give the same bits as a direct call of
the same function, dropout and random states included. A path that fails is not used.
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

TOLERANCE = 1e-3  # of gradients, relative to the norm of the exact ones
TOLERANCE_OF_GRAPHS = 1e-2  # if kernels are not deterministic
SMALLEST_NORM = 1e-7
PATHS = tuple(COMPUTE_PATHS)  # the fastest last

Gradients = list[torch.Tensor | None]
Result = TypeVar("Result")


@dataclass
class PathCheck:
    """The chosen `path`, and the `reason` why no faster one is used (None: it is the fastest).

    `error` is the largest error of the static gradients, relative to the norm of the exact ones, and `general_error`
    that of the general path; None if not measured.
    """

    path: str
    reason: str | None = None
    error: float | None = None
    general_error: float | None = None
    seconds: float = 0.0


def choose_path(forward: ForwardPass, graphs: StepGraphs | None, rows: Rows, batches: list[numpy.ndarray]) -> PathCheck:
    """Try the static path, and graphs if there are any, on batches; disable those that are not correct.

    Leave random states and weights as they were. Gradients are lost.
    """
    if forward.static is None:
        return PathCheck(forward.path)
    started = time.perf_counter()
    before, static = random_states(forward.device), forward.static
    check = PathCheck(forward.path)
    try:
        # These are the first updates: operations without deterministic kernels show here.
        check.reason = deterministic_or_else(lambda: _why_not_static(check, forward, graphs, rows, batches))
        if check.reason is None and graphs is not None:
            check.reason = _why_no_graphs(forward, graphs, rows, batches)
            check.path = CUDA_GRAPHS if check.reason is None else check.path
        elif check.reason is not None:
            static = None
    except Exception as error:  # whatever kernels, drivers and versions of torch raise
        static = None
        check.reason = "the check does not fit in memory" if is_out_of_memory(error) else in_one_line(error)
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
    """Compute updates by this path, and by none that is faster."""
    if PATHS.index(path) < PATHS.index(STATIC):
        forward.static = None
    if graphs is not None and graphs.why_not is None and path != CUDA_GRAPHS:
        graphs.do_without_capturing(reason)


def _tell(check: PathCheck) -> None:
    why = "" if check.reason is None else f", since {check.reason}"
    errors = "" if check.error is None else f"; error {check.error:.2g}, general path {check.general_error:.2g}"
    logger.info("updates are computed by: %s%s (checked in %.1f s%s)", check.path, why, check.seconds, errors)


def _why_not_static(
    check: PathCheck, forward: ForwardPass, graphs: StepGraphs | None, rows: Rows, batches: list[numpy.ndarray]
) -> str | None:
    """Return why static gradients are not correct; None if they are."""
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
        # Not `>`: NaN is not correct either.
        if not error <= 2 * general_error + TOLERANCE:
            of_general = f"the general path's by {general_error:.2g}"
            return f"static gradients differ from the exact ones by {error:.2g}, {of_general}"
    return None


def _of_as_many_as_fit(function: Callable[[numpy.ndarray], Result], numbers: numpy.ndarray) -> Result:
    """Call a function with these row numbers, or with some of them if memory does not hold all; return its result."""
    while True:
        try:
            return function(numbers)
        except RuntimeError as error:
            if len(numbers) == 1 or not is_out_of_memory(error):
                raise
        free_memory()
        numbers = numbers[::2]


def _why_no_graphs(forward: ForwardPass, graphs: StepGraphs, rows: Rows, batches: list[numpy.ndarray]) -> str | None:
    """Return why graphs are not correct; None if they are. Keep the captured graphs."""
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
            return "they do not fit in the device's memory"
        if graphs.why_not is not None:
            return graphs.why_not
        if not all(map(_is_same, *outcomes)):
            return "graphs do not give the same bits" if _has_equal_bits() else "graphs do not give the same numbers"
    return None


def _has_equal_bits() -> bool:
    return not torch.cuda.is_available() or torch.are_deterministic_algorithms_enabled()


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Tell whether tensors are equal: bitwise, or nearly if kernels are not deterministic, except for random states."""
    if _has_equal_bits() or not one.is_floating_point():
        return torch.equal(one, other)
    return bool((one - other).norm() <= TOLERANCE_OF_GRAPHS * one.norm())


def _drawn(device: torch.device) -> list[torch.Tensor]:
    states = random_states(device)
    return [states["torch"], *states["cuda"]]


@contextmanager
def _in_the_general_way(forward: ForwardPass, autocast: Callable[[], AbstractContextManager]) -> Iterator[None]:
    """Let a forward pass compute packed batches in this precision inside the context."""
    before = forward.static, forward.autocast
    forward.static, forward.autocast = None, autocast
    try:
        yield
    finally:
        forward.static, forward.autocast = before


def _difference(gradients: Gradients, exact: Gradients) -> float:
    """Return the norm of the difference relative to the exact ones; infinite if other parameters have gradients."""
    if [one is None for one in gradients] != [one is None for one in exact]:
        return float("inf")
    pairs = [(one.float(), other) for one, other in zip(gradients, exact, strict=True) if one is not None]
    difference = torch.stack([(one - other).norm() for one, other in pairs]).norm()
    return (difference / torch.stack([other.norm() for _, other in pairs]).norm().clamp(min=SMALLEST_NORM)).item()
