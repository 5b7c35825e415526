"""Train, score and predict one cell, and put its complete result into the cell's state folder."""

import logging
from pathlib import Path

import pyarrow
import pyarrow.parquet

from gluegrid.common.files import read_json, replacing, sha256, write_json
from gluegrid.common.paths import trackers_folder
from gluegrid.common.provenance import git_state, job, now, versions
from gluegrid.execution import attempts
from gluegrid.execution.cell_state import CellFiles
from gluegrid.execution.invocation import current_invocation
from gluegrid.execution.preemption import Preemption
from gluegrid.experiment.run import SCHEMA_VERSION, Run, weights_to_start_from
from gluegrid.experiment.task import Task
from gluegrid.models.lora import load_trained_weights, merged
from gluegrid.training.cell_trainer import CellTraining, evaluation_metrics
from gluegrid.training.checkpointing import CHECKPOINT_MINUTES, VERSIONS_OF_A_CHECKPOINT, Checkpointing
from gluegrid.training.dataset import Tokens
from gluegrid.training.device import Utilisation, describe_device, prepare_device, uuid_of_gpu
from gluegrid.training.distributed import Processes
from gluegrid.training.epochs import numbers_of
from gluegrid.training.predict import with_answers
from gluegrid.training.saved_model import write_model
from gluegrid.training.trackers import Trackers

logger = logging.getLogger(__name__)

HELP, NOTHING_TO_DO = "help", "nothing to do"  # the main process's orders to the others


def finetune(run: Run, files: CellFiles, model: Path, tokens: Tokens, inputs: dict, leaving: Preemption) -> None:
    """Train a cell and write its predictions, record and results, the results last.

    Resume from an earlier attempt's checkpoint. Raise Stopped when it is time to stop.
    """
    started = now()
    processes = Processes(prepare_device(run))
    processes.from_main(HELP)
    trackers = Trackers(_head_config().get("report_to", []), trackers_folder(files.run), run, processes.accelerator)
    cell = CellTraining(run, weights_to_start_from(run, files.run, model), tokens, processes, trackers)
    keeper = _checkpointing(run, files, inputs, leaving)
    try:
        results, tables, utilisation = _compute(cell, keeper, leaving)
    finally:
        trackers.finish()
    files.begin_result()
    predictions = {split: _write_predictions(files, run.task, split, table) for split, table in tables.items()}
    manifest = read_json(model)
    names = {"experiment": run.experiment, "model": run.model["name"], "task": run.task.name}
    record = {
        "schema_version": SCHEMA_VERSION,
        "identity": names | {"variant": run.variant, "seed": run.seed},
        **inputs,
        "predictions_sha256": predictions,
        "model_revision": manifest["resolved_revision"] or manifest["revision"],
        "started": started,
        "finished": now(),
        "attempts": len(attempts.at_this_result(files.state, inputs["run_sha256"])),
        "continued": keeper.continued,
        **describe_device(run),
        "processes": run.processes,
        "padding": cell.forward.why_padded,
        "compute_paths": cell.compute_paths,
        "utilisation": utilisation,
        "micro_batch_rows": cell.micro_batch_rows,
        "job": job(),
        "git": _git_state(),
        "versions": versions(),
    }
    if run.do_train:
        record["train_rows"] = tokens.manifest["splits"][run.task.train]["rows"]
        record["train_tokens_per_second"] = cell.training.tokens / results["train_runtime"]
    if cell.epochs is not None:
        record["curve"] = cell.epochs.curve
    if run.save_model != "none":
        record["saved_model"] = _save_model(cell, files.new_saved_model, results, record)
    write_json(files.new_result / "run_record.json", record)
    write_json(files.new_result / "all_results.json", results)
    files.keep_result()
    keeper.delete()


def help_to_finetune(
    run: Run, files: CellFiles, model: Path, tokens: Tokens, inputs: dict, leaving: Preemption
) -> None:
    """Help the main process train a cell, without writing anything; return when the main process is done."""
    processes = Processes(prepare_device(run))
    if processes.from_main(None) == HELP:
        cell = CellTraining(run, weights_to_start_from(run, files.run, model), tokens, processes)
        _compute(cell, _checkpointing(run, files, inputs, leaving), leaving)
    else:
        processes.part()


def dismiss_helpers(run: Run) -> None:
    """Let the other processes of a cell end, since there is nothing to train."""
    if run.processes > 1:
        processes = Processes(prepare_device(run))
        processes.from_main(NOTHING_TO_DO)
        processes.part()


def _compute(
    cell: CellTraining, keeper: Checkpointing, leaving: Preemption
) -> tuple[dict, dict[str, pyarrow.Table], dict]:
    """Train; return the metrics, the predictions of each split, and the device's utilization."""
    run = cell.run
    with Utilisation(run.threads, uuid_of_gpu(run)) as utilisation, leaving.held_back():
        results = cell.train(keeper) if run.do_train else {}
    tables, scores = {}, {}
    for split, suffix, rows in cell.scored_splits():
        tables[split], seconds = cell.predict_rows(split, rows)
        scores |= evaluation_metrics(run, tables[split], seconds, suffix)
    for split in run.task.test:
        tables[split], _ = cell.predict(split)
    if cell.epochs is not None:
        cell.epochs.add(results["epoch"], cell.training.steps, scores, cell.model)
    cell.trackers.log(numbers_of(results | scores), cell.training.steps if cell.training else 0)
    cell.processes.part()
    if not run.task.validation:
        scores["predict_samples"] = sum(map(len, tables.values()))
    return results | scores, tables, utilisation.measured


def _save_model(cell: CellTraining, folder: Path, results: dict, record: dict) -> dict:
    """Save the last or best epoch's model; return its epoch, its score if it is the best, and its files' hashes."""
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


def _checkpointing(run: Run, files: CellFiles, inputs: dict, leaving: Preemption) -> Checkpointing:
    used = versions()
    identity = inputs | {name: used[name] for name in VERSIONS_OF_A_CHECKPOINT}
    here = describe_device(run)
    maker = {"git": _git_state(), "device": here["device"], "precision": here["precision"], "job": job()}
    seconds_between = 60 * _head_config().get("checkpoint_minutes", CHECKPOINT_MINUTES)
    return Checkpointing(files.checkpoints, files.progress, identity, maker, seconds_between, leaving)


def _head_config() -> dict:
    return (current_invocation() or {}).get("config", {})


def _git_state() -> dict:
    return (current_invocation() or {}).get("git") or git_state()


def _write_predictions(files: CellFiles, task: Task, split: str, table: pyarrow.Table) -> str:
    """Write a split's predictions and what they mean; return the file's hash."""
    path = files.new_predictions(split)
    with replacing(path) as temporary:
        pyarrow.parquet.write_table(with_answers(table, task), temporary)
    return sha256(path)
