"""Train, score and predict one cell, and leave its result complete in the cell's state folder."""

import logging
import math
from pathlib import Path

import numpy
import pyarrow
import pyarrow.parquet
from accelerate import Accelerator
from transformers import PreTrainedModel

from gluegrid import attempts
from gluegrid.cell import CellFiles
from gluegrid.data import Collator, Tokens, evaluation_loader, training_loader
from gluegrid.device import describe_device, prepare_device
from gluegrid.files import read_json, replacing, sha256, write_json
from gluegrid.head import current_head
from gluegrid.leaving import Leaving
from gluegrid.micro_batches import MicroBatches
from gluegrid.model import check_inputs_fit, load_model, takes_token_types
from gluegrid.provenance import git_state, job, now, versions
from gluegrid.records import SCHEMA_VERSION
from gluegrid.run import Run
from gluegrid.safekeeping import VERSIONS_OF_A_CHECKPOINT, Safekeeping
from gluegrid.scoring import score
from gluegrid.training import Keeper, Training, predict

logger = logging.getLogger(__name__)

CHECKPOINT_MINUTES = 10


class CellTraining:
    """One cell's model and data on its device. Raises GluegridError for what the user can mend."""

    def __init__(self, run: Run, model_folder: Path, tokens: Tokens):
        self.run = run
        self.tokens = tokens
        self.accelerator: Accelerator = prepare_device(run)
        self.model: PreTrainedModel
        trusted = run.model.get("trust_remote_code", False)
        self.model, self.label_order = load_model(model_folder, run.task, run.seed, trusted)
        check_inputs_fit(self.model, tokens.manifest["vocabulary"], tokens.longest)
        with_token_types = tokens.manifest["token_type_ids"] and takes_token_types(self.model)
        self.collator = Collator(tokens.manifest["pad_token_id"], with_token_types, self.label_order)
        self.micro_batch_rows: dict[str, int | None] = {"train": None, "eval": None}

    def train(self, keeper: Keeper | None = None) -> dict:
        """Train on the training split; return run_glue.py's train metrics."""
        rows = self.tokens.split(self.run.task.train, self.run.max_train_samples)
        batch_size = self.run.examples_per_update
        loader = training_loader(rows, batch_size, self.run.seed, self.collator)
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        logger.info("%s, %s parameters, on %s", self.run.model["name"], f"{parameters:,}", self.accelerator.device)
        logger.info("%s: %s examples, %d per update", self.run.task.name, f"{len(rows):,}", batch_size)
        training = Training(self.accelerator, self.model, loader, self.run)
        metrics = training.finish(keeper)
        self.model = training.model
        self.micro_batch_rows["train"] = training.micro_batches.rows
        return metrics

    def predict(self, split: str, most: int | None = None) -> tuple[pyarrow.Table, float]:
        """Return a split's idx, label and logits, and the seconds it took."""
        rows = self.tokens.split(split, most)
        loader = evaluation_loader(rows, self.run.per_device_eval_batch_size, self.collator)
        logger.info("predicting %s: %s examples", split, f"{len(rows):,}")
        micro_batches = MicroBatches("prediction", self.micro_batch_rows["eval"])
        logits, seconds = predict(self.accelerator, self.model, loader, self.label_order, micro_batches)
        self.micro_batch_rows["eval"] = micro_batches.rows
        columns = {"idx": rows["idx"][:], "label": rows["label"][:], "logits": list(logits)}
        return pyarrow.table(columns), seconds


def finetune(run: Run, files: CellFiles, model: Path, tokens: Tokens, inputs: dict, leaving: Leaving) -> None:
    """Train a cell and write its predictions, record and results, the results last.

    Goes on where an earlier attempt was cut off. Raises Stopped when it is time to leave.
    """
    started = now()
    cell = CellTraining(run, model.parent, tokens)
    keeper = _safekeeping(run, files, inputs, leaving)
    with leaving.held_back():
        results = cell.train(keeper)
    files.begin_result()
    predictions = {}
    for split, suffix in run.task.validation.items():
        table, seconds = cell.predict(split, run.max_eval_samples)
        results |= _evaluation_metrics(run, table, seconds, suffix)
        predictions[split] = _write_predictions(files.new_predictions(split), table)
    for split in run.task.test:
        predictions[split] = _write_predictions(files.new_predictions(split), cell.predict(split)[0])
    record = {
        "schema_version": SCHEMA_VERSION,
        "identity": _identity(run),
        **inputs,
        "predictions_sha256": predictions,
        "model_revision": _resolved_revision(model),
        "started": started,
        "finished": now(),
        "attempts": len(attempts.of_this_result(files.state, inputs["run_sha256"])),
        "continued": keeper.continued,
        "train_rows": tokens.manifest["splits"][run.task.train]["rows"],
        **describe_device(run),
        "micro_batch_rows": cell.micro_batch_rows,
        "job": job(),
        "git": _git_state(),
        "versions": versions(),
    }
    write_json(files.new_result / "run_record.json", record)
    write_json(files.new_result / "all_results.json", results)
    files.keep_result()
    keeper.delete()


def _safekeeping(run: Run, files: CellFiles, inputs: dict, leaving: Leaving) -> Safekeeping:
    config = (current_head() or {}).get("config", {})
    used = versions()
    identity = {**inputs, **{name: used[name] for name in VERSIONS_OF_A_CHECKPOINT}}
    maker = {"git": _git_state(), "device": describe_device(run)["device"], "job": job()}
    seconds_between = 60 * config.get("checkpoint_minutes", CHECKPOINT_MINUTES)
    return Safekeeping(files.checkpoints, files.progress, identity, maker, seconds_between, leaving)


def _git_state() -> dict:
    return (current_head() or {}).get("git") or git_state()


def _evaluation_metrics(run: Run, table: pyarrow.Table, seconds: float, suffix: str) -> dict:
    """Return run_glue.py's eval metrics of one split, their names ending in the split's suffix."""
    logits = numpy.stack(table.column("logits").to_numpy())
    labels = table.column("label").to_numpy()
    scores = score(run.task, logits, labels)
    degenerate = scores.pop("degenerate")
    steps = math.ceil(len(table) / run.per_device_eval_batch_size)
    scores |= {
        "runtime": seconds,
        "samples": len(table),
        "samples_per_second": len(table) / seconds,
        "steps_per_second": steps / seconds,
    }
    metrics = {f"eval_{name}{suffix}": value for name, value in scores.items()}
    return metrics | ({"degenerate": True} if degenerate else {})


def _write_predictions(path: Path, table: pyarrow.Table) -> str:
    """Write a split's predictions; return the file's hash."""
    with replacing(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)
    return sha256(path)


def _identity(run: Run) -> dict:
    return {
        "experiment": run.experiment,
        "model": run.model["name"],
        "task": run.task.name,
        "variant": run.variant,
        "seed": run.seed,
    }


def _resolved_revision(model: Path) -> str:
    manifest = read_json(model)
    return manifest["resolved_revision"] or manifest["revision"]
