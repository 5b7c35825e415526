"""Use deterministic kernels, which compute the same bits each time, except for operations that have none."""

import logging
import os
import re
from collections.abc import Callable
from typing import TypeVar

import torch

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# torch's messages for an operation without a deterministic kernel, since there is no exception class for it. For cuBLAS
# they appear if the user has set CUBLAS_WORKSPACE_CONFIG to a value that makes its sums vary.
SIGNS = re.compile(r"does not have a deterministic implementation|is not deterministic because it uses CuBLAS")


def use_deterministic_kernels() -> None:
    """Make CUDA compute the same bits each time. Call it before CUDA is used; CPUs always do."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Warnings alone would not do: attention's backward pass uses deterministic kernels only in error mode. This does
    # what torch.use_deterministic_algorithms does, without importing Inductor, which takes a second and is set below.
    torch.set_deterministic_debug_mode("error")
    os.environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")
    # Otherwise torch would fill each new tensor, to protect programs that read uninitialized memory.
    torch.utils.deterministic.fill_uninitialized_memory = False
    # Otherwise cuDNN would choose the kernels that happen to be fastest this time.
    torch.backends.cudnn.benchmark = False


def allow_nondeterministic_kernels(reason: str) -> None:
    """Allow all kernels from now on; `reason` is for the log."""
    logger.warning("from now on, kernels are used that are not deterministic: %s", reason)
    torch.set_deterministic_debug_mode("default")


def allowed_after(error: Exception) -> bool:
    """Allow all kernels if an error says that an operation has no deterministic one; tell whether it does."""
    lacks_kernel = isinstance(error, RuntimeError) and SIGNS.search(str(error)) is not None
    if not lacks_kernel or not torch.are_deterministic_algorithms_enabled():
        return False
    allow_nondeterministic_kernels(str(error).splitlines()[0].partition(",")[0])
    return True


def deterministic_or_else(function: Callable[[], Result]) -> Result:
    """Return what `function` returns; call it a second time if it needs kernels that are not deterministic."""
    try:
        return function()
    except RuntimeError as error:
        if not allowed_after(error):
            raise
    # Not inside `except`: the error's traceback would keep the tensors alive.
    return function()
