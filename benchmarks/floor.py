"""The time of an update against the GPU's theoretical limits: matrix products and the optimizer's memory traffic."""

import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import numpy
import torch
from arms import Ours
from cells import BATCH_SIZE, Cell
from in_process import forget_earlier_settings, steady_steps, wait_for_device

from gluegrid.experiment.run import read_run

BYTES_PER_PARAMETER = 28  # AdamW in fp32 reads weight, gradient and two moments, and writes all but the gradient
SIDE = {"cuda": 8192, "cpu": 1024}  # of the square matrices whose product is timed
COPIED_BYTES = {"cuda": 2**31, "cpu": 2**27}
TRIES = 20
PRODUCTS_AT_ONCE = 50  # timed together: a single small one would take as long as its launch
Shape = tuple[int, int, int]  # rows, columns and inner dimension of a matrix product


def measure(cell: Cell) -> dict:
    """Return the seconds of our updates, over half of a sample's batches, and their lower bounds.

    The floor is 6 FLOPs per encoder parameter and real token, and the products of attention, at the rate of a large
    matrix product in bf16 (on a CPU fp32), plus 28 bytes per parameter at the rate of a copy.
    `floor_seconds_at_real_shapes` uses the measured time of the encoder's own matrix products, with as many rows as an
    update has tokens.
    """
    device = read_run(cell.run_json).device
    forget_earlier_settings()
    ours = Ours(cell, cell.rows, 1)
    steps = cell.rows // BATCH_SIZE
    with steady_steps(steps) as steady:
        ours.train()
    lengths = cell.read_tokens().split(cell.task.train).lengths
    model = ours.training.model
    flops, of_attention = flops_of_update(model, lengths) / steps, flops_of_attention(model, lengths) / steps
    rate, bandwidth = matmul_rate(device), copy_bandwidth(device)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    of_optimizer = BYTES_PER_PARAMETER * parameters / bandwidth
    products = products_of_update(model, round(lengths.sum().item() / steps))
    return {
        "seconds": steady.seconds / steady.steps,
        "floor_seconds": flops / rate + of_optimizer,
        "floor_seconds_at_real_shapes": seconds_of(products, device) + of_attention / rate + of_optimizer,
        "products_per_step": {"x".join(map(str, shape)): count for shape, count in products.items()},
        "steps": steps,
        "tokens_per_step": lengths.sum().item() / steps,
        "flops_per_step": flops,
        "parameters": parameters,
        "matmul_flops_per_second": rate,
        "copied_bytes_per_second": bandwidth,
    }


def flops_of_update(model: torch.nn.Module, lengths: numpy.ndarray) -> float:
    """Return the FLOPs of a forward and backward pass over rows of these lengths, without padding."""
    encoder = sum(parameter.numel() for name, parameter in model.named_parameters() if ".encoder." in name)
    return float(6 * encoder * lengths.sum()) + flops_of_attention(model, lengths)


def flops_of_attention(model: torch.nn.Module, lengths: numpy.ndarray) -> float:
    """Return the FLOPs with which tokens attend to each other."""
    attention = 12 * model.config.num_hidden_layers * model.config.hidden_size
    return float(attention * (lengths.astype(float) ** 2).sum())


def products_of_update(model: torch.nn.Module, tokens: int) -> Counter[Shape]:
    """Return the shapes of the encoder's matrix products over so many tokens, and the number of each.

    A linear layer has one forward, and one each for the gradients of its inputs and its weights.
    """
    products: Counter[Shape] = Counter()
    for name, module in model.named_modules():
        if ".encoder." in name and isinstance(module, torch.nn.Linear):
            outputs, inputs = module.weight.shape
            products.update([(tokens, outputs, inputs), (tokens, inputs, outputs), (outputs, inputs, tokens)])
    return products


def seconds_of(products: Counter[Shape], device: str) -> float:
    """Return the seconds that matrix products take, one after the other."""
    return sum(count * _seconds_of_product(*shape, device) for shape, count in products.items())


def _seconds_of_product(rows: int, columns: int, summed: int, device: str) -> float:
    left, right = _matrix(rows, summed, device), _matrix(summed, columns, device)
    product = _matrix(rows, columns, device)
    multiply = partial(torch.matmul, left, right, out=product)
    return _fastest(_many_times(multiply, device)) / PRODUCTS_AT_ONCE


def _many_times(work: Callable[[], object], device: str) -> Callable[[], object]:
    """Return a function that repeats the work so often; on a GPU as a graph, so that nothing waits for the host."""

    def repeat() -> None:
        for _ in range(PRODUCTS_AT_ONCE):
            work()

    if device == "cpu":
        return repeat
    repeat()
    wait_for_device()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        repeat()
    return graph.replay


def matmul_rate(device: str) -> float:
    """Return the FLOPs per second of a large matrix product."""
    side = SIDE[device]
    left, right = (_matrix(side, side, device) for _ in range(2))
    return 2 * side**3 / _fastest(lambda: left @ right)


def _matrix(rows: int, columns: int, device: str) -> torch.Tensor:
    return torch.randn(rows, columns, device=device, dtype=torch.bfloat16 if device == "cuda" else torch.float32)


def copy_bandwidth(device: str) -> float:
    """Return the bytes per second, read and written, of copying memory on the device."""
    source = torch.ones(COPIED_BYTES[device], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * COPIED_BYTES[device] / _fastest(lambda: target.copy_(source))


def _fastest(work: Callable[[], object]) -> float:
    """Return the seconds of the fastest of some tries, for the lowest floor."""
    seconds = []
    for _ in range(TRIES):
        wait_for_device()
        started = time.perf_counter()
        work()
        wait_for_device()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
