"""Encoders without padding: between embeddings and head, the tokens of a batch lie in one row, example after example.

Linear layers, normalisations and activations see each token by itself, so padding costs only time there. Attention is
computed on padded queries, keys and values, in groups of examples of about the same length, with the padding masked.
The idea is that of "Boosting Distributed Training Performance of the Unpadded BERT Model" (Zeng et al., 2022).

A model can be packed where its encoder is one module between embeddings and head, and its attention goes through
transformers' interface for it. Whether the outputs stay the same is tried on the model itself, before it is trained.
"""

import logging
from dataclasses import dataclass

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
ENCODERS = ("encoder", "transformer")  # the names it has in transformers' models
ROWS_OF_A_GROUP = {"cpu": 8}  # a GPU loses more by a second small kernel than by padding
LARGEST_DIFFERENCE = 1e-4  # of logits, relative to the largest


@dataclass(frozen=True)
class RowGroup:
    """Rows whose attention is computed together, padded to `length`: of the packed tokens, those from `start` to `end`.

    `padded` has the place of each padded token among them, `packed` the places of real tokens among the padded, and
    `mask`, of shape (rows, 1, 1, length), says which are real; all None where nothing is padded.
    """

    rows: int
    length: int
    start: int
    end: int
    padded: torch.Tensor | None = None
    packed: torch.Tensor | None = None
    mask: torch.Tensor | None = None

    def attention(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **options) -> torch.Tensor:
        """Return what the rows' tokens attend to; all tensors of shape (tokens, heads, features)."""
        inputs = (self._pad(tensor[self.start : self.end]) for tensor in (query, key, value))
        output = torch.nn.functional.scaled_dot_product_attention(*inputs, attn_mask=self.mask, **options)
        output = output.transpose(1, 2).reshape(self.rows * self.length, *query.shape[1:])
        return output if self.packed is None else output.index_select(0, self.packed)

    def _pad(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens if self.padded is None else tokens.index_select(0, self.padded)
        return tokens.view(self.rows, self.length, *tokens.shape[1:]).transpose(1, 2)


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a batch of shape (rows, longest) lie when they are packed."""

    places: torch.Tensor
    groups: list[RowGroup]

    @classmethod
    def for_lengths(cls, lengths: numpy.ndarray, device: torch.device) -> "Layout":
        """Return the layout of rows of these lengths, which are best sorted by them."""

        def moved(array: numpy.ndarray) -> torch.Tensor:
            return to_device(torch.from_numpy(array), device)

        groups, start = [], 0
        size = ROWS_OF_A_GROUP.get(device.type, len(lengths))
        for first in range(0, len(lengths), size):
            of_group = lengths[first : first + size]
            longest, end = int(of_group.max()), start + int(of_group.sum())
            is_real = _is_real(of_group, longest)
            places = ()
            if not is_real.all():
                starts = numpy.cumsum(of_group) - of_group
                padded = numpy.where(is_real, starts[:, None] + numpy.arange(longest), 0)
                places = (moved(padded.ravel()), moved(numpy.flatnonzero(is_real)), moved(is_real[:, None, None, :]))
            groups.append(RowGroup(len(of_group), longest, start, end, *places))
            start = end
        return cls(moved(numpy.flatnonzero(_is_real(lengths, int(lengths.max())))), groups)

    def pack(self, hidden: torch.Tensor) -> torch.Tensor:
        """Take shape (rows, longest, features) to (1, tokens, features)."""
        return hidden.flatten(0, 1).index_select(0, self.places).unsqueeze(0)

    def unpack(self, packed: torch.Tensor, rows: int, longest: int) -> torch.Tensor:
        """Take shape (1, tokens, features) back to (rows, longest, features), with zeros where padding was."""
        empty = packed.new_zeros(rows * longest, packed.shape[-1])
        return empty.index_copy(0, self.places, packed[0]).view(rows, longest, -1)


def _is_real(lengths: numpy.ndarray, longest: int) -> numpy.ndarray:
    return numpy.arange(longest) < lengths[:, None]


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy to a device without waiting for it."""
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


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
    """Compute the attention of a packed batch, tensors of shape (1, heads, tokens, features); sdpa's of another.

    The interface is that of transformers' attention functions. Raises ValueError for a mask of the model's own.
    """
    layout: Layout | None = kwargs.pop(LAYOUT, None)
    if layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    if attention_mask is not None or kwargs.get("sliding_window") is not None:
        raise ValueError("its attention does not see all tokens of an example")
    tensors = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]
    outputs = [group.attention(*tensors, dropout_p=dropout, scale=scaling) for group in layout.groups]
    return torch.cat(outputs).unsqueeze(0), None


AttentionInterface.register(ATTENTION, packed_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION, sdpa_mask)


def make_packable(model: PreTrainedModel, longest: int) -> str | None:
    """Let a model take packed batches, of rows up to `longest` tokens. Return why that cannot be, else None.

    A model that cannot is left as it was.
    """
    base = model.base_model
    encoder = next((getattr(base, name) for name in ENCODERS if hasattr(base, name)), None)
    if base is model or encoder is None:
        return "its encoder is no module of its own"
    before = model.config._attn_implementation
    hooks = []
    try:
        expected = _outputs(model, longest, packed=False)
        model.set_attn_implementation(ATTENTION)
        hooks = [
            encoder.register_forward_pre_hook(_pack, with_kwargs=True),
            encoder.register_forward_hook(_unpack, with_kwargs=True),
        ]
        outputs = _outputs(model, longest, packed=True)
        difference = ((outputs - expected).abs().max() / expected.abs().max().clamp(min=1e-3)).item()
        if difference <= LARGEST_DIFFERENCE:
            return None
        reason = f"its outputs would differ by {difference:.2g}"
    except Exception as error:  # whatever a model's own code does
        if is_out_of_memory(error):
            raise  # says nothing of the model
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
    for hook in hooks:
        hook.remove()
    model.set_attn_implementation(before)
    return reason


def _pack(encoder: torch.nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
    layout: Layout | None = kwargs.get(LAYOUT)
    if layout is None:
        return None
    if args:
        return (layout.pack(args[0]), *args[1:]), kwargs
    return args, kwargs | {"hidden_states": layout.pack(kwargs["hidden_states"])}


def _unpack(encoder: torch.nn.Module, args: tuple, kwargs: dict, output: object) -> object:
    layout: Layout | None = kwargs.get(LAYOUT)
    if layout is not None:
        rows = sum(group.rows for group in layout.groups)
        longest = max(group.length for group in layout.groups)
        output.last_hidden_state = layout.unpack(output.last_hidden_state, rows, longest)
    return output


def _outputs(model: PreTrainedModel, longest: int, packed: bool) -> torch.Tensor:
    """Return the logits for a short, a middling and a long row of made up tokens, without dropout."""
    lengths = numpy.array(sorted({1, (longest + 1) // 2, longest}))
    rows, device = len(lengths), model.device
    # Whatever the vocabulary, it has small numbers, and few of them are special.
    ids = torch.arange(rows * longest).view(rows, longest) * 7 % min(model.get_input_embeddings().num_embeddings, 97)
    is_real = torch.from_numpy(_is_real(lengths, longest))
    padding = model.config.pad_token_id or 0
    ids = ids.masked_fill(is_real & (ids == padding), padding + 1).masked_fill(~is_real, padding).to(device)
    how = {LAYOUT: Layout.for_lengths(lengths, device)} if packed else {"attention_mask": is_real.long().to(device)}
    was_training = model.training
    model.eval()
    try:
        # Not inference_mode, whose tensors a model that caches some could not be trained with.
        with torch.no_grad():
            return deterministic_or_else(lambda: model(input_ids=ids, **how)).logits.float()
    finally:
        model.train(was_training)
