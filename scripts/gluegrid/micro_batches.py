"""Batches that the device's memory does not hold, computed in parts."""

import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from gluegrid.errors import TrainingError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class MicroBatches:
    """Computes batches in parts of at most `rows` rows: whole ones (None), until the memory does not hold one.

    Then the parts are halved until they fit, and stay so.
    """

    def __init__(self, what: str, rows: int | None = None):
        self.what = what
        self.rows = rows

    def compute(
        self, batch: dict[str, torch.Tensor], function: Callable[[dict, float], Result], undo: Callable[[], None]
    ) -> list[Result]:
        """Return what `function` returns for each part, which it is given with its share of the batch's rows.

        `undo` takes back what the parts before one that did not fit have left. Raises TrainingError when not even a
        single row fits.
        """
        while True:
            try:
                return [function(part, share) for part, share in self._parts(batch)]
            except RuntimeError as error:
                if not should_reduce_batch_size(error):
                    raise
            # Not inside `except`: the error's traceback would keep the tensors alive.
            undo()
            clear_device_cache(garbage_collection=True)
            self._halve(batch)

    def _parts(self, batch: dict[str, torch.Tensor]) -> Iterator[tuple[dict, float]]:
        rows = len(batch["input_ids"])
        size = self.rows or rows
        for start in range(0, rows, size):
            part = {name: tensor[start : start + size] for name, tensor in batch.items()}
            yield part, len(part["input_ids"]) / rows

    def _halve(self, batch: dict[str, torch.Tensor]) -> None:
        rows, length = batch["input_ids"].shape
        size = min(self.rows or rows, rows)
        if size == 1:
            raise TrainingError(
                f"the device's memory does not hold {self.what} of one example of {length} tokens;"
                " choose a smaller max_seq_length or model, or a larger GPU"
            )
        self.rows = (size + 1) // 2
        logger.warning(
            "out of the device's memory: %s goes on in micro-batches of %d; the updates stay the same",
            self.what,
            self.rows,
        )
