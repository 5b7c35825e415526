"""The arms of the comparison: transformers.Trainer in three settings, and ours. Each can train and evaluate a cell."""

import dataclasses
from collections.abc import Iterator
from typing import Protocol

import datasets
import numpy
import pyarrow.parquet
import torch
from cells import BATCH_SIZE, MAX_SEQ_LENGTH, SEED, Cell
from transformers import (
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    default_data_collator,
)
from transformers.trainer_pt_utils import get_length_grouped_indices

from gluegrid.experiment.run import read_run
from gluegrid.models.classifier import load_model
from gluegrid.training.cell_trainer import CellTraining
from gluegrid.training.metrics import score
from gluegrid.training.step_graphs import Capture

ARMS = {
    "a": "Trainer with run_glue.py's defaults: all padded to 128, fp32",
    "b": "Trainer, padded to the longest of the batch, else as a",
    "c": 'Trainer with its best flags: as b, train_sampling_strategy="group_by_length";'
    " on a GPU bf16, optim=adamw_torch_fused, torch_compile and data-loader workers too",
    "d": "gluegrid, precision: auto",
}
BEST_FLAGS = {"train_sampling_strategy": "group_by_length"}
BEST_FLAGS_ON_A_GPU = {
    "bf16": True,
    "optim": "adamw_torch_fused",
    "torch_compile": True,
    "dataloader_num_workers": 4,
    "dataloader_persistent_workers": True,
    "dataloader_pin_memory": True,
}
MOST_BATCHES_OF_A_GROUP = 50  # transformers' get_length_grouped_indices


class Trainee(Protocol):
    """A model that either of the two can train and evaluate.

    `tokens` is the number of tokens in an epoch, without padding.
    """

    epochs: int
    tokens: int

    def train(self) -> dict:
        """Train once; return `train_runtime` in seconds, and `train_samples`, the samples of an epoch."""

    def evaluate(self) -> int:
        """Predict and score the validation split; return the number of its examples."""


class Ours:
    """gluegrid's training of a cell. `capture` replaces the device's way of making graphs of updates."""

    def __init__(self, cell: Cell, rows: int, epochs: int, capture: Capture | None = None):
        run = dataclasses.replace(read_run(cell.run_json), max_train_samples=rows, num_train_epochs=epochs)
        self.epochs = epochs
        self.split = cell.validation
        self.task = cell.task
        tokens = cell.read_tokens()
        self.tokens = tokens.split(run.task.train, rows).lengths.sum().item()
        self.training = CellTraining(run, cell.model.parent, tokens, capture=capture)

    def train(self) -> dict:
        """See Trainee."""
        return self.training.train()

    def evaluate(self) -> int:
        """See Trainee."""
        table, _ = self.training.predict(self.split)
        logits = numpy.stack(table.column("logits").to_numpy())
        score(self.task, logits, table.column("label").to_numpy())
        return len(table)


class Theirs:
    """transformers.Trainer with run_glue.py's and further `arguments`. Like ours, it logs and saves nothing."""

    def __init__(self, arm: str, cell: Cell, rows: int, epochs: int, **arguments: object):
        self.epochs = epochs
        run = read_run(cell.run_json)
        torch.set_num_threads(run.threads)
        on_gpu = run.device == "cuda"
        tokenizer = AutoTokenizer.from_pretrained(cell.model.parent, local_files_only=True)
        values = {} if arm in "ab" else BEST_FLAGS | (BEST_FLAGS_ON_A_GPU if on_gpu else {})
        collator = default_data_collator
        if arm != "a":
            # run_glue.py pads to multiples of 8 in half precision.
            collator = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8 if "bf16" in values else None)
        # The order of a checkpoint's labels does not change the times.
        model, *_ = load_model(cell.model.parent, run.task, run.seed)
        train_dataset = tokenized(cell, cell.task.train, tokenizer, padded=arm == "a").select(range(rows))
        self.tokens = sum(map(sum, train_dataset["attention_mask"]))
        self.eval_dataset = tokenized(cell, cell.validation, tokenizer, padded=arm == "a")
        self.trainer = _Trainer(
            cell.rows_of_the_task,
            model=model,
            args=TrainingArguments(
                output_dir=str(cell.folder / "trainer"),
                use_cpu=not on_gpu,
                learning_rate=run.learning_rate,
                per_device_train_batch_size=BATCH_SIZE,
                per_device_eval_batch_size=BATCH_SIZE,
                num_train_epochs=epochs,
                seed=SEED,
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
                **(values | arguments),
            ),
            train_dataset=train_dataset,
            compute_metrics=lambda prediction: _scores(cell, prediction),
            processing_class=tokenizer,
            data_collator=collator,
        )
        self.trainer.remove_callback(PrinterCallback)

    def train(self) -> dict:
        """See Trainee."""
        metrics = self.trainer.train().metrics
        return metrics | {"train_samples": len(self.trainer.train_dataset)}

    def evaluate(self) -> int:
        """See Trainee."""
        self.trainer.evaluate(self.eval_dataset)
        return len(self.eval_dataset)


class _Trainer(Trainer):
    """transformers.Trainer that groups a sample by length as it would group the whole split."""

    def __init__(self, rows_of_the_task: int, **options: object):
        self.batches_of_a_group = min(rows_of_the_task // (BATCH_SIZE * 4), MOST_BATCHES_OF_A_GROUP)
        super().__init__(**options)

    def _get_train_sampler(self, train_dataset: datasets.Dataset | None = None) -> torch.utils.data.Sampler | None:
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        lengths = [len(ids) for ids in (train_dataset or self.train_dataset)["input_ids"]]
        return _GroupedByLength(lengths, max(1, self.batches_of_a_group))


class _GroupedByLength(torch.utils.data.Sampler):
    def __init__(self, lengths: list[int], batches_of_a_group: int):
        self.lengths = lengths
        self.batches_of_a_group = batches_of_a_group

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        return iter(get_length_grouped_indices(self.lengths, BATCH_SIZE, self.batches_of_a_group))


def tokenized(cell: Cell, split: str, tokenizer: PreTrainedTokenizerBase, padded: bool) -> datasets.Dataset:
    """Return a split's rows, tokenized as run_glue.py does."""
    rows = datasets.Dataset(datasets.table.InMemoryTable(pyarrow.parquet.read_table(cell.parquet(split))))
    longest = min(MAX_SEQ_LENGTH, tokenizer.model_max_length)

    def tokens(examples: dict) -> dict:
        texts = [examples[column] for column in cell.task.text_columns]
        return tokenizer(*texts, padding="max_length" if padded else False, max_length=longest, truncation=True)

    return rows.map(tokens, batched=True)


def _scores(cell: Cell, prediction: EvalPrediction) -> dict:
    return score(cell.task, prediction.predictions, prediction.label_ids)
