"""Encoders without padding: between embeddings and head, the tokens of a batch are in one row, example after example.

Linear layers, normalizations and activations process each token separately, so padding only costs time there. Attention
is computed on padded queries, keys and values, in groups of examples of similar length, with the padding masked.
The idea is from "Boosting Distributed Training Performance of the Unpadded BERT Model" (Zeng et al., 2022).

A model can be packed if its encoder is one module between embeddings and head, and its attention uses transformers'
attention interface. Before training, a test on the model itself shows whether its outputs stay the same.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy
import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask

from gluegrid.models.deterministic_kernels import deterministic_or_else
from gluegrid.models.device_memory import is_out_of_memory

logger = logging.getLogger(__name__)

ATTENTION = "gluegrid_packed"
LAYOUT = "packed_layout"  # the argument that tells encoder and attention how a batch is packed
ENCODERS = ("encoder", "transformer")  # the encoder's names in transformers' models
ROWS_OF_A_GROUP = {"cpu": 8}  # on a GPU, a second small kernel costs more than padding
LARGEST_DIFFERENCE = 1e-4  # of logits, relative to the largest


class BatchLayout(Protocol):
    """How the tokens of a batch are arranged in the encoder."""

    def pack(self, hidden: torch.Tensor) -> torch.Tensor:
        """Convert the embeddings' output to shape (1, tokens, features)."""

    def unpack(self, packed: torch.Tensor) -> torch.Tensor:
        """Convert shape (1, tokens, features) to the classifier's input."""

    def attention(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout: float, scaling: float | None
    ) -> torch.Tensor:
        """Return the attention: tensors of shape (1, heads, tokens, features) to (1, tokens, heads, features)."""


@dataclass(frozen=True)
class RowGroup:
    """Rows whose attention is computed together, padded to `length`; without padding they have `tokens` tokens.

    `places` has the positions of real tokens in the padded rows, and `mask`, of shape (rows, 1, 1, length), marks them;
    both are None if nothing is padded.
    """

    rows: int
    length: int
    tokens: int
    places: torch.Tensor | None = None
    mask: torch.Tensor | None = None

    def attention(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **options) -> torch.Tensor:
        """Return the attention of the rows' tokens; all tensors have shape (tokens, heads, features)."""
        inputs = (self._pad(tensor) for tensor in (query, key, value))
        output = torch.nn.functional.scaled_dot_product_attention(*inputs, attn_mask=self.mask, **options)
        output = output.transpose(1, 2).reshape(self.rows * self.length, *query.shape[1:])
        return output if self.places is None else output.index_select(0, self.places)

    def _pad(self, tokens: torch.Tensor) -> torch.Tensor:
        if self.places is not None:
            empty = tokens.new_zeros(self.rows * self.length, *tokens.shape[1:])
            tokens = empty.index_copy(0, self.places, tokens)
        return tokens.view(self.rows, self.length, *tokens.shape[1:]).transpose(1, 2)


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a batch of shape (rows, longest) are when they are packed."""

    rows: int
    longest: int
    places: torch.Tensor
    groups: list[RowGroup]

    @classmethod
    def for_lengths(cls, lengths: numpy.ndarray, device: torch.device) -> "Layout":
        """Return the layout for rows of these lengths, which should be sorted by length."""

        def moved(array: numpy.ndarray) -> torch.Tensor:
            return to_device(torch.from_numpy(array), device)

        groups = []
        size = ROWS_OF_A_GROUP.get(device.type, len(lengths))
        for first in range(0, len(lengths), size):
            of_group = lengths[first : first + size]
            longest = int(of_group.max())
            is_real = is_token(of_group, longest)
            places = ()
            if not is_real.all():
                places = (moved(numpy.flatnonzero(is_real)), moved(is_real[:, None, None, :]))
            groups.append(RowGroup(len(of_group), longest, int(of_group.sum()), *places))
        longest = int(lengths.max())
        return cls(len(lengths), longest, moved(numpy.flatnonzero(is_token(lengths, longest))), groups)

    def pack(self, hidden: torch.Tensor) -> torch.Tensor:
        """Convert shape (rows, longest, features) to (1, tokens, features)."""
        return hidden.flatten(0, 1).index_select(0, self.places).unsqueeze(0)

    def unpack(self, packed: torch.Tensor) -> torch.Tensor:
        """Convert shape (1, tokens, features) back to (rows, longest, features), with zeros as padding."""
        empty = packed.new_zeros(self.rows * self.longest, packed.shape[-1])
        return empty.index_copy(0, self.places, packed.squeeze(0)).view(self.rows, self.longest, -1)

    def attention(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout: float, scaling: float | None
    ) -> torch.Tensor:
        """Return the rows' attention: tensors of shape (1, heads, tokens, features) to (1, tokens, heads, features)."""
        tensors = [tensor.squeeze(0).transpose(0, 1) for tensor in (query, key, value)]
        options = {"dropout_p": dropout, "scale": scaling}
        if len(self.groups) == 1:
            return self.groups[0].attention(*tensors, **options).unsqueeze(0)
        sizes = [group.tokens for group in self.groups]
        parts = zip(self.groups, *(tensor.split(sizes) for tensor in tensors), strict=True)
        return torch.cat([group.attention(*part, **options) for group, *part in parts]).unsqueeze(0)


def is_token(lengths: numpy.ndarray, longest: int) -> numpy.ndarray:
    """Return a mask of shape (rows, longest) of the real tokens in padded rows."""
    return numpy.arange(longest) < lengths[:, None]


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy to a device without waiting for it."""
    return pinned(tensor, device).to(device, non_blocking=True)


def pinned(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy to pinned memory, from which a device copies asynchronously; no copy for a CPU."""
    return tensor if device.type == "cpu" else tensor.pin_memory()


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """Compute the attention of a packed batch, tensors of shape (1, heads, tokens, features); use sdpa for any other.

    The interface is that of transformers' attention functions. Raises ValueError if the model uses its own mask.
    """
    layout: BatchLayout | None = kwargs.pop(LAYOUT, None)
    if layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    if attention_mask is not None or kwargs.get("sliding_window") is not None:
        raise ValueError("its attention does not cover all tokens of an example")
    return layout.attention(query, key, value, dropout, scaling), None


AttentionInterface.register(ATTENTION, packed_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION, sdpa_mask)


def make_packable(model: PreTrainedModel, longest: int) -> str | None:
    """Let a model take packed batches, with rows of up to `longest` tokens. Return why that is impossible, else None.

    A model that cannot is left unchanged.
    """
    base = model.base_model
    encoder = next((getattr(base, name) for name in ENCODERS if hasattr(base, name)), None)
    if base is model or encoder is None:
        return "its encoder is not a separate module"
    before = model.config._attn_implementation
    hooks = []
    try:
        probe = Probe.of(model, longest)
        expected = probe.padded()
        model.set_attn_implementation(ATTENTION)
        hooks = [
            encoder.register_forward_pre_hook(_pack, with_kwargs=True),
            encoder.register_forward_hook(_unpack, with_kwargs=True),
        ]
        outputs = probe.packed()
        difference = ((outputs - expected).abs().max() / expected.abs().max().clamp(min=1e-3)).item()
        if difference <= LARGEST_DIFFERENCE:
            return None
        reason = f"its outputs would differ by {difference:.2g}"
    except Exception as error:  # a model's own code may raise anything
        if is_out_of_memory(error):
            raise  # which says nothing about the model
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
    for hook in hooks:
        hook.remove()
    model.set_attn_implementation(before)
    return reason


def _pack(encoder: torch.nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
    layout: BatchLayout | None = kwargs.get(LAYOUT)
    if layout is None:
        return None
    if args:
        return (layout.pack(args[0]), *args[1:]), kwargs
    return args, kwargs | {"hidden_states": layout.pack(kwargs["hidden_states"])}


def _unpack(encoder: torch.nn.Module, args: tuple, kwargs: dict, output: object) -> object:
    layout: BatchLayout | None = kwargs.get(LAYOUT)
    if layout is not None:
        output.last_hidden_state = layout.unpack(output.last_hidden_state)
    return output


@contextmanager
def exact_fp32() -> Iterator[None]:
    """Compute fp32 matrix products in fp32, even if the run's precision is TF32."""
    # The older setting also sets the newer ones; if they disagree, torch refuses to multiply.
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@dataclass(frozen=True)
class Probe:
    """A short, a medium and a long row of made-up tokens, of shape (rows, longest), to compare a model's outputs."""

    model: PreTrainedModel
    ids: torch.Tensor
    lengths: numpy.ndarray
    padding: int

    @classmethod
    def of(cls, model: PreTrainedModel, longest: int) -> "Probe":
        """Return a probe for a model, with rows of up to `longest` tokens."""
        lengths = numpy.array(sorted({1, (longest + 1) // 2, longest}))
        # Every vocabulary has small token ids, and few of them are special tokens.
        numbers = min(model.get_input_embeddings().num_embeddings, 97)
        ids = torch.arange(len(lengths) * longest).view(len(lengths), longest) * 7 % numbers
        is_real = torch.from_numpy(is_token(lengths, longest))
        padding = model.config.pad_token_id or 0
        ids = ids.masked_fill(is_real & (ids == padding), padding + 1).masked_fill(~is_real, padding)
        return cls(model, ids.to(model.device), lengths, padding)

    def padded(self) -> torch.Tensor:
        """Return the logits of padded rows."""
        is_real = is_token(self.lengths, self.ids.shape[1])
        return self.outputs(input_ids=self.ids, attention_mask=torch.from_numpy(is_real).long().to(self.ids.device))

    def packed(self) -> torch.Tensor:
        """Return the logits of packed rows."""
        return self.outputs(input_ids=self.ids, **{LAYOUT: Layout.for_lengths(self.lengths, self.ids.device)})

    def outputs(self, **inputs: object) -> torch.Tensor:
        """Return the logits for a model's arguments, without dropout."""
        was_training = self.model.training
        self.model.eval()
        try:
            # Not inference_mode: a model that caches such tensors could not be trained any more.
            with torch.no_grad(), exact_fp32():
                return deterministic_or_else(lambda: self.model(**inputs)).logits.float()
        finally:
            self.model.train(was_training)
