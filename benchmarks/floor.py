"""The time of one update against what the card could do at best: matrix products and the optimizer's memory traffic."""

import time
from collections.abc import Callable

import numpy
import torch
from arms import Ours
from cells import BATCH_SIZE, Cell
from in_process import forget_earlier_settings, wait_for_device

from gluegrid.experiment.run import read_run

BYTES_PER_PARAMETER = 28  # AdamW in fp32 reads weight, gradient and two moments, and writes all but the gradient
SIDE = {"cuda": 8192, "cpu": 1024}  # of the square matrices whose product is timed
COPIED_BYTES = {"cuda": 2**31, "cpu": 2**27}
TRIES = 20


def measure(cell: Cell) -> dict:
    """Return the seconds of an update of ours, over a sample of batches, and of the floor beneath it.

    Floor: 6 FLOPs per encoder parameter and real token, and the products of attention, at the rate of a large matrix
    product in bf16 (on a CPU fp32), plus 28 bytes per parameter at the rate of a copy.
    """
    device = read_run(cell.run_json).device
    forget_earlier_settings()
    ours = Ours(cell, cell.rows, 1)
    ours.train()
    runtime = ours.train()["train_runtime"]
    steps = cell.rows // BATCH_SIZE
    lengths = cell.read_tokens().split(cell.task.train).lengths
    flops = flops_of_update(ours.training.model, lengths) / steps
    rate, bandwidth = matmul_rate(device), copy_bandwidth(device)
    parameters = sum(parameter.numel() for parameter in ours.training.model.parameters())
    return {
        "seconds": runtime / steps,
        "floor_seconds": flops / rate + BYTES_PER_PARAMETER * parameters / bandwidth,
        "steps": steps,
        "tokens_per_step": lengths.sum().item() / steps,
        "flops_per_step": flops,
        "parameters": parameters,
        "matmul_flops_per_second": rate,
        "copied_bytes_per_second": bandwidth,
    }


def flops_of_update(model: torch.nn.Module, lengths: numpy.ndarray) -> float:
    """Return the FLOPs of forward and backward pass over rows of these lengths, without padding."""
    encoder = sum(parameter.numel() for name, parameter in model.named_parameters() if ".encoder." in name)
    attention = 12 * model.config.num_hidden_layers * model.config.hidden_size
    return float(6 * encoder * lengths.sum() + attention * (lengths.astype(float) ** 2).sum())


def matmul_rate(device: str) -> float:
    """Return the FLOPs per second of a large matrix product."""
    side = SIDE[device]
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / _fastest(lambda: left @ right)


def copy_bandwidth(device: str) -> float:
    """Return the bytes per second, read and written, of copying memory on the device."""
    source = torch.ones(COPIED_BYTES[device], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * COPIED_BYTES[device] / _fastest(lambda: target.copy_(source))


def _fastest(work: Callable[[], object]) -> float:
    """Return the seconds of the fastest of some tries: at best, so that the floor is the lowest."""
    seconds = []
    for _ in range(TRIES):
        wait_for_device()
        started = time.perf_counter()
        work()
        wait_for_device()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
