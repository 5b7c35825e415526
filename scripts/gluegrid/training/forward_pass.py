"""Compute a model's outputs from rows of tokens, with as little padding as possible."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import numpy
import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from gluegrid.common.errors import TrainingError, in_one_line
from gluegrid.experiment.run import COMPUTE_PATHS
from gluegrid.models.classifier import pads_left
from gluegrid.models.deterministic_kernels import allowed_after
from gluegrid.models.device_memory import free_memory, is_out_of_memory
from gluegrid.models.packing import LAYOUT, Layout, is_token, make_packable, to_device
from gluegrid.models.static_layout import Shape, first_position, rounded_up
from gluegrid.training.dataset import Rows
from gluegrid.training.device import random_states, set_random_states

logger = logging.getLogger(__name__)

CPU = torch.device("cpu")
PADDED, PACKED, STATIC, CUDA_GRAPHS = COMPUTE_PATHS
Result = TypeVar("Result")
# The cost of another pass, in tokens: of adding up gradients on a CPU, and of launching kernels on a GPU.
TOKENS_OF_A_PASS = {"cpu": 64, "cuda": 8192}
MOST_ROWS_OF_A_PART = 1024  # of a padded batch, to keep the search for parts short


class ForwardPass:
    """A model and the layout of its batches: packed if the model allows it, else padded in parts of similar length.

    `label_order` maps a label of the data to the model's output for it (None: they are the same). `longest` is the
    length of the longest row, in tokens; `autocast` returns the context in which the model computes. `why_padded` says
    why batches are not packed, None if they are.

    On a GPU, packed batches are static if the model allows it (static_layout.py). `static` is None if it does not, and
    may be set to None to switch back. `is_static` overrides the choice by device.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        longest: int,
        pad_token_id: int,
        with_token_types: bool,
        label_order: list[int] | None = None,
        attention: str = "auto",
        autocast: Callable[[], AbstractContextManager] = nullcontext,
        is_static: bool | None = None,
    ):
        self.model = model
        self.longest = longest
        self.pad_token_id = pad_token_id
        self.with_token_types = with_token_types
        self.label_order = None if label_order is None else numpy.array(label_order)
        self.autocast = autocast
        self.why_padded: str | None = f"attn_implementation is {attention}"
        if attention == "auto":
            self.why_padded = make_packable(model, longest)
            how = "packed" if self.why_padded is None else f"padded and split by length, since {self.why_padded}"
            logger.info("batches are %s", how)
        else:
            _use_attention(model, attention)
        self.static: StaticBatches | None = None
        if self.why_padded is None and (self.device.type == "cuda" if is_static is None else is_static):
            self.static = self._static_batches()

    def _static_batches(self) -> "StaticBatches | None":
        position, reason = first_position(self.model, self.longest, self.autocast)
        if position is None:
            logger.info("batches are not static, since %s", reason)
            return None
        return StaticBatches(self, position)

    @property
    def device(self) -> torch.device:
        """The model's device."""
        return self.model.device

    @property
    def path(self) -> str:
        """The path that computes batches: PADDED, PACKED or STATIC."""
        return PADDED if self.why_padded is not None else PACKED if self.static is None else STATIC

    def parts(self, lengths: numpy.ndarray) -> list[numpy.ndarray]:
        """Return positions of a batch's rows, shortest first, in the parts that are best computed separately."""
        by_length = numpy.argsort(lengths, kind="stable")
        if self.why_padded is None:
            return [by_length]
        bounds = bounds_of_parts(lengths[by_length], TOKENS_OF_A_PASS[self.device.type])
        return numpy.split(by_length, bounds)

    def __call__(self, rows: Rows, numbers: numpy.ndarray, with_labels: bool) -> ModelOutput:
        """Return the model's outputs for the rows with these numbers, and their mean loss if asked."""
        inputs = self.inputs(rows, numbers) if self.static is None else self.static.inputs(rows, numbers)
        if not with_labels:
            del inputs["labels"]
        with self.autocast():
            return self.model(**inputs)

    def inputs(self, rows: Rows, numbers: numpy.ndarray) -> dict[str, object]:
        """Return input_ids (and token_type_ids) of shape (rows, longest), labels of shape (rows,), and either the
        packed layout or attention_mask of shape (rows, longest).
        """
        lengths = rows.lengths[numbers]
        is_real = is_token(lengths, int(lengths.max()))
        if pads_left(self.model.config):
            is_real = is_real[:, ::-1].copy()

        def padded(column, value: int) -> numpy.ndarray:
            array = numpy.full(is_real.shape, value, numpy.int64)
            array[is_real] = numpy.concatenate([column[number] for number in numbers])
            return array

        arrays = {"input_ids": padded(rows.input_ids, self.pad_token_id), "labels": self.labels(rows, numbers)}
        if self.with_token_types:
            arrays["token_type_ids"] = padded(rows.token_type_ids, 0)
        if self.why_padded is not None:
            arrays["attention_mask"] = is_real.astype(numpy.int64)
        inputs = {name: to_device(torch.from_numpy(array), self.device) for name, array in arrays.items()}
        return inputs if self.why_padded is not None else inputs | {LAYOUT: Layout.for_lengths(lengths, self.device)}

    def labels(self, rows: Rows, numbers: numpy.ndarray) -> numpy.ndarray:
        """Return the rows' labels as the model numbers them."""
        labels = rows.labels[numbers]
        return labels if self.label_order is None else numpy.where(labels < 0, labels, self.label_order[labels])


class StaticBatches:
    """Makes a model's batches static; the position of a first token is `first_position`."""

    def __init__(self, forward: ForwardPass, first_position: int):
        self.forward = forward
        self.first_position = first_position

    def shape(self, rows: Rows, numbers: numpy.ndarray) -> Shape:
        """Return the shape of a batch of the rows with these numbers."""
        return Shape(len(numbers), rounded_up(int(rows.lengths[numbers].sum())))

    def on_host(self, rows: Rows, numbers: numpy.ndarray) -> torch.Tensor:
        """Return a whole batch as one tensor (see Shape) in host memory."""
        forward = self.forward
        types = [rows.token_type_ids[number] for number in numbers] if forward.with_token_types else None
        ids, labels = [rows.input_ids[number] for number in numbers], forward.labels(rows, numbers)
        shape = self.shape(rows, numbers)
        return shape.filled(ids, types, labels, forward.pad_token_id, self.first_position)

    def views(self, tensor: torch.Tensor, shape: Shape) -> dict[str, object]:
        """Return the model's arguments as views of such a tensor, which may be on any device."""
        has_classes = self.forward.model.config.problem_type != "regression"
        return shape.inputs(tensor, self.forward.longest, self.forward.with_token_types, has_classes)

    def inputs(self, rows: Rows, numbers: numpy.ndarray) -> dict[str, object]:
        """Return the model's arguments for a batch."""
        tensor = to_device(self.on_host(rows, numbers), self.forward.device)
        return self.views(tensor, self.shape(rows, numbers))


def _use_attention(model: PreTrainedModel, attention: str) -> None:
    """Raise TrainingError for an attention that the model or the machine lacks."""
    try:
        model.set_attn_implementation(attention)
    except (ImportError, ValueError) as error:
        reason = in_one_line(error)
    else:
        if model.config._attn_implementation == attention:
            return
        reason = f"{type(model).__name__} does not support it"
    raise TrainingError(f"attn_implementation: {attention} cannot be used ({reason}); set it to auto")


def bounds_of_parts(lengths: numpy.ndarray, tokens_of_a_pass: int) -> list[int]:
    """Return where to split rows, sorted by length, so that padded tokens and passes together cost least."""
    count = len(lengths)
    costs, begins = numpy.zeros(count + 1), numpy.zeros(count + 1, int)
    for end in range(1, count + 1):
        starts = numpy.arange(max(0, end - MOST_ROWS_OF_A_PART), end)
        candidates = costs[starts] + (end - starts) * lengths[end - 1] + tokens_of_a_pass
        begins[end] = starts[candidates.argmin()]
        costs[end] = candidates.min()
    bounds, end = [], begins[count]
    while end > 0:
        bounds.append(int(end))
        end = begins[end]
    return bounds[::-1]


@dataclass
class MicroBatches:
    """Compute batches in the parts that `split` makes of them, with at most `most_rows` rows each (None: no limit).

    `rows` is a smaller limit, None until memory does not hold a part even after all possible memory is freed. Then it
    is halved until a part fits, and stays so. Every try starts from the same random states, the `device`'s included.
    """

    what: str
    split: Callable[[numpy.ndarray], list[numpy.ndarray]]
    most_rows: int | None = None
    rows: int | None = None
    device: torch.device = CPU

    def compute(
        self, lengths: numpy.ndarray, function: Callable[[numpy.ndarray], Result], undo: Callable[[], None]
    ) -> list[Result]:
        """Call `function` with the positions of each part of a batch of rows of these lengths; return the results.

        `undo` discards what was computed before a part that did not fit. Raise TrainingError if not even a single row
        fits.
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
                has_memory = allowed_after(error)
                if not has_memory and not is_out_of_memory(error):
                    raise
            # Not inside `except`, where the error's traceback would keep the tensors alive.
            results = None
            undo()
            set_random_states(before, self.device)
            if has_memory:
                continue
            free_memory()
            if is_freed:
                self._halve(largest, int(lengths.max()))
            else:
                logger.info("out of device memory: freeing what can be freed and trying %s again", self.what)
            is_freed = True

    def _parts(self, lengths: numpy.ndarray) -> Iterator[numpy.ndarray]:
        most = min(self.most_rows or len(lengths), self.rows or len(lengths))
        for part in self.split(lengths):
            yield from (part[start : start + most] for start in range(0, len(part), most))

    def _halve(self, rows: int, longest: int) -> None:
        if rows == 1:
            raise TrainingError(
                f"out of device memory: {self.what} does not fit even with one example of up to {longest} tokens;"
                " choose a smaller max_seq_length or model, or a larger GPU"
            )
        self.rows = (rows + 1) // 2
        logger.warning(
            "out of device memory: %s continues in micro-batches of %d; the batch size stays the same",
            self.what,
            self.rows,
        )
