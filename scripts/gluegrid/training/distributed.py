"""The processes that train one cell together, each on its own device; usually there is one."""

from functools import partial
from typing import TypeVar

import numpy
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from gluegrid.common.errors import TransientError
from gluegrid.models.device_memory import again_if_out_of_memory

Items = TypeVar("Items", list, numpy.ndarray)


class Processes:
    """The communication between the processes. All must call each method at the same point; one alone sends nothing."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.count = accelerator.num_processes
        self.rank = accelerator.process_index
        # A group besides the devices' own: sending flags through the GPU would stall it at every step.
        self._group = torch.distributed.new_group(backend="gloo") if self.count > 1 else None
        self._asked: tuple[torch.Tensor, torch.distributed.Work] | None = None

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, items: Items) -> Items:
        """Return this process's share of rows or batches, which are dealt out in turns."""
        return items[self.rank :: self.count]

    def from_main(self, value: object) -> object:
        """Return the main process's value."""
        return value if self.count == 1 else broadcast_object_list([value])[0]

    def gathered(self, value: object) -> list:
        """Return the values of all processes, by rank."""
        return [value] if self.count == 1 else gather_object([value])

    def largest(self, number: int) -> int:
        """Return the largest of all processes' numbers, none of them negative.

        With several processes it is the largest of the call before, so that none waits for the others. It is 0 at the
        first call and after an answer that was not 0, since that call started no exchange.
        """
        if self.count == 1:
            return number
        largest = self._answer()
        if largest == 0:
            tensor = torch.tensor(number)
            work = torch.distributed.all_reduce(
                tensor, torch.distributed.ReduceOp.MAX, group=self._group, async_op=True
            )
            self._asked = (tensor, work)
        return largest

    def _answer(self) -> int:
        if self._asked is None:
            return 0
        tensor, work = self._asked
        self._asked = None
        work.wait()
        return int(tensor)

    def add_up(self, tensors: list[torch.Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""
        for tensor in tensors if self.count > 1 else ():
            again_if_out_of_memory("the sum of the gradients", partial(torch.distributed.all_reduce, tensor))

    def check_equal(self, tensors: list[torch.Tensor], what: str) -> None:
        """Raise TransientError if these are not bitwise equal in all processes."""
        if self.count > 1 and len(set(self.gathered(_checksum(tensors)))) > 1:
            raise TransientError(
                f"{what} differ between processes; the next attempt resumes from the last checkpoint."
                " If this happens again, train each cell on one GPU"
            )

    def part(self) -> None:
        """Close the connection between the processes; without this, some abort when they exit."""
        if self.count > 1:
            self._answer()
            torch.distributed.destroy_process_group()


def _checksum(tensors: list[torch.Tensor]) -> tuple[int, ...]:
    """Return the sum of the bits, read as int32, of each tensor of 4-byte numbers."""
    sums = [tensor.detach().contiguous().view(torch.int32).sum(dtype=torch.int64) for tensor in tensors]
    return tuple(torch.stack(sums).tolist())
