"""What is compared: transformers.Trainer in three settings, and ours. Each can train and evaluate a cell."""

import dataclasses
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import datasets
import numpy
import pyarrow.parquet
import torch
from accelerate.state import AcceleratorState
from cells import BATCH_SIZE, MAX_SEQ_LENGTH, SEED, Cell
from torch.optim.optimizer import register_optimizer_step_post_hook
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

from gluegrid.finetuning import CellTraining
from gluegrid.model import load_model
from gluegrid.run import read_run
from gluegrid.scoring import score
from gluegrid.tokens import tokenize_task

ARMS = {
    "a": "Trainer with run_glue.py's defaults: all padded to 128, fp32",
    "b": "Trainer, padded to the longest of the batch, else as a",
    "c": 'Trainer with its best flags: as b, train_sampling_strategy="group_by_length";'
    " on a GPU bf16, optim=adamw_torch_fused, torch_compile too",
    "d": "gluegrid, precision: auto",
}
BEST_FLAGS = {"train_sampling_strategy": "group_by_length"}
BEST_FLAGS_ON_A_GPU = {"bf16": True, "optim": "adamw_torch_fused", "torch_compile": True}
MOST_BATCHES_OF_A_GROUP = 50  # transformers' get_length_grouped_indices
WARM_UP_STEPS = 3


class Trainee(Protocol):
    """A model that can be trained and evaluated, by either of the two.

    An epoch is over rows of so many `tokens`, padding left out.
    """

    epochs: int
    tokens: int

    def train(self) -> dict:
        """Train once; return `train_runtime`, in seconds, and `train_samples`, those of an epoch."""

    def evaluate(self) -> int:
        """Predict and score the validation split; return the number of its examples."""


class Ours:
    """gluegrid's training of a cell."""

    def __init__(self, cell: Cell, rows: int, epochs: int):
        run = dataclasses.replace(read_run(cell.run_json), max_train_samples=rows, num_train_epochs=epochs)
        self.epochs = epochs
        self.split = cell.validation
        self.task = cell.task
        tokens = cell.read_tokens()
        self.tokens = tokens.split(run.task.train, rows).lengths.sum().item()
        self.training = CellTraining(run, cell.model.parent, tokens)

    def train(self) -> dict:
        """See Trainee."""
        return self.training.train()

    def evaluate(self) -> int:
        """See Trainee."""
        table, _ = self.training.predict(self.split, None)
        logits = numpy.stack(table.column("logits").to_numpy())
        score(self.task, logits, table.column("label").to_numpy())
        return len(table)


class Theirs:
    """transformers.Trainer, given what run_glue.py gives it. Logs and saves nothing, as ours."""

    def __init__(self, arm: str, cell: Cell, rows: int, epochs: int):
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
        # Whatever the order of a checkpoint's labels, the times are the same.
        model, _ = load_model(cell.model.parent, run.task, run.seed)
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
                **values,
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
    """transformers.Trainer, which groups a sample by length as it would group the whole split that it is from."""

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
    """Return a split's rows with their tokens, made as run_glue.py makes them."""
    rows = datasets.Dataset(datasets.table.InMemoryTable(pyarrow.parquet.read_table(cell.parquet(split))))
    longest = min(MAX_SEQ_LENGTH, tokenizer.model_max_length)

    def tokens(examples: dict) -> dict:
        texts = [examples[column] for column in cell.task.text_columns]
        return tokenizer(*texts, padding="max_length" if padded else False, max_length=longest, truncation=True)

    return rows.map(tokens, batched=True)


def _scores(cell: Cell, prediction: EvalPrediction) -> dict:
    return score(cell.task, prediction.predictions, prediction.label_ids)


def measure(arm: str, cell: Cell, examples: int, parts: list[str]) -> dict[str, dict]:
    """Train and evaluate a cell by an arm, as far as they are among the parts; return what was measured of each.

    Trained are as many epochs of the cell's sample as it takes to see so many examples.
    """
    forget_earlier_settings()
    make = Ours if arm == "d" else partial(Theirs, arm)
    on_gpu = read_run(cell.run_json).device == "cuda"
    trainee, measured = None, {}
    if "training" in parts:
        trainee = _warmed_up(make, cell, math.ceil(examples / cell.rows), on_gpu)
        measured["training"] = _train(trainee)
    if "evaluation" in parts:
        trainee = trainee or make(cell, cell.rows, 1)
        if on_gpu:
            trainee.evaluate()
        measured["evaluation"] = _evaluate(trainee)
    return measured


def forget_earlier_settings() -> None:
    """Undo what Trainer leaves to all that come later in its process: precision and torch.compile among them."""
    for name in [name for name in os.environ if name.startswith("ACCELERATE_")]:
        del os.environ[name]
    AcceleratorState._reset_state(reset_partial_state=True)


def measure_tokenising(arm: str, cell: Cell, folder: Path) -> dict:
    """Return the seconds that the tokens of a cell's rows take: (a) by run_glue.py's way, (d) by ours, to files."""
    tokenizer = AutoTokenizer.from_pretrained(cell.model.parent, local_files_only=True)
    splits = (cell.task.train, cell.validation)
    started = time.perf_counter()
    if arm == "d":
        tokenize_task(cell.model, cell.data, cell.task, MAX_SEQ_LENGTH, folder / "manifest.json")
    else:
        for split in splits:
            tokenized(cell, split, tokenizer, padded=True)
    seconds = time.perf_counter() - started
    tokens = cell.read_tokens()
    return {"seconds": seconds, "examples": sum(len(tokens.split(split)) for split in splits)}


def _warmed_up(make: Callable[..., Trainee], cell: Cell, epochs: int, on_gpu: bool) -> Trainee:
    """Return what is to be timed, after a training that is not.

    On a GPU that is the same training: kernels are compiled for all shapes that it meets. On a CPU some steps will do,
    of another copy of the model.
    """
    if on_gpu:
        trainee = make(cell, cell.rows, epochs)
        trainee.train()
        return trainee
    make(cell, min(WARM_UP_STEPS * BATCH_SIZE, cell.rows), 1).train()
    return make(cell, cell.rows, epochs)


def _train(trainee: Trainee) -> dict:
    """Return seconds of the training loop (and of the call, with its preparations), steps, examples, tokens."""
    with _counted_steps() as steps:
        started = time.perf_counter()
        metrics = trainee.train()
        wait_for_device()
        seconds = time.perf_counter() - started
    return {
        "seconds": metrics["train_runtime"],
        "seconds_of_the_call": seconds,
        "steps": len(steps),
        "examples": metrics["train_samples"] * trainee.epochs,
        "tokens": trainee.tokens * trainee.epochs,
    }


def _evaluate(trainee: Trainee) -> dict:
    started = time.perf_counter()
    examples = trainee.evaluate()
    wait_for_device()
    return {"seconds": time.perf_counter() - started, "examples": examples}


@contextmanager
def _counted_steps() -> Iterator[list]:
    """Yield a list that gets an entry for each step of any of torch's optimizers."""
    steps: list[None] = []
    hook = register_optimizer_step_post_hook(lambda *_: steps.append(None))
    try:
        yield steps
    finally:
        hook.remove()


def wait_for_device() -> None:
    """Wait until a GPU, if there is one, has done all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
