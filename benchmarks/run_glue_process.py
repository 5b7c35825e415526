"""Do what run_glue.py does with a task from files, as the baseline of whole processes: tokenize, train, evaluate.

It leaves out what gluegrid does not do by default either: saving the model, and tokenizing unused splits. Scores are
computed without the hub.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from datasets import Dataset, load_dataset
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    EvalPrediction,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

from gluegrid.experiment.run import Run, read_run
from gluegrid.training.metrics import score


def main() -> None:
    """Train, evaluate and write all_results.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True, type=Path, help="run.json of the cell to train")
    parser.add_argument("--model", required=True, type=Path, help="folder of the model")
    parser.add_argument("--data", required=True, type=Path, help="folder of the task's parquet files")
    parser.add_argument("--cache", required=True, type=Path, help="cache folder of datasets")
    parser.add_argument("--output", required=True, type=Path, help="folder to write")
    arguments = parser.parse_args()
    run = read_run(arguments.run)
    torch.set_num_threads(run.threads)
    set_seed(run.seed)
    config = AutoConfig.from_pretrained(arguments.model, num_labels=run.task.number_of_outputs)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForSequenceClassification.from_pretrained(arguments.model, config=config, dtype=torch.float32)
    started = time.perf_counter()
    train, validation = tokenized(arguments.data, run, tokenizer, arguments.cache)
    seconds = time.perf_counter() - started
    trainer = Trainer(
        model=model,
        args=training_arguments(arguments.output, run),
        train_dataset=train,
        eval_dataset=validation,
        compute_metrics=lambda prediction: scores(run, prediction),
        processing_class=tokenizer,
        data_collator=default_data_collator,
    )
    results = trainer.train().metrics | trainer.evaluate() | {"tokenise_runtime": seconds}
    results |= {"train_samples": len(train), "eval_samples": len(validation)}
    (arguments.output / "all_results.json").write_text(json.dumps(results, indent=4), encoding="utf-8")


def tokenized(data: Path, run: Run, tokenizer: PreTrainedTokenizerBase, cache: Path) -> list[Dataset]:
    """Return the used rows of the training and validation split, tokenized and padded to one length."""
    splits = {run.task.train: run.max_train_samples, next(iter(run.task.validation)): run.max_eval_samples}
    files = {split: str(data / f"{split}-00000-of-00001.parquet") for split in splits}
    loaded = load_dataset("parquet", data_files=files, cache_dir=str(cache))
    longest = min(run.max_seq_length, tokenizer.model_max_length)

    def tokens(examples: dict) -> dict:
        texts = [examples[column] for column in run.task.text_columns]
        return tokenizer(*texts, padding="max_length", max_length=longest, truncation=True)

    used = [loaded[split].select(range(min(count, len(loaded[split])))) for split, count in splits.items()]
    return [rows.map(tokens, batched=True, load_from_cache_file=False) for rows in used]


def training_arguments(output: Path, run: Run) -> TrainingArguments:
    """Return Trainer's defaults with the run's values."""
    return TrainingArguments(
        output_dir=str(output),
        use_cpu=run.device == "cpu",
        learning_rate=run.learning_rate,
        per_device_train_batch_size=run.per_device_train_batch_size,
        per_device_eval_batch_size=run.per_device_eval_batch_size,
        num_train_epochs=run.num_train_epochs,
        seed=run.seed,
        save_strategy="no",
        report_to="none",
    )


def scores(run: Run, prediction: EvalPrediction) -> dict:
    """Return the task's metrics."""
    return score(run.task, prediction.predictions, prediction.label_ids)


if __name__ == "__main__":
    main()
