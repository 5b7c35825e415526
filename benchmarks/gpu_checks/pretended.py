"""Simulate a GPU on a machine without one: its nvidia-smi, its CUDA graphs, and its memory, which runs out."""

import os
from pathlib import Path

import torch
from torch.utils.hooks import RemovableHandle

CARD = "GPU-00000000-1111-2222-3333-444444444444"
BYTES_OF_A_ROW = 2**24
BYTES_BESIDE_BATCHES = 2**20
NVIDIA_SMI = f"""#!/bin/sh
case "$*" in
-L) echo "GPU 0: NVIDIA H100 80GB HBM3 (pretended) (UUID: {CARD})" ;;
*--query-compute-apps*) ;;
*--query-gpu=utilization.gpu*) echo 50 ;;
*--query-gpu=driver_version*) echo 580.0 ;;
*--query-gpu=*) echo "NVIDIA H100 80GB HBM3 (pretended), {CARD}, 580.0, 81920, 4, 0, [N/A]" ;;
*) echo "| NVIDIA-SMI 580.0   Driver Version: 580.0   CUDA Version: 13.0 |" ;;
esac
"""


def put_nvidia_smi_first(folder: Path) -> None:
    """Make programs that this process starts find a stand-in for nvidia-smi, with one GPU that nobody uses."""
    folder.mkdir(parents=True)
    (folder / "nvidia-smi").write_text(NVIDIA_SMI, encoding="utf-8")
    (folder / "nvidia-smi").chmod(0o755)
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"


def graphs():
    """Return a stand-in for CUDA graphs (benchmarks/pretended_graphs.py)."""
    from pretended_graphs import PretendedGraphs

    return PretendedGraphs()


class PretendedCard:
    """The simulated memory of a GPU, used like memory.Card: from its forward pass on, a row takes `BYTES_OF_A_ROW`.

    It runs out with torch's error, when the model has computed its loss, or when the gradient of the loss arrives.
    """

    def __init__(self):
        self.size = 2**40
        self._allowed: float = self.size
        self._of_batch = self._filled = 0

    def taken(self) -> int:
        """See Card."""
        return BYTES_BESIDE_BATCHES + self._filled + self._of_batch

    def kept(self) -> int:
        """See Card."""
        return self.taken()

    def allow(self, size: float) -> None:
        """See Card."""
        self._allowed = size

    def fill(self, size: int) -> object:
        """See Card."""
        card = self

        class Filling:
            def __del__(self) -> None:
                card._filled -= size

        card._filled += size
        return Filling()

    def watch(self, model: torch.nn.Module) -> list[RemovableHandle]:
        """Make a model's batches take memory."""

        def before(*_: object) -> None:
            self._of_batch = 0

        def after(module: torch.nn.Module, args: tuple, kwargs: dict, output: object) -> None:
            self._of_batch = BYTES_OF_A_ROW * len(kwargs["labels"])
            self._check()
            output.loss.register_hook(backward)

        def backward(gradient: torch.Tensor) -> None:
            self._check()
            self._of_batch = 0

        before_hook = model.register_forward_pre_hook(before)
        return [before_hook, model.register_forward_hook(after, with_kwargs=True)]

    def _check(self) -> None:
        if self.taken() > self._allowed:
            raise torch.OutOfMemoryError("pretended")
