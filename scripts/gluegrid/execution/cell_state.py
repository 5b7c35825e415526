"""Everything around the training of one cell: its attempts, its last good result, and how results are published.

Imports nothing heavy, so that a process that finds its work done or taken ends within a second.
"""

import logging
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from gluegrid.common.errors import DataError, GluegridError, Stopped, TransientError
from gluegrid.common.files import disk_full, is_disk_full, link_or_copy, read_json, replacing, replacing_folder, sha256
from gluegrid.common.manifests import recorded_hashes
from gluegrid.common.paths import state_folder
from gluegrid.common.provenance import EXECUTOR, is_running, job, this_process
from gluegrid.execution import attempts
from gluegrid.execution.invocation import is_newer_than_head, path_of_current_head
from gluegrid.execution.locks import Manners, ask_to_leave, describe, living_holder, lock_with_manners
from gluegrid.experiment.run import MODEL, identity_of_start, read_run

logger = logging.getLogger(__name__)

RECORD = "run_record.json"
SECONDS_TO_LEAVE = 300  # for a step, and a checkpoint on a slow disk


class CellFiles:
    """The files of one cell. Its state folder is private to training."""

    def __init__(self, run: Path):
        self.run = run
        self.state = state_folder(run)
        self.last_good = self.state / "last_good_result"
        self.new_result = self.state / "new_result"
        self.new_saved_model = self.new_result / MODEL
        self.checkpoints = self.state / "checkpoints"
        self.progress = self.state / "progress.json"
        self.failure_of_helper = self.state / "failure_of_helper.json"

    @property
    def lock(self) -> Path:
        """The lock that lets one process at a time train the cell."""
        return self.state / "lock"

    def new_predictions(self, split: str) -> Path:
        """The predictions of a split, in the result that is being written."""
        return self.new_result / f"predictions_{split}.parquet"

    def last_good_predictions(self) -> dict[str, Path]:
        """The predictions of the last good result, by split."""
        paths = sorted(self.last_good.glob("predictions_*.parquet"))
        return {path.stem.removeprefix("predictions_"): path for path in paths}

    def begin_result(self) -> None:
        """Make an empty folder for a result; the last good one stays until this one is complete."""
        shutil.rmtree(self.new_result, ignore_errors=True)
        self.new_result.mkdir(parents=True)

    def keep_result(self) -> None:
        """Let the new result, now complete, take the last good one's place."""
        shutil.rmtree(self.last_good, ignore_errors=True)
        self.new_result.rename(self.last_good)


def stop_if_in_vain(files: CellFiles) -> None:
    """Raise GluegridError where another attempt of the present call of snakemake would be in vain."""
    if reason := attempts.reason_to_stop(files.state):
        raise GluegridError(f"{reason} (not tried again by the same call of snakemake)")


@contextmanager
def only_one(files: CellFiles) -> Iterator[None]:
    """Be the one process that trains the cell. Where another one does, it is waited for on one machine; a job of
    SLURM's, which holds a node, raises TransientError within seconds.

    One that has been left behind is asked to leave, and waited for: it saves what it has done.
    """
    manners = Manners(_tell_waiting, LatecomersManners(files.lock), _leave, _end_at_once)
    with ExitStack() as stack:
        try:
            stack.enter_context(lock_with_manners(files.lock, manners))
        except OSError as error:
            if is_disk_full(error):
                raise disk_full(files.lock) from error
            raise TransientError(f"{files.lock}: cannot be written ({error.strerror})") from error
        yield


def _tell_waiting(holder: dict) -> None:
    logger.info("this cell is held by %s; looking whether it lives", describe(holder))


def _leave() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _end_at_once() -> None:
    """End without a word to the state folder, which is another's now."""
    logger.error("the lock of this cell is gone, taken over or removed; ending at once")
    os._exit(1)


def waits_for_others() -> bool:
    """Tell whether a cell that another process trains is waited for: where waiting takes nothing from anybody.

    So it is where snakemake runs its jobs itself (execution/cell_gpus.py leases GPUs only after the wait). A job of
    SLURM's waits in the queue (execution/sbatch.py), and not on a node.
    """
    return os.environ.get(EXECUTOR) == "local"


class LatecomersManners:
    """Ends or lets wait a latecomer to a cell's lock; a holder whom nobody waits for any more is asked to leave."""

    def __init__(self, path: Path):
        self.path = path
        self._asked: dict[str | None, float] = {}  # when, by the holder's token

    def __call__(self, holder: dict) -> None:
        """Look at the holder once more. Raises TransientError where it is not to be waited for."""
        if not _is_left_behind(holder):
            if waits_for_others():
                return
            raise TransientError(f"this cell is being trained by {describe(holder)}; nothing was done here")
        if holder["token"] not in self._asked:
            self._asked[holder["token"]] = time.monotonic()
            logger.info("taking over from %s, which is asked to save its work and leave", describe(holder))
            ask_to_leave(self.path, holder)
        elif time.monotonic() - self._asked[holder["token"]] > SECONDS_TO_LEAVE:
            raise TransientError(f"{describe(holder)} does not leave this cell; end it by hand")


def _is_left_behind(holder: dict) -> bool:
    """Tell whether a living holder is of a head that has died, or what is left of an earlier start of this same job."""
    if holder["head"] is None:
        return False
    # Of another head, it may be in the same allocation and all right.
    is_of_this_job = holder["slurm_job_id"] is not None and holder["slurm_job_id"] == job()["slurm_job_id"]
    if is_of_this_job and holder["head"] == path_of_current_head():
        return True
    try:
        head = read_json(Path(holder["head"]))["process"]
    except (DataError, KeyError):
        return False
    return head["host"] == this_process()["host"] and not is_running(head)


@contextmanager
def attempt(files: CellFiles) -> Iterator[None]:
    """Note an attempt and how it ends."""
    attempts.start(files.state, sha256(files.run))
    try:
        yield
    except BaseException as error:
        _note_failure(files, error)
        if is_disk_full(error) and not isinstance(error, GluegridError):
            raise disk_full(files.state) from error
        raise
    attempts.end(files.state, attempts.DONE)


def _note_failure(files: CellFiles, error: BaseException) -> None:
    is_permanent = isinstance(error, GluegridError) and error.is_permanent
    try:
        attempts.end(files.state, _reason(error), is_permanent)
    except (OSError, GluegridError) as another:
        logger.error("the end of this attempt could not be noted: %s", another)


def _reason(error: BaseException) -> str:
    if isinstance(error, GluegridError | Stopped):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    first_line = str(error).strip().splitlines()[:1]
    return ": ".join([type(error).__name__, *first_line])


def has_result_of_this_call(files: CellFiles, inputs: dict) -> bool:
    """Tell whether a job of this cell finished after the present call of snakemake began, or could not publish.

    The first was left behind by a killed head, the second was killed itself, or met a full disk. Another result does
    not count: when Snakemake starts a cell that has one, a rerun is wanted.
    """
    record = _record_of_whole_result(files)
    if record is None or any(record.get(key) != inputs[key] for key in inputs):
        return False
    head, tried = path_of_current_head(), attempts.read(files.state)
    if tried and tried[-1]["reason"] != attempts.DONE and _is_made_by(tried[-1], record):
        return True  # which it could not publish
    if head is None:
        return False
    is_ours = any(attempt.get("head") == head and _is_made_by(attempt, record) for attempt in tried)
    return is_ours or is_newer_than_head(files.last_good / RECORD)


def _is_made_by(attempt: dict, record: dict) -> bool:
    """Tell whether a result is that of an attempt: the same process, by whose host's clock both moments are."""
    process = record.get("job", {})
    is_same = all(process.get(key) == attempt[key] for key in ("host", "pid", "slurm_job_id"))
    return is_same and record["finished"] >= attempt["start"]


def is_being_trained(run: Path) -> bool:
    """Tell whether a living process, of whatever call, works on a cell."""
    return living_holder(CellFiles(run).lock) is not None


def has_published(run: Path, model: Path, task: Path, tokens: Path, results: Path, record: Path) -> bool:
    """Tell whether a cell's training, begun now, would publish just the result that is there."""
    files = CellFiles(run)
    try:
        is_the_last = read_json(record) == _record_of_whole_result(files) and read_json(results)
        return bool(is_the_last) and has_result_of_this_call(files, identity_of_inputs(run, model, task, tokens))
    except (GluegridError, OSError, KeyError):  # the training tells what is wrong
        return False


def _record_of_whole_result(files: CellFiles) -> dict | None:
    """Return the record of the last good result; None where there is none, or it is damaged."""
    try:
        record = read_json(files.last_good / RECORD)
        read_json(files.last_good / "all_results.json")
        hashes = {name: sha256(path) for name, path in files.last_good_predictions().items()}
    except (DataError, OSError):
        return None
    return record if record.get("predictions_sha256") == hashes and "finished" in record else None


def publish(files: CellFiles, record: Path, results: Path) -> None:
    """Copy the last good result to where the workflow expects it, all_results.json last."""
    _publish_model(files.last_good / MODEL, results.parent / MODEL)
    targets = [(path, results.parent / path.name) for path in files.last_good_predictions().values()]
    targets += [(files.last_good / RECORD, record), (files.last_good / "all_results.json", results)]
    for source, target in targets:
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)


def _publish_model(source: Path, target: Path) -> None:
    """Let the trained model be there too; where none is kept, remove what an earlier run has kept."""
    if not source.exists():
        shutil.rmtree(target, ignore_errors=True)
        return
    with replacing_folder(target) as temporary:
        shutil.copytree(source, temporary, copy_function=link_or_copy, dirs_exist_ok=True)


def identity_of_inputs(run: Path, model: Path, task: Path, tokens: Path) -> dict:
    """Return the hashes of what a run is made from: run.json, each file that the manifests name, and what it starts
    from.
    """
    return {
        "run_sha256": sha256(run),
        "model_files": recorded_hashes(model),
        "task_files": recorded_hashes(task),
        "tokens_files": recorded_hashes(tokens),
        **identity_of_start(read_run(run), run),
    }
