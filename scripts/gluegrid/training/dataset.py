"""Tokens in memory-mapped Arrow files, and the order in which training sees them."""

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy
import pyarrow
import torch

from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json
from gluegrid.execution.scratch import read_from
from gluegrid.experiment.run import Run
from gluegrid.experiment.staged_tokens import tokens_identity
from gluegrid.staging.examples import check_label_names

HELD_OUT_SHARE = 0.1  # of the training examples


class Tokens:
    """The tokens of a task, checked to be those of a run."""

    def __init__(self, run: Run, tokens_manifest: Path, tokenizer_manifest: Path, task_manifest: Path):
        self.folder = tokens_manifest.parent
        self.remedy = f"delete {self.folder} and run snakemake again"
        self.tokenizer_folder = tokenizer_manifest.parent
        self.manifest = read_json(tokens_manifest)
        data = read_json(task_manifest)
        check_label_names(task_manifest, data, run.task)
        made_from = tokens_identity(read_json(tokenizer_manifest), data, run.task, run.max_seq_length)
        for key, value in made_from.items():
            if self.manifest["made_from"][key] != value:
                problem = f"was made with another {key} than that of this run"
                raise DataError(f"{tokens_manifest}: {problem}; {self.remedy}")

    def split(self, name: str, most: int | None = None) -> "Rows":
        """Return a split's rows, or its first `most`."""
        path = self.folder / f"{name}.arrow"
        try:
            return Rows(read_from(self.folder) / path.name, most)
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(f"{path}: cannot be read ({error}); {self.remedy}") from error

    @property
    def longest(self) -> int:
        """The length of the longest row of any split, in tokens."""
        return max(split["longest"] for split in self.manifest["splits"].values())


class Rows:
    """The rows of a split: `labels`, `idx` and `lengths` (in tokens), of shape (rows,), and their tokens.

    Tokens stay in the memory-mapped file.
    """

    def __init__(self, path: Path, most: int | None = None):
        with pyarrow.memory_map(str(path)) as source:
            table = pyarrow.ipc.open_stream(source).read_all().slice(0, most)
        self.labels = table["label"].to_numpy()
        self.idx = table["idx"].to_numpy()
        self.input_ids, self.token_type_ids = (_Sequences(table[name]) for name in ("input_ids", "token_type_ids"))
        self.lengths = self.input_ids.lengths

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, numbers: numpy.ndarray) -> "Rows":
        """Return the rows with these numbers, in the order given."""
        rows = copy.copy(self)
        rows.labels, rows.idx, rows.lengths = self.labels[numbers], self.idx[numbers], self.lengths[numbers]
        rows.input_ids = _Chosen(self.input_ids, numbers)
        rows.token_type_ids = _Chosen(self.token_type_ids, numbers)
        return rows


@dataclass
class _Chosen:
    """Some of the rows of a column."""

    sequences: "_Sequences"
    numbers: numpy.ndarray

    def __getitem__(self, row: int) -> numpy.ndarray:
        return self.sequences[self.numbers[row]]


class _Sequences:
    """A column of lists of integers, as arrays over the file's memory, one for each chunk of the file."""

    def __init__(self, column: pyarrow.ChunkedArray):
        self._offsets = [chunk.offsets.to_numpy() for chunk in column.chunks]
        self._values = [chunk.values.to_numpy() for chunk in column.chunks]
        lengths = [numpy.diff(offsets) for offsets in self._offsets]
        self.lengths = numpy.concatenate([*lengths, numpy.empty(0, numpy.int64)]).astype(numpy.int64)
        self._starts = numpy.cumsum([0, *map(len, lengths)])

    def __getitem__(self, row: int) -> numpy.ndarray:
        part = int(numpy.searchsorted(self._starts, row, side="right")) - 1
        place = row - self._starts[part]
        start, end = self._offsets[part][place : place + 2]
        return self._values[part][start:end]


class Order:
    """The order of the rows in each epoch, which depends on the seed and the epoch only, so that a run can be repeated
    and resumed.

    With `group_by_length`, batches have rows of similar length, as transformers' Trainer makes them.
    """

    def __init__(self, rows: Rows, run: Run):
        self.lengths = rows.lengths
        self.seed = run.seed
        self.batch_size = run.examples_per_update
        self.groups_by_length = run.train_sampling_strategy == "group_by_length"

    def in_epoch(self, epoch: int) -> numpy.ndarray:
        """Return the numbers of all rows in the order of an epoch (from 0)."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        if not self.groups_by_length:
            return torch.randperm(len(self.lengths), generator=generator).numpy()
        from transformers.trainer_pt_utils import get_length_grouped_indices

        return numpy.array(get_length_grouped_indices(self.lengths.tolist(), self.batch_size, generator=generator))


def held_out(count: int) -> numpy.ndarray:
    """Return which of `count` training examples are held out, as booleans of shape (count,).

    These are the examples whose numbers have the smallest hashes, so that every model, seed and variant, and every
    version of the libraries, holds out the same.
    """
    hashes = [hashlib.sha256(f"holdout {number}".encode()).digest()[:8] for number in range(count)]
    order = numpy.argsort(numpy.frombuffer(b"".join(hashes), ">u8"), kind="stable")
    is_held_out = numpy.zeros(count, bool)
    is_held_out[order[: max(1, round(HELD_OUT_SHARE * count))]] = True
    return is_held_out
