"""Compute the gradient of an update, in any number of parts and processes, by the fastest path that proves correct."""

import numpy
import torch

from gluegrid.experiment.run import Run
from gluegrid.models.device_memory import again_if_out_of_memory
from gluegrid.training.dataset import Rows
from gluegrid.training.distributed import Processes
from gluegrid.training.flat_gradients import FlatGradients
from gluegrid.training.forward_pass import CUDA_GRAPHS, STATIC, ForwardPass, MicroBatches
from gluegrid.training.path_check import PATHS, choose_path, take_path
from gluegrid.training.step_graphs import StepGraphs


class Gradients:
    """Compute the gradient of the mean loss of rows into the `grad` of a model's parameters.

    `graphs` compute whole batches if they prove correct. `paths` are the compute paths of all attempts.
    """

    def __init__(
        self, processes: Processes, forward: ForwardPass, rows: Rows, run: Run, graphs: StepGraphs | None = None
    ):
        self.accelerator = processes.accelerator
        self.processes = processes
        self.forward = forward
        self.rows = rows
        self.parameters = [parameter for parameter in forward.model.parameters() if parameter.requires_grad]
        self.micro_batches = MicroBatches("training", forward.parts, run.rows_at_once, device=forward.device)
        self.graphs = graphs
        self.paths: list[str] = []
        self._flat: FlatGradients | None = None

    def choose_path(self, batches: list[numpy.ndarray]) -> None:
        """Choose the compute path of all processes by trying it on these batches of row numbers."""
        check = choose_path(self.forward, self.graphs, self.rows, [self._mine(batch)[0] for batch in batches])
        path = min(self.processes.gathered(check.path), key=PATHS.index)
        take_path(path, self.forward, self.graphs, "another process cannot use it")
        if self.forward.static is None:
            self.graphs = None
        self.forget()

    def compute(self, numbers: numpy.ndarray) -> torch.Tensor:
        """Compute the gradient of the mean loss of the rows with these numbers; return that loss."""
        mine, share = self._mine(numbers)

        def backward(part: numpy.ndarray) -> torch.Tensor:
            return self._backward(mine[part], len(part) * share, is_whole=len(part) == len(mine))

        losses = self.micro_batches.compute(self.rows.lengths[mine], backward, self._forget_all)
        return self._added_up(sum(losses[1:], start=losses[0]))

    def forget(self) -> None:
        """Drop the parameters' gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def _mine(self, numbers: numpy.ndarray) -> tuple[numpy.ndarray, float]:
        """Return the rows of an update that this process computes, shortest first, and the weight of each."""
        by_length = numbers[numpy.argsort(self.rows.lengths[numbers], kind="stable")]
        mine = self.processes.share(by_length)
        # A process without a row of its own computes one with weight 0, so that it has gradients to sum.
        return (mine, 1 / len(numbers)) if len(mine) else (by_length[:1], 0.0)

    def _backward(self, numbers: numpy.ndarray, weight: float, is_whole: bool) -> torch.Tensor:
        """Add the gradients of the rows' mean loss times a weight; return that product."""
        if self.graphs is not None and is_whole:
            return self._by_graphs(numbers, weight)
        self._note_path(self.forward.path)
        if self._flat is not None and not self._flat.is_attached:
            self._flat.clear()
        loss = self.forward(self.rows, numbers, with_labels=True).loss * weight
        self.accelerator.backward(loss)
        return loss.detach()

    def _by_graphs(self, numbers: numpy.ndarray, weight: float) -> torch.Tensor:
        scaler = self.accelerator.scaler
        scale = None if scaler is None else scaler.scale(torch.ones((), device=self.forward.device))
        loss = self.graphs(self.rows, numbers, weight, scale)
        self._flat = self.graphs.gradients
        self._note_path(CUDA_GRAPHS if self.graphs.why_not is None else STATIC)
        return loss

    def _note_path(self, path: str) -> None:
        if path not in self.paths:
            self.paths.append(path)

    def _forget_all(self) -> None:
        """Release the memory of gradients and graphs."""
        self.forget()
        if self.graphs is not None:
            self.graphs.release()

    def _added_up(self, loss: torch.Tensor) -> torch.Tensor:
        """Sum losses and gradients over the processes; return the loss."""
        if self.processes.count == 1:
            return loss
        if self._flat is None:
            self._flat = again_if_out_of_memory(
                "the gradients of all processes", lambda: FlatGradients.of(self.parameters)
            )
        self._flat.loss.copy_(loss)
        self.processes.add_up(self._flat.tensors)
        return self._flat.loss.clone()
