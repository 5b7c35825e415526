"""From rows of tokens to a model's outputs, in the way that wastes least on padding."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy
import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from gluegrid.common.errors import TrainingError, in_one_line
from gluegrid.data import Rows
from gluegrid.models.packing import LAYOUT, Layout, make_packable, to_device

logger = logging.getLogger(__name__)

# What another pass costs, in tokens' time: adding up gradients on a CPU, and launching kernels on a GPU.
TOKENS_OF_A_PASS = {"cpu": 64, "cuda": 8192}
MOST_ROWS_OF_A_PART = 1024  # of a padded batch, to keep the search for parts short


class ForwardPass:
    """A model, and how batches are given to it: packed where it allows that, else padded, in parts of like length.

    `label_order` maps a label of the data to the model's output for it (None: they are the same). `longest` is the
    length of the longest row there will be, in tokens; `autocast` gives the context that the model computes in.
    `why_padded` says why batches are not packed, None where they are.
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
    ):
        self.model = model
        self.pad_token_id = pad_token_id
        self.with_token_types = with_token_types
        self.label_order = None if label_order is None else numpy.array(label_order)
        self.autocast = autocast
        self.why_padded: str | None = f"attn_implementation is {attention}"
        if attention == "auto":
            self.why_padded = make_packable(model, longest)
            how = "packed" if self.why_padded is None else f"padded, and split by length, since {self.why_padded}"
            logger.info("batches are %s", how)
        else:
            _use_attention(model, attention)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def parts(self, lengths: numpy.ndarray) -> list[numpy.ndarray]:
        """Return the rows of a batch in the parts that are best computed apart: positions, the shortest rows first."""
        by_length = numpy.argsort(lengths, kind="stable")
        if self.why_padded is None:
            return [by_length]
        bounds = bounds_of_parts(lengths[by_length], TOKENS_OF_A_PASS[self.device.type])
        return numpy.split(by_length, bounds)

    def __call__(self, rows: Rows, numbers: numpy.ndarray, with_labels: bool) -> ModelOutput:
        """Return the model's outputs for rows of these numbers, with their mean loss if asked."""
        inputs = self.inputs(rows, numbers)
        if not with_labels:
            del inputs["labels"]
        if self.why_padded is None:
            inputs[LAYOUT] = Layout.of(rows.lengths[numbers], self.device)
            del inputs["attention_mask"]
        with self.autocast():
            return self.model(**inputs)

    def inputs(self, rows: Rows, numbers: numpy.ndarray) -> dict[str, torch.Tensor]:
        """Return input_ids, attention_mask (and token_type_ids) of shape (rows, longest), labels of shape (rows,)."""
        lengths = rows.lengths[numbers]
        is_real = numpy.arange(lengths.max()) < lengths[:, None]
        arrays = {
            "input_ids": _padded(rows.input_ids.__getitem__, numbers, is_real, self.pad_token_id),
            "attention_mask": is_real.astype(numpy.int64),
            "labels": self._labels(rows.labels[numbers]),
        }
        if self.with_token_types:
            arrays["token_type_ids"] = _padded(rows.token_type_ids.__getitem__, numbers, is_real, 0)
        return {name: to_device(torch.from_numpy(array), self.device) for name, array in arrays.items()}

    def _labels(self, labels: numpy.ndarray) -> numpy.ndarray:
        return labels if self.label_order is None else numpy.where(labels < 0, labels, self.label_order[labels])


def _use_attention(model: PreTrainedModel, attention: str) -> None:
    """Raise TrainingError for an attention that the model or the machine has not."""
    try:
        model.set_attn_implementation(attention)
    except (ImportError, ValueError) as error:
        reason = in_one_line(error)
    else:
        if model.config._attn_implementation == attention:
            return
        reason = f"{type(model).__name__} has none"
    raise TrainingError(f"attn_implementation: {attention} cannot be used ({reason}); set it to auto")


def _padded(
    sequence: Callable[[int], numpy.ndarray], numbers: numpy.ndarray, is_real: numpy.ndarray, value: int
) -> numpy.ndarray:
    padded = numpy.full(is_real.shape, value, numpy.int64)
    padded[is_real] = numpy.concatenate([sequence(number) for number in numbers])
    return padded


def bounds_of_parts(lengths: numpy.ndarray, tokens_of_a_pass: int) -> list[int]:
    """Return where to split rows, sorted by length, so that their padded tokens and the passes cost least together."""
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
