"""Train, score and predict one cell, and leave its result complete in the cell's state folder."""

import logging
import math
from collections.abc import Callable
from pathlib import Path

import numpy
import pyarrow
import pyarrow.parquet
import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from gluegrid import attempts
from gluegrid.adapters import load_trained_weights, merged, with_adapters
from gluegrid.cell import CellFiles
from gluegrid.data import Tokens
from gluegrid.device import describe_device, prepare_device, uuid_of_gpu
from gluegrid.epochs import EpochScores, numbers_of
from gluegrid.errors import TrainingError
from gluegrid.files import read_json, replacing, sha256, write_json
from gluegrid.forward_pass import ForwardPass
from gluegrid.head import current_head
from gluegrid.leaving import Leaving
from gluegrid.micro_batches import MicroBatches
from gluegrid.model import check_inputs_fit, load_model, takes_token_types
from gluegrid.paths import trackers_folder
from gluegrid.prediction import predict
from gluegrid.processes import Processes
from gluegrid.provenance import git_state, job, now, versions
from gluegrid.records import SCHEMA_VERSION
from gluegrid.run import Run
from gluegrid.safekeeping import VERSIONS_OF_A_CHECKPOINT, Safekeeping
from gluegrid.saved_model import write_model
from gluegrid.scoring import score
from gluegrid.trackers import Trackers
from gluegrid.training import Keeper, Training
from gluegrid.utilisation import Utilisation

logger = logging.getLogger(__name__)

CHECKPOINT_MINUTES = 10
HELP, NOTHING_TO_DO = "help", "nothing to do"  # what the main process tells the others


class CellTraining:
    """One cell's model and data on its device. Raises GluegridError for what the user can mend."""

    def __init__(
        self,
        run: Run,
        model_folder: Path,
        tokens: Tokens,
        accelerator: Accelerator | None = None,
        trackers: Trackers | None = None,
    ):
        self.run = run
        self.tokens = tokens
        self.accelerator: Accelerator = accelerator or prepare_device(run)
        self.processes = Processes(self.accelerator)
        self.trackers = trackers or Trackers([], Path(), run, self.accelerator)
        trusted = run.model.get("trust_remote_code", False)
        model, label_order, new = load_model(model_folder, run.task, run.seed, trusted)
        check_inputs_fit(model, tokens.manifest["vocabulary"], tokens.longest)
        if run.lora is not None:
            model = with_adapters(model, run.lora, new, run.seed)
        if not self.processes.is_main:
            # The others' examples get a dropout of their own.
            torch.manual_seed(run.seed + self.processes.rank)
        self.model: PreTrainedModel = model.to(self.accelerator.device)
        self.forward = ForwardPass(
            self.model,
            tokens.longest,
            tokens.manifest["pad_token_id"],
            tokens.manifest["token_type_ids"] and takes_token_types(model),
            label_order,
            run.attn_implementation,
            self.accelerator.autocast,
        )
        if run.gradient_checkpointing:
            _checkpoint_gradients(self.model)
        self.epochs: EpochScores | None = None
        if run.eval_strategy == "epoch":
            self.epochs = EpochScores(run.task, self.evaluate, run.save_model == "best")
        self.training: Training | None = None
        self.micro_batch_rows: dict[str, int | None] = {"train": None, "eval": None}

    def train(self, keeper: Keeper | None = None) -> dict:
        """Train on the training split; return run_glue.py's train metrics."""
        rows = self.tokens.split(self.run.task.train, self.run.max_train_samples)
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        logger.info("%s, %s parameters, on %s", self.run.model["name"], f"{parameters:,}", self.accelerator.device)
        logger.info(
            "%s: %s examples, %d per update", self.run.task.name, f"{len(rows):,}", self.run.examples_per_update
        )
        self.training = Training(self.accelerator, self.forward, rows, self.run, self.trackers, self.epochs)
        metrics = self.training.finish(keeper)
        self.micro_batch_rows["train"] = self.training.micro_batches.rows
        return metrics

    def predict(
        self, split: str, most: int | None = None, between_batches: Callable[[], None] = lambda: None
    ) -> tuple[pyarrow.Table, float]:
        """Return a split's idx, label and logits, and the seconds it took."""
        rows = self.tokens.split(split, most)
        logger.info("predicting %s: %s examples", split, f"{len(rows):,}")
        micro_batches = MicroBatches("prediction", self.forward.parts, rows=self.micro_batch_rows["eval"])
        # As many as a batch of the longest rows would have.
        tokens_at_once = self.run.per_device_eval_batch_size * self.run.max_seq_length
        logits, seconds = predict(self.processes, self.forward, rows, tokens_at_once, micro_batches, between_batches)
        self.micro_batch_rows["eval"] = micro_batches.rows
        return pyarrow.table({"idx": rows.idx, "label": rows.labels, "logits": list(logits)}), seconds

    def evaluate(self, between_batches: Callable[[], None] = lambda: None) -> dict:
        """Return run_glue.py's eval metrics of all validation splits."""
        metrics = {}
        for split, suffix in self.run.task.validation.items():
            table, seconds = self.predict(split, self.run.max_eval_samples, between_batches)
            metrics |= evaluation_metrics(self.run, table, seconds, suffix)
        return metrics


def _checkpoint_gradients(model: PreTrainedModel) -> None:
    if not model.supports_gradient_checkpointing:
        raise TrainingError(
            f"gradient_checkpointing: {type(model).__name__} cannot do it; set it to false for this model"
        )
    model.gradient_checkpointing_enable()


def finetune(run: Run, files: CellFiles, model: Path, tokens: Tokens, inputs: dict, leaving: Leaving) -> None:
    """Train a cell and write its predictions, record and results, the results last.

    Goes on where an earlier attempt was cut off. Raises Stopped when it is time to leave.
    """
    started = now()
    accelerator = prepare_device(run)
    Processes(accelerator).of_main(HELP)
    trackers = Trackers(_head_config().get("report_to", []), trackers_folder(files.run), run, accelerator)
    cell = CellTraining(run, model.parent, tokens, accelerator, trackers)
    keeper = _safekeeping(run, files, inputs, leaving)
    try:
        results, tables, utilisation = _compute(cell, keeper, leaving)
    finally:
        trackers.finish()
    files.begin_result()
    predictions = {name: _write_predictions(files.new_predictions(name), table) for name, table in tables.items()}
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
        "processes": run.processes,
        "padding": cell.forward.why_padded,
        "train_tokens_per_second": cell.training.tokens / results["train_runtime"],
        "utilisation": utilisation,
        "micro_batch_rows": cell.micro_batch_rows,
        "job": job(),
        "git": _git_state(),
        "versions": versions(),
    }
    if cell.epochs is not None:
        record["curve"] = cell.epochs.curve
    if run.save_model != "none":
        record["saved_model"] = _save_model(cell, files.new_saved_model, results, record)
    write_json(files.new_result / "run_record.json", record)
    write_json(files.new_result / "all_results.json", results)
    files.keep_result()
    keeper.delete()


def help_to_finetune(run: Run, files: CellFiles, model: Path, tokens: Tokens, inputs: dict, leaving: Leaving) -> None:
    """Be one of several processes that train a cell, but not the one that writes; return when that one is done."""
    accelerator = prepare_device(run)
    processes = Processes(accelerator)
    if processes.of_main(None) == HELP:
        _compute(
            CellTraining(run, model.parent, tokens, accelerator), _safekeeping(run, files, inputs, leaving), leaving
        )
    else:
        processes.part()


def dismiss_helpers(run: Run) -> None:
    """Let the other processes of a cell, if there are any, end, since nothing is to be trained."""
    if run.processes > 1:
        processes = Processes(prepare_device(run))
        processes.of_main(NOTHING_TO_DO)
        processes.part()


def _compute(cell: CellTraining, keeper: Safekeeping, leaving: Leaving) -> tuple[dict, dict[str, pyarrow.Table], dict]:
    """Train; return the metrics, the predictions of each split, and how busy the device was."""
    run = cell.run
    with Utilisation(run.threads, uuid_of_gpu(run)) as utilisation, leaving.held_back():
        results = cell.train(keeper)
    tables, scores = {}, {}
    for split, suffix in run.task.validation.items():
        tables[split], seconds = cell.predict(split, run.max_eval_samples)
        scores |= evaluation_metrics(run, tables[split], seconds, suffix)
    for split in run.task.test:
        tables[split], _ = cell.predict(split)
    if cell.epochs is not None:
        cell.epochs.add(results["epoch"], cell.training.steps, scores, cell.model)
    cell.trackers.log(numbers_of(results | scores), cell.training.steps)
    cell.processes.part()
    return results | scores, tables, utilisation.measured


def _save_model(cell: CellTraining, folder: Path, results: dict, record: dict) -> dict:
    """Write the last or best epoch's model; return its epoch, its score if it is the best, and its files' hashes."""
    about = {"epoch": results["epoch"]}
    if cell.run.save_model == "best" and cell.epochs.best is not None:
        about = {key: cell.epochs.best[key] for key in ("epoch", "score")}
        load_trained_weights(cell.model, cell.epochs.best["weights"])
        scores = next(entry for entry in cell.epochs.curve if entry["epoch"] == about["epoch"])
        results = results | {key: value for key, value in scores.items() if key != "step"}
    of_record = {key: record[key] for key in ("run_sha256", "task_files", "git", "versions")}
    card = {"results": results, "epoch": about["epoch"], **of_record}
    write_model(folder, merged(cell.model), cell.tokens.tokenizer_folder, cell.run, card)
    return about | {"files": {path.name: sha256(path) for path in sorted(folder.iterdir())}}


def _safekeeping(run: Run, files: CellFiles, inputs: dict, leaving: Leaving) -> Safekeeping:
    config = _head_config()
    used = versions()
    identity = {**inputs, **{name: used[name] for name in VERSIONS_OF_A_CHECKPOINT}}
    maker = {"git": _git_state(), "device": describe_device(run)["device"], "job": job()}
    seconds_between = 60 * config.get("checkpoint_minutes", CHECKPOINT_MINUTES)
    return Safekeeping(files.checkpoints, files.progress, identity, maker, seconds_between, leaving)


def _head_config() -> dict:
    return (current_head() or {}).get("config", {})


def _git_state() -> dict:
    return (current_head() or {}).get("git") or git_state()


def evaluation_metrics(run: Run, table: pyarrow.Table, seconds: float, suffix: str) -> dict:
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
