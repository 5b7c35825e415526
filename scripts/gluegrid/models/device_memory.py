"""When the device's memory gives out: which errors say so, and another try with all freed that can be."""

import logging
import re
from collections.abc import Callable
from typing import TypeVar

import torch
from accelerate.utils.memory import clear_device_cache

from gluegrid.common.errors import TrainingError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# What those say that take memory beside torch's allocator, which has an error of its own. Nothing less: what is not
# supported, or a bad address, would fail with fewer rows too, and its reason would be lost.
SIGNS = re.compile(
    r"\b(CUDA|HIP)(\]:| error:| driver error:)? out of memory"
    r"|\b(cudaErrorMemoryAllocation|hipErrorOutOfMemory|CUDA_ERROR_OUT_OF_MEMORY)\b"
    r"|\b[A-Z]+_[A-Z_]*ALLOC(ATION)?_FAILED\b"  # cuBLAS, cuDNN, cuSOLVER, cuSPARSE
    r"|Cuda failure( \d+)? 'out of memory'|Failed to CUDA calloc"  # NCCL
    r"|DefaultCPUAllocator: can't allocate memory"
)


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error says that the device's memory, or the host's in its place, does not hold something."""
    if not isinstance(error, RuntimeError):
        return False
    return isinstance(error, torch.OutOfMemoryError) or SIGNS.search(str(error)) is not None


def free_memory() -> None:
    """Give back what nothing uses any more; torch keeps it for itself, where libraries beside it do not get it."""
    clear_device_cache(garbage_collection=True)


def again_if_out_of_memory(
    what: str, function: Callable[[], Result], before_again: Callable[[], None] = lambda: None
) -> Result:
    """Return what `function` returns; where memory gives out, free what can be freed and call it a second time.

    `before_again` sees to it that what is done is not done twice. Raises TrainingError where memory gives out again.
    """
    for is_last in (False, True):
        try:
            return function()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Not inside `except`: the error's traceback would keep the tensors alive.
        if not is_last:
            logger.info("out of the device's memory: trying %s again, with all freed that can be", what)
            before_again()
            free_memory()
    raise TrainingError(f"the device's memory does not hold {what}; choose a smaller model, or a larger GPU")
