"""A stand-in for CUDA graphs on a CPU: it shows if a function uses anything but its buffers."""

from functools import partial

import torch

from gluegrid.training.step_graphs import WARM_UPS, Function, StepGraphs

NO_TOKEN = -(2**30)


class PretendedGraphs:
    """Capture as CudaGraphs does, but replay the function itself, and poison its temporary buffers afterwards."""

    def __init__(self):
        self.captured = 0
        self.replayed = 0

    def __call__(self, function: "partial[None]") -> Function:
        """See CudaGraphs."""
        for _ in range(WARM_UPS):
            function()
        self.captured += 1
        graphs: StepGraphs = function.func.__self__
        buffer: torch.Tensor = function.args[0]

        def replay() -> None:
            for tensor in graphs.gradients.tensors:
                tensor.fill_(torch.nan)
            function()
            self.replayed += 1
            buffer.fill_(NO_TOKEN)
            for copy in graphs.weights.copies.values():
                copy.data.fill_(torch.nan)

        return replay
