"""Everything around the training of one cell: its attempts, its last good result, and how results are published.

Imports nothing heavy, so that a process that finds its work done or taken ends within a second.
"""

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gluegrid import attempts
from gluegrid.errors import GluegridError
from gluegrid.files import read_json, replacing, sha256
from gluegrid.head import current_head
from gluegrid.manifests import recorded_hashes
from gluegrid.paths import state_folder


class Stopped(BaseException):
    """The process was asked to end (SIGTERM): cancelled, preempted, or out of time."""


class CellFiles:
    """The files of one cell. Its state folder is private to training."""

    def __init__(self, run: Path):
        self.run = run
        self.state = state_folder(run)
        self.last_good = self.state / "last_good_result"
        self.new_result = self.state / "new_result"

    @property
    def lock(self) -> Path:
        """The lock that lets one process at a time train the cell."""
        return self.state / "lock"

    def new_predictions(self, split: str) -> Path:
        """The predictions of a split, in the result that is being written."""
        return self.new_result / f"predictions_{split}.parquet"

    def begin_result(self) -> None:
        """Make an empty folder for a result; the last good one stays until this one is complete."""
        shutil.rmtree(self.new_result, ignore_errors=True)
        self.new_result.mkdir(parents=True)

    def keep_result(self) -> None:
        """Let the new result, now complete, take the last good one's place."""
        shutil.rmtree(self.last_good, ignore_errors=True)
        self.new_result.rename(self.last_good)


@contextmanager
def attempt(files: CellFiles) -> Iterator[None]:
    """Note an attempt and how it ends; SIGTERM raises Stopped inside."""
    attempts.start(files.state, sha256(files.run))
    signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    except BaseException as error:
        attempts.end(files.state, _reason(error))
        raise
    attempts.end(files.state, attempts.DONE)


def _stop(number: int, frame: object) -> None:
    raise Stopped


def _reason(error: BaseException) -> str:
    if isinstance(error, GluegridError):
        return str(error)
    if isinstance(error, Stopped):
        return "stopped by SIGTERM: cancelled, preempted, or at its time limit"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    first_line = str(error).strip().splitlines()[:1]
    return ": ".join([type(error).__name__, *first_line])


def has_result_of_this_call(files: CellFiles, inputs: dict) -> bool:
    """Tell whether another job of this cell finished after the present call of snakemake began.

    Such a job was left behind by a killed head, or died between saving and publishing. An older result does not count:
    when Snakemake starts a cell that has one, a rerun is wanted.
    """
    head = current_head()
    record_path = files.last_good / "run_record.json"
    if head is None or not record_path.exists():
        return False
    record = read_json(record_path)
    return record["finished"] >= head["started"] and all(record[key] == inputs[key] for key in inputs)


def publish(files: CellFiles, record: Path, results: Path) -> None:
    """Copy the last good result to where the workflow expects it, all_results.json last."""
    predictions = sorted(files.last_good.glob("predictions_*.parquet"))
    targets = [(path, results.parent / path.name) for path in predictions]
    targets += [(files.last_good / "run_record.json", record), (files.last_good / "all_results.json", results)]
    for source, target in targets:
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)


def identity_of_inputs(run: Path, model: Path, task: Path, tokens: Path) -> dict:
    """Return the hashes of what a run is made from: run.json, and each file that the manifests name."""
    return {
        "run_sha256": sha256(run),
        "model_files": recorded_hashes(model),
        "task_files": recorded_hashes(task),
        "tokens_files": recorded_hashes(tokens),
    }
