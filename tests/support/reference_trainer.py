"""transformers.Trainer on one of our cells, set up as in run_glue.py, to compare our loop with."""

import numpy
import torch
from transformers import Trainer, TrainingArguments

from gluegrid.models.classifier import load_model
from gluegrid.training.dataset import Order


class OrderForTrainer(torch.utils.data.Sampler):
    """Our order of examples, with the method by which Trainer announces an epoch."""

    def __init__(self, order):
        self.order = order
        self.epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        return iter(self.order.in_epoch(self.epoch).tolist())

    def __len__(self):
        return len(self.order.lengths)


class RowsForTrainer(torch.utils.data.Dataset):
    """The rows of a split, in the form that Trainer takes."""

    def __init__(self, rows):
        self.rows = rows

    def __getitem__(self, number):
        columns = {"input_ids": self.rows.input_ids[number], "token_type_ids": self.rows.token_type_ids[number]}
        return {name: column.tolist() for name, column in columns.items()} | {"label": self.rows.labels[number]}

    def __len__(self):
        return len(self.rows)


def padded_to_longest(examples):
    """Collate as DataCollatorWithPadding does for a tokenizer whose padding token is 0."""
    return padded(examples, max(len(example["input_ids"]) for example in examples))


def padded(examples, longest):
    """Collate rows that run_glue.py has padded, as default_data_collator does."""
    batch = {
        name: torch.tensor([example[name] + [0] * (longest - len(example[name])) for example in examples])
        for name in ("input_ids", "token_type_ids")
    }
    lengths = torch.tensor([len(example["input_ids"]) for example in examples])
    mask = (torch.arange(longest) < lengths[:, None]).long()
    return batch | {"attention_mask": mask, "labels": torch.tensor(numpy.array([e["label"] for e in examples]))}


class TrainerInOurOrder(Trainer):
    """transformers.Trainer with the examples in the order of our loop."""

    def __init__(self, run, **options):
        self.run_values = run
        self.losses = []
        super().__init__(**options)

    def _get_train_sampler(self, train_dataset=None):
        return OrderForTrainer(Order(self.train_dataset.rows, self.run_values))

    def training_step(self, *arguments, **options):
        loss = super().training_step(*arguments, **options)
        self.losses.append(loss.item())
        return loss


def trained_by_transformers(cell_training, folder, model_folder, collator, **arguments):
    """Train the same cell as run_glue.py does, with more of Trainer's arguments; return the Trainer and its metrics."""
    run = cell_training.run
    model, *_ = load_model(model_folder, run.task, run.seed)
    values = TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        learning_rate=run.learning_rate,
        per_device_train_batch_size=run.per_device_train_batch_size,
        num_train_epochs=run.num_train_epochs,
        seed=run.seed,
        remove_unused_columns=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **arguments,
    )
    trainer = TrainerInOurOrder(
        run,
        model=model,
        args=values,
        train_dataset=RowsForTrainer(cell_training.tokens.split("train", run.max_train_samples)),
        data_collator=collator,
    )
    return trainer, trainer.train().metrics
