"""Batches as one row of tokens with few possible lengths, so that a GPU repeats work of the same shapes.

From the embeddings on, the examples of a batch follow one another, and filler tokens extend the row to a multiple of
128. Where each example starts is data, not shape; the attention kernels take these bounds as input. Classifiers see
only the first token of each example, which is what BERT-like ones use.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property

import numpy
import torch
from transformers import PreTrainedModel

from gluegrid.models.device_memory import is_out_of_memory
from gluegrid.models.packing import LARGEST_DIFFERENCE, LAYOUT, Layout, Probe

logger = logging.getLogger(__name__)

TOKENS_OF_A_STEP = 128  # between one length and the next
LARGEST_HEAD, MULTIPLE_OF_A_HEAD = 256, 8  # limits of flash attention on a head's features
FLASH_SINCE = (8, 0)  # compute capability
LEAST_TOLERANCE = 1e-3  # for results in half precision, relative to the largest or the norm


def rounded_up(tokens: int) -> int:
    """Return the length of the row for this number of tokens."""
    return -(-tokens // TOKENS_OF_A_STEP) * TOKENS_OF_A_STEP


@dataclass(frozen=True)
class StaticLayout:
    """Where examples are in one row of tokens.

    `bounds`, int32 of shape (examples + 2,), has the start of each example, the start of the filler, and the row's
    length. No example has more than `longest` tokens.
    """

    bounds: torch.Tensor
    longest: int

    def pack(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the tokens unchanged, since they are in one row already."""
        return hidden

    def unpack(self, packed: torch.Tensor) -> torch.Tensor:
        """Return the first token of each example: shape (1, tokens, features) to (examples, 1, features)."""
        return packed.squeeze(0).index_select(0, self.bounds[:-2]).unsqueeze(1)

    def attention(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout: float, scaling: float | None
    ) -> torch.Tensor:
        """Return the attention of each example to itself: (1, heads, tokens, features) to (1, tokens, heads, ...)."""
        if query.device.type == "cpu":
            return self._on_cpu.attention(query, key, value, dropout, scaling)
        query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
        most = max(self.longest, TOKENS_OF_A_STEP)
        if _has_flash_attention(query):
            tensors = (tensor.squeeze(0) for tensor in (query, key, value))
            bounds = (self.bounds, self.bounds, most, most)
            # No further arguments, since later parameters differ between versions of torch.
            output = torch.ops.aten._flash_attention_forward(*tensors, *bounds, dropout, False, False, scale=scaling)
            return output[0].unsqueeze(0)
        return torch.ops.aten._efficient_attention_forward(
            query, key, value, None, self.bounds, self.bounds, most, most, dropout, 0, True, scale=scaling
        )[0]

    @cached_property
    def _on_cpu(self) -> Layout:
        lengths = self.bounds.diff().numpy()
        return Layout.for_lengths(lengths[lengths > 0], self.bounds.device)


def _has_flash_attention(query: torch.Tensor) -> bool:
    features = query.shape[-1]
    return (
        query.dtype in (torch.float16, torch.bfloat16)
        and features <= LARGEST_HEAD
        and features % MULTIPLE_OF_A_HEAD == 0
        and torch.cuda.get_device_capability(query.device) >= FLASH_SINCE
        and torch.backends.cuda.is_flash_attention_available()
    )


@dataclass(frozen=True)
class Shape:
    """The number of examples and tokens, including filler, of a static batch.

    The batch is one int32 tensor, so that it reaches a device in one copy: token ids, segments, positions, labels (the
    bits of float32 ones) and bounds.
    """

    examples: int
    tokens: int

    @property
    def parts(self) -> tuple[int, ...]:
        """The sizes of the parts of the tensor."""
        return (self.tokens, self.tokens, self.tokens, self.examples, self.examples + 2)

    def filled(
        self,
        input_ids: list[numpy.ndarray],
        token_type_ids: list[numpy.ndarray] | None,
        labels: numpy.ndarray,
        pad_token_id: int,
        first_position: int,
    ) -> torch.Tensor:
        """Return the tensor for examples with these tokens, segments (None if there are none) and labels."""
        lengths = numpy.array([len(ids) for ids in input_ids])
        tensor = torch.zeros(sum(self.parts), dtype=torch.int32)
        ids, types, positions, answers, bounds = (part.numpy() for part in tensor.split(self.parts))
        bounds[1:-1], bounds[-1] = lengths.cumsum(), self.tokens
        real = bounds[-2]
        ids[:real], ids[real:] = numpy.concatenate(input_ids), pad_token_id
        if token_type_ids is not None:
            types[:real] = numpy.concatenate(token_type_ids)
        positions[:real] = numpy.arange(real) - numpy.repeat(bounds[:-2], lengths)
        positions += first_position  # also the filler's, since a model may have fewer positions than the row has tokens
        answers[:] = labels.astype(numpy.float32).view(numpy.int32) if labels.dtype.kind == "f" else labels
        return tensor

    def inputs(self, tensor: torch.Tensor, longest: int, with_token_types: bool, has_classes: bool) -> dict:
        """Return a model's arguments, including labels, as views of such a tensor or made from it."""
        ids, types, positions, labels, bounds = tensor.split(self.parts)
        inputs = {
            "input_ids": ids.long().unsqueeze(0),
            "position_ids": positions.long().unsqueeze(0),
            "labels": labels.long() if has_classes else labels.view(torch.float32),
            LAYOUT: StaticLayout(bounds, longest),
        }
        return inputs | ({"token_type_ids": types.long().unsqueeze(0)} if with_token_types else {})


def first_position(
    model: PreTrainedModel, longest: int, autocast: Callable[[], AbstractContextManager]
) -> tuple[int | None, str | None]:
    """Return the first token's position number for a model that takes static batches, or else why it does not.

    The model must be packable (packing.make_packable). Its outputs are compared with those of packed batches, in fp32
    and under autocast.
    """
    probe = Probe.of(model, longest)
    expected = probe.packed()
    with autocast():
        error = (probe.packed() - expected).abs().max()
    largest = expected.abs().max().clamp(min=LEAST_TOLERANCE)
    reason = "its outputs would differ"
    # RoBERTa-like models count from the number after the padding token's.
    for first in dict.fromkeys((0, (model.config.pad_token_id or 0) + 1)):
        try:
            outputs = _static_outputs(probe, first)
            with autocast():
                half = _static_outputs(probe, first)
        except Exception as failed:  # a model's own code may raise anything
            if is_out_of_memory(failed):
                raise
            reason = f"{type(failed).__name__}: {failed}".splitlines()[0]
            continue
        is_same = (outputs - expected).abs().max() <= LARGEST_DIFFERENCE * largest
        if is_same and (half - expected).abs().max() <= 2 * error + LEAST_TOLERANCE * largest:
            return first, None
    return None, reason


def _static_outputs(probe: Probe, first: int) -> torch.Tensor:
    rows = [row[:length] for row, length in zip(probe.ids.cpu().numpy(), probe.lengths, strict=True)]
    shape = Shape(len(rows), rounded_up(int(probe.lengths.sum())))
    filled = shape.filled(rows, None, numpy.zeros(len(rows), int), probe.padding, first)
    inputs = shape.inputs(filled.to(probe.ids.device), int(probe.lengths.max()), False, True)
    del inputs["labels"]
    return probe.outputs(**inputs)
