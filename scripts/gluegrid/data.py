"""Tokens from memory-mapped Arrow files to batches."""

from collections.abc import Iterator
from pathlib import Path

import datasets
import torch
from torch.utils.data import DataLoader, Sampler

from gluegrid.errors import DataError
from gluegrid.files import read_json
from gluegrid.run import Run
from gluegrid.tokens import tokens_identity


class Tokens:
    """The tokens of a task, checked to be those that a run asks for."""

    def __init__(self, run: Run, tokens_manifest: Path, tokenizer_manifest: Path, task_manifest: Path):
        self.folder = tokens_manifest.parent
        self.manifest = read_json(tokens_manifest)
        made_from = tokens_identity(
            read_json(tokenizer_manifest), read_json(task_manifest), run.task, run.max_seq_length
        )
        for key, value in made_from.items():
            if self.manifest["made_from"][key] != value:
                raise DataError(
                    f"{tokens_manifest}: was made with another {key} than this run asks for;"
                    f" delete {self.folder} and run snakemake again"
                )

    def split(self, name: str, most: int | None = None) -> datasets.Dataset:
        """Return a split's rows (input_ids, token_type_ids, label, idx), or its first `most`."""
        path = self.folder / f"{name}.arrow"
        try:
            rows = datasets.Dataset.from_file(str(path))
        except (OSError, ValueError) as error:
            again = f"delete {self.folder} and run snakemake again"
            raise DataError(f"{path}: cannot be read ({error}); {again}") from error
        return rows if most is None else rows.select(range(min(most, len(rows))))

    @property
    def longest(self) -> int:
        """The length of the longest row of any split, in tokens."""
        return max(split["longest"] for split in self.manifest["splits"].values())


class ShuffledEachEpoch(Sampler[int]):
    """All rows in an order that only the seed and the number of the epoch decide, so that a run can be repeated."""

    def __init__(self, rows: int, seed: int):
        self.rows = rows
        self.seed = seed
        self.epoch = 0
        self.first = 0

    # Not named set_epoch: accelerate would call that with a count of its own.
    def begin_at(self, epoch: int, first: int) -> None:
        """Choose the epoch (from 0) whose order the next iteration gives, and how many rows of it are behind us."""
        self.epoch = epoch
        self.first = first

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return iter(torch.randperm(self.rows, generator=generator)[self.first :].tolist())

    def __len__(self) -> int:
        return self.rows


class Collator:
    """Makes a batch of rows: padded to the longest, with the inputs that the model takes.

    `label_order` maps a label of the data to the model's output for it (None: they are the same).
    """

    def __init__(self, pad_token_id: int, with_token_types: bool, label_order: list[int] | None):
        self.pad_token_id = pad_token_id
        self.with_token_types = with_token_types
        self.label_order = label_order

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        """Return tensors of shape (rows, longest); `labels` of shape (rows,)."""
        lengths = torch.tensor([len(row["input_ids"]) for row in rows])
        batch = {
            "input_ids": self._padded([row["input_ids"] for row in rows], self.pad_token_id),
            "attention_mask": (torch.arange(int(lengths.max())) < lengths[:, None]).long(),
            "labels": torch.tensor([self._label(row["label"]) for row in rows]),
        }
        if self.with_token_types:
            batch["token_type_ids"] = self._padded([row["token_type_ids"] for row in rows], 0)
        return batch

    def _label(self, label: int | float) -> int | float:
        return label if self.label_order is None or label < 0 else self.label_order[label]

    @staticmethod
    def _padded(sequences: list[list[int]], value: int) -> torch.Tensor:
        tensors = [torch.tensor(sequence) for sequence in sequences]
        return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=value)


def training_loader(rows: datasets.Dataset, batch_size: int, seed: int, collator: Collator) -> DataLoader:
    """Return the batches of an epoch, in an order of its own each epoch; the last one may be smaller."""
    sampler = ShuffledEachEpoch(len(rows), seed)
    return DataLoader(rows, batch_size=batch_size, sampler=sampler, collate_fn=collator)


def evaluation_loader(rows: datasets.Dataset, batch_size: int, collator: Collator) -> DataLoader:
    """Return the batches of a split in its own order."""
    return DataLoader(rows, batch_size=batch_size, shuffle=False, collate_fn=collator)
