"""Recognize errors that mean the device is out of memory, and retry after freeing what can be freed."""

import logging
import re
from collections.abc import Callable
from typing import TypeVar

import torch
from accelerate.utils.memory import clear_device_cache

from gluegrid.common.errors import TrainingError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# Messages of libraries that allocate without torch's allocator, which has its own exception. Nothing broader: an
# unsupported operation or a bad address would fail with fewer rows, too, and its cause would be lost.
SIGNS = re.compile(
    r"\b(CUDA|HIP)(\]:| error:| driver error:)? out of memory"
    r"|\b(cudaErrorMemoryAllocation|hipErrorOutOfMemory|CUDA_ERROR_OUT_OF_MEMORY)\b"
    r"|\b[A-Z]+_[A-Z_]*ALLOC(ATION)?_FAILED\b"  # cuBLAS, cuDNN, cuSOLVER, cuSPARSE
    r"|Cuda failure( \d+)? 'out of memory'|Failed to CUDA calloc"  # NCCL
    r"|DefaultCPUAllocator: can't allocate memory"
)


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error means that the device (or a CPU's host) is out of memory."""
    if not isinstance(error, RuntimeError):
        return False
    return isinstance(error, torch.OutOfMemoryError) or SIGNS.search(str(error)) is not None


def free_memory() -> None:
    """Release unused memory, which torch caches and other libraries then cannot get."""
    clear_device_cache(garbage_collection=True)


def again_if_out_of_memory(
    what: str, function: Callable[[], Result], before_again: Callable[[], None] = lambda: None
) -> Result:
    """Return what `function` returns; if memory runs out, free what can be freed and call it a second time.

    `before_again` undoes what the first call did. Raises TrainingError if memory runs out again.
    """
    for is_last in (False, True):
        try:
            return function()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Not inside `except`: the error's traceback would keep the tensors alive.
        if not is_last:
            logger.info("the device is out of memory: trying %s again after freeing unused memory", what)
            before_again()
            free_memory()
    raise TrainingError(f"the device's memory is too small for {what}; choose a smaller model, or a larger GPU")
