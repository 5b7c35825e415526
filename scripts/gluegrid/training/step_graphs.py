"""Compute loss and gradients of whole static batches with little work for the host: 16-bit weights and CUDA graphs.

The general path (ForwardPass and backward) launches a thousand small kernels per update, which a modern GPU finishes
faster than the host can launch them. Here autocast's casts of weights are made once per update, and the rest is
captured in a graph for each batch shape, which is replayed on the buffers into which the next batch is copied.

The numbers are those of the general path. The capture is a parameter, so that everything else runs on a CPU too; with
run_again, the same function is called each time.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import numpy
import torch
from torch.func import functional_call

from gluegrid.common.errors import in_one_line
from gluegrid.models.device_memory import is_out_of_memory
from gluegrid.models.packing import pinned
from gluegrid.models.static_layout import Shape
from gluegrid.training.dataset import Rows
from gluegrid.training.device import random_states, set_random_states
from gluegrid.training.flat_gradients import FlatGradients
from gluegrid.training.forward_pass import ForwardPass, StaticBatches

logger = logging.getLogger(__name__)

LARGEST_GRAPH = 8192  # tokens; in larger batches the kernels take the time
WARM_UPS = 2

Function = Callable[[], None]
Capture = Callable[[Function], Function]


class CudaGraphs:
    """Capture functions in graphs that share a memory pool, since none keeps anything there for another."""

    def __init__(self):
        self.pool = torch.cuda.graph_pool_handle()
        self.stream = torch.cuda.Stream()

    def __call__(self, function: Function) -> Function:
        """Call the function to warm up, capture it, and return the function that replays it on the device."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            for _ in range(WARM_UPS):
                function()
        torch.cuda.current_stream().wait_stream(self.stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as NCCL's, may continue with calls that are forbidden during a capture.
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
            function()
        return graph.replay


def run_again(function: Function) -> Function:
    """Return the function itself, which does what its graph would."""
    return function


class HalfPrecisionWeights:
    """Copies, in autocast's dtype, of the linear layers' weights, which autocast would cast again in each pass.

    In fp32 there are none.
    """

    def __init__(self, model: torch.nn.Module, dtype: torch.dtype | None):
        self.copies: dict[str, torch.Tensor] = {}
        self._weights: list[torch.Tensor] = []
        if dtype is None:
            return
        for prefix, module in model.named_modules():
            if type(module) is not torch.nn.Linear:
                continue
            for name, weight in module.named_parameters(prefix=prefix, recurse=False):
                self.copies[name] = weight.detach().to(dtype).requires_grad_()
                self._weights.append(weight.detach())

    def refresh(self) -> None:
        """Update the copies from the current weights."""
        if self.copies:
            with torch.no_grad():
                torch._foreach_copy_([*self.copies.values()], self._weights)


class StepGraphs:
    """Compute the gradients of a model's parameters for whole batches, also in several processes.

    `dtype` is autocast's, None for fp32. Batches of `examples` rows are captured when their shape occurs for the second
    time; the few batches of other sizes are computed without graphs. `gradients` holds the gradients; `why_not` says
    why nothing is captured any more.
    """

    def __init__(
        self,
        forward: ForwardPass,
        examples: int,
        dtype: torch.dtype | None,
        capture: Capture,
    ):
        self.forward = forward
        self.batches: StaticBatches = forward.static
        self.examples = examples
        self.dtype = dtype
        self.gradients: FlatGradients | None = None
        self._names = [name for name, parameter in forward.model.named_parameters() if parameter.requires_grad]
        self._parameters = [parameter for parameter in forward.model.parameters() if parameter.requires_grad]
        self.weights = HalfPrecisionWeights(forward.model, dtype)
        self._capture: Capture | None = capture
        self._steps: dict[Shape, _Step] = {}
        self.why_not: str | None = None
        self._factors = torch.ones(2, device=forward.device)

    def takes(self, rows: Rows, numbers: numpy.ndarray) -> bool:
        """Tell whether a batch of these rows is captured, now or when its shape occurs again."""
        return self._capture is not None and self._is_captured(self.batches.shape(rows, numbers))

    def __call__(
        self, rows: Rows, numbers: numpy.ndarray, weight: float, scale: torch.Tensor | None = None, graph: bool = True
    ) -> torch.Tensor:
        """Compute the gradients of the rows' mean loss times `weight`; return that product, of shape ().

        Gradients are multiplied by `scale`, a GradScaler's, and replace the parameters' earlier gradients. Without
        `graph`, no graph is captured or replayed.
        """
        shape = self.batches.shape(rows, numbers)
        step = self._steps.get(shape)
        if step is None:
            step = self._steps[shape] = _Step(self, shape)
        step.buffer.copy_(pinned(self.batches.on_host(rows, numbers), self.forward.device), non_blocking=True)
        self._factors[0] = weight
        self._factors[1] = 1.0 if scale is None else scale
        self.weights.refresh()
        step.run(self._capture if graph and self._is_captured(shape) else None)
        self.gradients.attach()
        return self.gradients.loss.clone()

    def release(self) -> None:
        """Release the graphs' memory; they are captured again when their shapes occur."""
        if self.forward.device.type == "cuda":
            torch.cuda.synchronize(self.forward.device)  # no graph is being replayed any more
        self._steps.clear()

    def do_without_capturing(self, reason: str) -> None:
        """Compute all batches without graphs from now on."""
        self.why_not = reason
        self._capture = None
        self.release()

    def _is_captured(self, shape: Shape) -> bool:
        return shape.examples == self.examples and shape.tokens <= LARGEST_GRAPH

    def _autocast(self) -> AbstractContextManager:
        if self.dtype is None:
            return nullcontext()
        # A cast that autocast caches would lie outside the graph.
        return torch.autocast(self.forward.device.type, self.dtype, cache_enabled=False)

    def compute(self, buffer: torch.Tensor, shape: Shape) -> None:
        """Compute loss and gradients of the batch in a buffer, reading and writing fixed tensors only."""
        with self._autocast():
            inputs = self.batches.views(buffer, shape)
            output = functional_call(self.forward.model, self.weights.copies, kwargs=inputs)
        loss = output.loss * self._factors[0]
        leaves = [
            self.weights.copies.get(name, parameter)
            for name, parameter in zip(self._names, self._parameters, strict=True)
        ]
        gradients = torch.autograd.grad(loss * self._factors[1], leaves, allow_unused=True)
        used = [(own, new) for own, new in zip(self._parameters, gradients, strict=True) if new is not None]
        if self.gradients is None:
            self.gradients = FlatGradients([parameter for parameter, _ in used])
        self.gradients.replace([new for _, new in used], loss.detach())


class _Step:
    """The batches of one shape: called directly at first, captured the second time, then replayed."""

    def __init__(self, graphs: StepGraphs, shape: Shape):
        self.graphs = graphs
        self.buffer = torch.empty(sum(shape.parts), dtype=torch.int32, device=graphs.forward.device)
        self._function = partial(graphs.compute, self.buffer, shape)
        self._calls = 0
        self._replay: Function | None = None

    def run(self, capture: Capture | None) -> None:
        """Compute the batch in the buffer; without `capture`, by no graph."""
        self._calls += 1
        if capture is not None and self._calls > 1 and self._replay is None:
            self._make(capture)
        if capture is not None and self._replay is not None:
            self._replay()
        else:
            self._function()

    def _make(self, capture: Capture) -> None:
        device = self.graphs.forward.device
        before = random_states(device)
        try:
            self._replay = capture(self._function)
        except Exception as error:  # whatever drivers and versions of torch raise
            reason = "they do not fit in the device's memory" if is_out_of_memory(error) else in_one_line(error)
            self.graphs.do_without_capturing(reason)
            logger.warning("updates are computed without CUDA graphs from now on, since %s", reason)
        finally:
            set_random_states(before, device)
