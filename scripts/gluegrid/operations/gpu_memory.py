"""Estimate the GPU memory that a cell needs, and what helps if it does not fit.

Checked against the peaks of real training steps on a CPU (docs/estimates.md). What CUDA, its libraries and its graphs
take on top is from their documentation and has not been measured on a GPU yet.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from gluegrid.experiment.run import rows_at_once, updates_by_graphs
from gluegrid.operations.cost_model import ModelSize, TaskSize, trained_parameters
from gluegrid.operations.devices import DEVICES, Device

HALF = ("bf16", "fp16")
GRADIENTS, MOMENTS = 4, 8  # bytes per trained parameter
# The bytes that a layer keeps per token and hidden unit for its backward pass, in 16 bits (True) or fp32. First what
# attention keeps of padded rows (queries, keys, values and its output); then all else: the inputs of linear layers and
# normalizations, the feed-forward layer's activations, four times as wide, and dropout masks.
KEPT_BY_ATTENTION = {True: 8, False: 16}
KEPT_BESIDE = {True: 38, False: 54}
KEPT_BY_ADAPTERS = 8
KEPT_OF_A_SQUARE = 12  # per pair of tokens and head, if attention is not computed in one kernel
HEAD_SIZE = 64
HIDDEN = 4  # bytes of a layer's input, which is what gradient checkpointing keeps
AT_THE_ENDS = 30  # per padded token and hidden unit: embeddings, their normalization, gradients in flight
WITHOUT_GRADIENTS = {True: 40, False: 60}  # per token and hidden unit in prediction, where layers keep nothing
TOKENS_OF_A_PREDICTION = 32_768
FRAGMENTATION = 1.1  # of torch's allocator, for temporary tensors
CUDA = 0.8e9  # context, kernels, workspaces of cuBLAS
OTHER_PROCESSES = 0.5e9  # NCCL's buffers, and flat gradients
USABLE = 0.97  # of a GPU's memory
SQUARES = ("deberta",)  # has its own attention
PADDED = (*SQUARES, "modernbert")  # all others' batches are packed (forward_pass.py)
TOKENS_OF_A_PASS = 8192  # of padding, from which on a padded batch is split by length


@dataclass(frozen=True)
class Batch:
    """The largest batch that a device is likely to compute: its rows, their tokens, and the longest row's tokens."""

    rows: int
    tokens: float
    longest: int


@dataclass(frozen=True)
class GpuMemory:
    """Bytes on each GPU of a cell: resident during training, temporary activations, and CUDA's own libraries.

    `graphs` is what CUDA graphs keep in addition, and `predicting` what prediction takes temporarily; if either does
    not fit, training and prediction manage with less on their own.
    """

    resident: float
    activations: float
    graphs: float
    predicting: float
    libraries: float

    @property
    def needed(self) -> float:
        """What training needs at least to compute each batch as a whole."""
        return self.resident + self.activations + self.libraries

    @property
    def expected(self) -> float:
        """The highest peak if there is enough memory."""
        return self.resident + max(self.activations + self.graphs, self.predicting) + self.libraries


def largest_batch(values: dict, task: TaskSize, rows: int | None = None) -> Batch:
    """Return the largest batch of so many rows (None: the run's own number) that is likely to occur in training.

    Lengths of GLUE's examples have a standard deviation of about half their mean; of thousands of batches, one is about
    four standard deviations from the mean.
    """
    split = task.train
    rows = max(min(rows or rows_at_once(values), split.rows_of(values["max_train_samples"])), 1)
    longest = min(split.longest or values["max_seq_length"], values["max_seq_length"])
    mean = split.tokens / max(split.rows, 1)
    if values["train_sampling_strategy"] == "group_by_length":
        return Batch(rows, rows * longest, longest)
    likely = max(rows * mean + 2 * mean * math.sqrt(rows), (rows - 1) * mean + longest)
    return Batch(rows, min(rows * longest, likely), longest)


def gpu_memory(values: dict, model: ModelSize, task: TaskSize, precision: str, rows: int | None = None) -> GpuMemory:
    """Return the memory of a run with these values in this precision, for batches of so many rows on each GPU."""
    half = precision in HALF
    shadows = 2 * model.passed if half else 0  # 16-bit copies of the weights
    tokens = sum(split.tokens for split in (*task.validation, *task.test))
    processes = values["gpus"] * values["nodes"]
    kept = activations(values, model, largest_batch(values, task, rows), half) if values["do_train"] else 0
    trained = trained_parameters(values, model) if values["do_train"] else 0
    return GpuMemory(
        resident=4 * model.parameters + shadows + (GRADIENTS + MOMENTS) * trained,
        activations=FRAGMENTATION * kept,
        graphs=FRAGMENTATION * kept if _has_graphs(values, model) else 0,
        predicting=WITHOUT_GRADIENTS[half] * model.hidden_size * min(tokens, TOKENS_OF_A_PREDICTION),
        libraries=CUDA + (OTHER_PROCESSES if processes > 1 else 0),
    )


def activations(values: dict, model: ModelSize, batch: Batch, half: bool) -> float:
    """Return the bytes that a training step keeps for its backward pass, in 16 bits (`half`) or fp32."""
    padded, tokens = batch.rows * batch.longest, batch.tokens
    if _is_padded(values, model):
        padded = tokens = min(padded, tokens + TOKENS_OF_A_PASS)
    of_a_layer = (padded * KEPT_BY_ATTENTION[half] + tokens * KEPT_BESIDE[half]) * model.hidden_size
    if values["lora"] is not None:
        of_a_layer += tokens * KEPT_BY_ADAPTERS * model.hidden_size
    if values["attn_implementation"] == "eager" or _is_one_of(SQUARES, model):
        of_a_layer += padded**2 / batch.rows * KEPT_OF_A_SQUARE * model.hidden_size / HEAD_SIZE
    ends = AT_THE_ENDS * padded * model.hidden_size
    if values["gradient_checkpointing"]:
        return ends + of_a_layer + model.layers * tokens * HIDDEN * model.hidden_size
    return ends + model.layers * of_a_layer


def _has_graphs(values: dict, model: ModelSize) -> bool:
    return values["do_train"] and updates_by_graphs(values) and not _is_padded(values, model)


def _is_padded(values: dict, model: ModelSize) -> bool:
    return values["attn_implementation"] != "auto" or _is_one_of(PADDED, model)


def _is_one_of(kinds: tuple[str, ...], model: ModelSize) -> bool:
    return any(kind in model.kind for kind in kinds)


@dataclass(frozen=True)
class Shortage:
    """A cell that does not fit on a GPU: how many rows at once would fit (0: none), and what would help."""

    needed: float
    rows: int
    rows_wanted: int
    rows_on_two: int
    with_checkpointing: bool
    on_two_gpus: bool
    card_that_holds_it: float | None


def shortage(values: dict, model: ModelSize, task: TaskSize, card: Device) -> Shortage | None:
    """Return the shortage of a cell on a GPU; None if it fits."""
    precision, usable = card.precision(values["precision"]), USABLE * 1e9 * card.memory

    def needed(rows: int | None = None, **changes: object) -> float:
        return gpu_memory(values | changes, model, task, precision, rows).needed

    if needed() <= usable:
        return None
    wanted = rows_at_once(values)
    rows = next((rows for rows in _halved(wanted) if needed(rows) <= usable), 0)
    at_once = wanted if rows else 1  # give advice for whole batches, or at least for one row
    return Shortage(
        needed=needed(at_once),
        rows=rows,
        rows_wanted=wanted,
        rows_on_two=math.ceil(wanted / 2),
        with_checkpointing=not values["gradient_checkpointing"]
        and needed(at_once, gradient_checkpointing=True) <= usable,
        # Each of two GPUs computes half the rows and holds the whole model. MIG slices cannot work together.
        on_two_gpus=rows > 0
        and wanted > 1
        and not card.is_slice
        and needed(math.ceil(wanted / 2), gpus=2 * values["gpus"]) <= usable,
        card_that_holds_it=min(
            (larger.memory for larger in DEVICES if USABLE * 1e9 * larger.memory >= needed(at_once)), default=None
        ),
    )


def _halved(rows: int) -> Iterator[int]:
    """Yield the sizes of micro-batches to try when memory runs out, each half of the last."""
    while rows > 1:
        rows = math.ceil(rows / 2)
        yield rows
