"""Batches in parts: those best computed apart, and smaller ones where the device's memory does not hold them."""

import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy
import torch

from gluegrid.common.errors import TrainingError
from gluegrid.models.device_memory import free_memory, is_out_of_memory
from gluegrid.random_states import random_states, set_random_states

logger = logging.getLogger(__name__)

CPU = torch.device("cpu")
Result = TypeVar("Result")


class MicroBatches:
    """Computes batches in the parts that `split` makes of them, of at most `most_rows` rows each (None: of any size).

    `rows` is a lower limit, None until the memory does not hold a part, not even with all freed that can be. Then it is
    halved until one fits, and stays so. Every try begins with the same random states, that of the `device` among them.
    """

    def __init__(
        self,
        what: str,
        split: Callable[[numpy.ndarray], list[numpy.ndarray]],
        most_rows: int | None = None,
        rows: int | None = None,
        device: torch.device = CPU,
    ):
        self.what = what
        self.split = split
        self.most_rows = most_rows
        self.rows = rows
        self.device = device

    def compute(
        self, lengths: numpy.ndarray, function: Callable[[numpy.ndarray], Result], undo: Callable[[], None]
    ) -> list[Result]:
        """Return what `function` returns for each part of a batch of rows of these lengths, given the rows' positions.

        `undo` takes back what the parts before one that did not fit have left. Raises TrainingError when not even a
        single row fits.
        """
        before = random_states(self.device)
        is_freed = False
        while True:
            largest = 0
            try:
                results = []
                for part in self._parts(lengths):
                    largest = max(largest, len(part))
                    results.append(function(part))
                return results
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            # Not inside `except`: the error's traceback would keep the tensors alive.
            results = None
            undo()
            set_random_states(before, self.device)
            free_memory()
            if is_freed:
                self._halve(largest, int(lengths.max()))
            else:
                logger.info("out of the device's memory: trying %s again, with all freed that can be", self.what)
            is_freed = True

    def _parts(self, lengths: numpy.ndarray) -> Iterator[numpy.ndarray]:
        most = min(self.most_rows or len(lengths), self.rows or len(lengths))
        for part in self.split(lengths):
            yield from (part[start : start + most] for start in range(0, len(part), most))

    def _halve(self, rows: int, longest: int) -> None:
        if rows == 1:
            raise TrainingError(
                f"the device's memory does not hold {self.what} of one example of up to {longest} tokens;"
                " choose a smaller max_seq_length or model, or a larger GPU"
            )
        self.rows = (rows + 1) // 2
        logger.warning(
            "out of the device's memory: %s goes on in micro-batches of %d; the batches stay the same",
            self.what,
            self.rows,
        )
