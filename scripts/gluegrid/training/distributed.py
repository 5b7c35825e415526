"""The processes that train one cell together, each on its own device; mostly there is one."""

from collections.abc import Iterator
from functools import partial
from typing import TypeVar

import numpy
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from gluegrid.models.device_memory import again_if_out_of_memory

BYTES_OF_A_MESSAGE = 2**26
Items = TypeVar("Items", list, numpy.ndarray)


class Processes:
    """What the processes tell each other. All must call a method at the same point; with one, nothing is sent."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.count = accelerator.num_processes
        self.rank = accelerator.process_index
        # Beside the devices' own group: a flag that went over a GPU would make it wait at every step.
        self._group = torch.distributed.new_group(backend="gloo") if self.count > 1 else None

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, items: Items) -> Items:
        """Return this process's share of rows or batches, which are dealt out in turn."""
        return items[self.rank :: self.count]

    def from_main(self, value: object) -> object:
        """Return the main process's value."""
        return value if self.count == 1 else broadcast_object_list([value])[0]

    def gathered(self, value: object) -> list:
        """Return the values of all processes, in their order."""
        return [value] if self.count == 1 else gather_object([value])

    def largest(self, number: int) -> int:
        """Return the largest of all processes' numbers."""
        if self.count == 1:
            return number
        tensor = torch.tensor(number)
        torch.distributed.all_reduce(tensor, torch.distributed.ReduceOp.MAX, group=self._group)
        return int(tensor)

    def add_up(self, tensors: list[torch.Tensor]) -> None:
        """Replace each tensor by the sum of those of all processes."""
        if self.count == 1:
            return
        for together in _buckets(tensors):
            flat = again_if_out_of_memory("the sum of the gradients", partial(_sum, together))
            parts = flat.split([tensor.numel() for tensor in together])
            for tensor, part in zip(together, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def part(self) -> None:
        """End the processes' connection, after which they tell each other nothing. Else some abort when they exit."""
        if self.count > 1:
            torch.distributed.destroy_process_group()


def _sum(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Return the sums of all processes' tensors in a row; the tensors stay as they are."""
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    torch.distributed.all_reduce(flat)
    return flat


def _buckets(tensors: list[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Yield the tensors in groups: fewer messages than one for each, and less memory than all at once."""
    bucket, size = [], 0
    for tensor in tensors:
        if bucket and size + tensor.nbytes > BYTES_OF_A_MESSAGE:
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.nbytes
    yield bucket
