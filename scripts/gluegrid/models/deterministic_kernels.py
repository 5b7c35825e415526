"""Kernels that compute the same bits each time: all that a GPU computes with, but for what has none."""

import logging
import os
import re
from collections.abc import Callable
from typing import TypeVar

import torch

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# How torch says that an operation has none, for which it has no error of its own. Of cuBLAS it says so where the user
# has set CUBLAS_WORKSPACE_CONFIG to what makes its sums differ.
SIGNS = re.compile(r"does not have a deterministic implementation|is not deterministic because it uses CuBLAS")


def use_deterministic_kernels() -> None:
    """Let CUDA compute the same bits each time. Call it before CUDA is used; on a CPU it is so anyway."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Not with warnings only: the backward passes of attention have other kernels only where the others are errors. As
    # torch.use_deterministic_algorithms, but without the second that it takes to import Inductor, which is told here.
    torch.set_deterministic_debug_mode("error")
    os.environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")
    # It would write each tensor twice, lest a program reads what it never wrote.
    torch.utils.deterministic.fill_uninitialized_memory = False
    # Else cuDNN's kernels are those that were fastest this time.
    torch.backends.cudnn.benchmark = False


def allow_nondeterministic_kernels(reason: str) -> None:
    """Let CUDA compute with any kernels from here on; `reason` is for the log."""
    logger.warning("kernels are used from here on that do not always compute the same bits: %s", reason)
    torch.set_deterministic_debug_mode("default")


def allowed_after(error: Exception) -> bool:
    """Allow any kernels where an error says that an operation has no deterministic one; tell whether it does."""
    lacks_kernel = isinstance(error, RuntimeError) and SIGNS.search(str(error)) is not None
    if not lacks_kernel or not torch.are_deterministic_algorithms_enabled():
        return False
    allow_nondeterministic_kernels(str(error).splitlines()[0].partition(",")[0])
    return True


def deterministic_or_else(function: Callable[[], Result]) -> Result:
    """Return what `function` returns, which is called a second time where any kernels have to be allowed for it."""
    try:
        return function()
    except RuntimeError as error:
        if not allowed_after(error):
            raise
    # Not inside `except`: the error's traceback would keep the tensors alive.
    return function()
