"""The state folder of one cell, private to its training: its last good result, and how results are published.

Imports nothing heavy, so that a process ends within a second if its work is done already or done by another.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from gluegrid.common.errors import DataError, GluegridError
from gluegrid.common.files import link_or_copy, read_json, replacing, replacing_folder, sha256
from gluegrid.common.manifests import recorded_hashes
from gluegrid.common.paths import state_folder
from gluegrid.execution import attempts
from gluegrid.execution.invocation import is_newer_than_invocation, path_of_current_invocation
from gluegrid.execution.locks import living_holder
from gluegrid.execution.reasons import Cause
from gluegrid.experiment.run import MODEL, identity_of_start, read_run

RECORD = "run_record.json"


class CellFiles:
    """The files of one cell. The state folder is private to training."""

    def __init__(self, run: Path):
        self.run = run
        self.state = state_folder(run)
        self.lock = self.state / "lock"  # lets one process at a time train the cell
        self.last_good = self.state / "last_good_result"
        self.new_result = self.state / "new_result"
        self.new_saved_model = self.new_result / MODEL
        self.checkpoints = self.state / "checkpoints"
        self.progress = self.state / "progress.json"
        self.failure_of_helper = self.state / "failure_of_helper.json"

    def new_predictions(self, split: str) -> Path:
        """Return the path of a split's predictions in the result that is being written."""
        return self.new_result / f"predictions_{split}.parquet"

    def last_good_predictions(self) -> dict[str, Path]:
        """Return the paths of the last good result's predictions, by split."""
        paths = sorted(self.last_good.glob("predictions_*.parquet"))
        return {path.stem.removeprefix("predictions_"): path for path in paths}

    def begin_result(self) -> None:
        """Create an empty folder for a result; the last good one is kept until this one is complete."""
        shutil.rmtree(self.new_result, ignore_errors=True)
        self.new_result.mkdir(parents=True)

    def keep_result(self) -> None:
        """Replace the last good result by the new one, which is now complete."""
        shutil.rmtree(self.last_good, ignore_errors=True)
        self.new_result.rename(self.last_good)

    def publish(self, record: Path, results: Path) -> None:
        """Copy the last good result to where the workflow expects it, all_results.json last."""
        _publish_model(self.last_good / MODEL, results.parent / MODEL)
        targets = [(path, results.parent / path.name) for path in self.last_good_predictions().values()]
        targets += [(self.last_good / RECORD, record), (self.last_good / "all_results.json", results)]
        for source, target in targets:
            with replacing(target) as temporary:
                shutil.copyfile(source, temporary)


def _publish_model(source: Path, target: Path) -> None:
    """Publish the saved model; if none is saved, remove that of an earlier run."""
    if not source.exists():
        shutil.rmtree(target, ignore_errors=True)
        return
    with replacing_folder(target) as temporary:
        shutil.copytree(source, temporary, copy_function=link_or_copy, dirs_exist_ok=True)


def identity_of_inputs(run: Path, model: Path, task: Path, tokens: Path) -> dict:
    """Return the hashes of a run's inputs: run.json, the files in the manifests, and the model that it starts from."""
    return {
        "run_sha256": sha256(run),
        "model_files": recorded_hashes(model),
        "task_files": recorded_hashes(task),
        "tokens_files": recorded_hashes(tokens),
        **identity_of_start(read_run(run), run),
    }


def has_result_of_this_call(files: CellFiles, inputs: dict) -> bool:
    """Tell whether a job of this cell finished after the current call of snakemake began, or could not publish.

    The first was left behind by a killed call; the second was killed itself, or met a full disk. Any other result does
    not count: when Snakemake starts a cell that has one, it wants a rerun.
    """
    record = _record_of_whole_result(files)
    if record is None or any(record.get(key) != inputs[key] for key in inputs):
        return False
    invocation, tried = path_of_current_invocation(), attempts.read(files.state)
    if tried and tried[-1]["cause"] != Cause.DONE and _is_made_by(tried[-1], record):
        return True  # the attempt could not publish it
    if invocation is None:
        return False
    is_ours = any(attempt.get("head") == invocation and _is_made_by(attempt, record) for attempt in tried)
    return is_ours or is_newer_than_invocation(files.last_good / RECORD)


def would_only_publish(run: Path, model: Path, task: Path, tokens: Path) -> bool:
    """Tell whether a cell's training, started now, would only publish the existing result."""
    try:
        return has_result_of_this_call(CellFiles(run), identity_of_inputs(run, model, task, tokens))
    except (GluegridError, OSError, KeyError):  # the training reports what is wrong
        return False


def is_being_trained(run: Path) -> bool:
    """Tell whether a living process, of any call of snakemake, is training a cell."""
    return living_holder(CellFiles(run).lock) is not None


def has_published(run: Path, model: Path, task: Path, tokens: Path, results: Path, record: Path) -> bool:
    """Tell whether a cell's training, started now, would publish the same result that is already published."""
    try:
        is_the_last = read_json(record) == _record_of_whole_result(CellFiles(run)) and read_json(results)
    except (GluegridError, OSError):
        return False
    return bool(is_the_last) and would_only_publish(run, model, task, tokens)


def make_room(
    run: Path, model: Path, task: Path, tokens: Path, results: Path, record: Path, logs: Iterable[Path]
) -> None:
    """Prepare a cell for training: delete its outputs, and empty its logs.

    But leave what another call of snakemake is writing, or has published since this call planned the cell. Logs are
    emptied, not deleted, so that two trainings that start at once append to the same file, and none writes into a
    deleted one.
    """
    if has_published(run, model, task, tokens, results, record):
        return
    for output in (results, record):
        output.unlink(missing_ok=True)
    if not is_being_trained(run):
        for log in filter(Path.exists, logs):
            os.truncate(log, 0)


def _is_made_by(attempt: dict, record: dict) -> bool:
    """Tell whether an attempt made a result: the same process, so both timestamps are from the same host's clock."""
    process = record.get("job", {})
    is_same = all(process.get(key) == attempt[key] for key in ("host", "pid", "slurm_job_id"))
    return is_same and record["finished"] >= attempt["start"]


def _record_of_whole_result(files: CellFiles) -> dict | None:
    """Return the record of the last good result; None if there is none, or if it is damaged."""
    try:
        record = read_json(files.last_good / RECORD)
        read_json(files.last_good / "all_results.json")
        hashes = {name: sha256(path) for name, path in files.last_good_predictions().items()}
    except (DataError, OSError):
        return None
    return record if record.get("predictions_sha256") == hashes and "finished" in record else None
