"""What may be deleted without losing a result or work that goes on: found, told, and deleted where that is wished.

Nothing is touched that somebody alive may need, nor the checkpoints of a cell that is not done, nor
anything that says what a run is or was: run.json, results, records, attempts.jsonl, the last good result.
"""

import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from gluegrid.common.errors import DataError, TransientError
from gluegrid.common.files import read_json, sha256, size_in_words
from gluegrid.common.manifests import recorded_hashes
from gluegrid.common.provenance import is_running, this_process
from gluegrid.execution import attempts
from gluegrid.execution.cell_state import CellFiles
from gluegrid.execution.locks import Manners, describe, living_holder, lock_with_manners
from gluegrid.execution.sbatch import jobs_of_cell
from gluegrid.execution.slurm_queue import Job, jobs_in_queue
from gluegrid.experiment.experiment_index import (
    KINDS,
    experiment_folders,
    head_files,
    newest_head,
    newest_plan,
    staged_resources,
    used_resources,
)
from gluegrid.operations.disk import bytes_freed_by_removing

SLURM_LOGS = Path(".snakemake/slurm_logs")
RESOURCES = Path("resources")
NUMBER_OF_JOB = re.compile(r"\d+(_\d+)?")


@dataclass
class Leftovers:
    """What of one kind may be deleted.

    `lock` is held while the paths are deleted, so that nobody begins to use them; `heads_of` is the experiment of which
    no call of snakemake may have begun meanwhile.
    """

    what: str
    paths: list[Path]
    lock: Path | None = None
    heads_of: Path | None = None


@dataclass
class Found:
    """What a place has: leftovers, and lines about what is kept and why."""

    place: str
    leftovers: list[Leftovers] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def report(self) -> Iterator[str]:
        """Yield lines for people."""
        yield f"{self.place}:"
        sums: dict[str, list[int]] = {}
        for leftovers in self.leftovers:
            sums.setdefault(leftovers.what, []).extend(map(bytes_freed_by_removing, leftovers.paths))
        for what, sizes in sums.items():
            yield f"  {what:<44} {len(sizes):>6} {size_in_words(sum(sizes)):>12}"
        if not sums:
            yield "  nothing to delete"
        yield from (f"  kept: {note}" for note in self.notes)

    @property
    def size(self) -> int:
        """The bytes that deleting all of it frees."""
        return sum(bytes_freed_by_removing(path) for leftovers in self.leftovers for path in leftovers.paths)


def find_leftovers(results: Path, name: str | None = None) -> list[Found]:
    """Return what may be deleted of all experiments and of what they share, or of the experiment of this name.

    Raises GluegridError, also when SLURM does not answer: then nobody knows which of its jobs are still to run.
    """
    folders = experiment_folders(results, name)
    states = {folder: [CellFiles(run) for run in sorted(_runs(folder))] for folder in folders}
    numbers = {job.number for cells in states.values() for cell in cells for job in jobs_of_cell(cell.state)}
    logs = list(_logs_of_jobs(None if name is None else _jobs_ever(states[folders[0]])))
    queue = _queue({*numbers, *(log.stem for log in logs)})
    busy = {folder: _busy(cells, queue) for folder, cells in states.items()}
    found = [_of_experiment(folder, states[folder], busy[folder]) for folder in folders]
    wanted = {number for cells in states.values() for cell in cells for number in _jobs_with_reasons(cell)}
    ended = [log for log in logs if log.stem not in queue.keys() | wanted]
    shared = Found(str(SLURM_LOGS), [Leftovers("logs of ended SLURM jobs", ended)] if ended else [])
    found.append(shared)
    if name is None:
        found.append(_of_resources(results, any(busy.values()) or any(map(living_head, folders))))
    return found


def delete(found: Iterable[Found]) -> list[str]:
    """Delete all leftovers; return a line for each that somebody has begun to use meanwhile, and that was left."""
    left = []
    for leftovers in (leftovers for place in found for leftovers in place.leftovers):
        try:
            _delete_unless_used(leftovers)
        except (TransientError, OSError) as error:
            left.append(f"left: {leftovers.what} ({error})")
    return left


def _delete_unless_used(leftovers: Leftovers) -> None:
    if leftovers.heads_of is not None:
        _delete_heads(leftovers.paths, leftovers.heads_of)
        return
    with ExitStack() as stack:
        if leftovers.lock is not None:
            stack.enter_context(lock_with_manners(leftovers.lock, Manners(_give_up, _give_up)))
        for path in leftovers.paths:
            _delete(path)


def _delete_heads(paths: list[Path], folder: Path) -> None:
    """Take the files away first: a call of snakemake that begins now makes its own copy, or is seen to live."""
    with TemporaryDirectory(prefix=".removed-", dir=folder / "heads", ignore_cleanup_errors=True) as name:
        removed = Path(name)
        for path in paths:
            path.rename(removed / path.name)
        if living_head(folder) is None:
            return
        for path in paths:
            if not path.exists():
                (removed / path.name).rename(path)
    raise TransientError("a call of snakemake has just begun")


def is_done(cell: CellFiles) -> bool:
    """Tell whether a cell has its whole result, of its run.json, and no attempt since has begun another."""
    try:
        record = read_json(cell.run.with_name("run_record.json"))
        read_json(cell.run.with_name("all_results.json"))
        hashes = {
            name: sha256(cell.run.with_name(f"predictions_{name}.parquet")) for name in record["predictions_sha256"]
        }
        is_whole = record["run_sha256"] == sha256(cell.run) and record["predictions_sha256"] == hashes
    except (DataError, KeyError, TypeError, OSError):
        return False
    tried = attempts.read(cell.state)
    return is_whole and (not tried or tried[-1]["reason"] == attempts.DONE)


def _busy(cells: list[CellFiles], queue: dict[str, Job]) -> list[CellFiles]:
    return [cell for cell in cells if _has_job(cell, queue) or is_locked(cell.lock)]


def _of_experiment(folder: Path, cells: list[CellFiles], busy: list[CellFiles]) -> Found:
    found = Found(str(folder))
    unfinished = []
    for cell in cells:
        if cell in busy:
            continue
        of_training = [
            path for path in (cell.checkpoints, cell.new_result, cell.progress, cell.failure_of_helper) if path.exists()
        ]
        paths = list(_scraps(cell))
        if of_training and is_done(cell):
            paths += of_training
        elif cell.checkpoints.exists():
            unfinished.append(cell)
        if paths:
            found.leftovers.append(Leftovers("state that done cells do not need, and scraps", paths, cell.lock))
    found.notes += _about_unfinished(folder, unfinished)
    if busy:
        found.notes.append(f"all of {len(busy)} cells that have a job in the queue or are being trained")
    _add_heads(found, folder, bool(busy))
    return found


def _about_unfinished(folder: Path, cells: list[CellFiles]) -> Iterator[str]:
    """Yield lines about the checkpoints of cells that are not done; those no longer planned may be gone for good."""
    experiment = newest_plan(folder) if cells else None
    planned = (
        {Path(experiment.paths.run.format(**cell.wildcards)) for cell in experiment.cells.values()}
        if experiment
        else set()
    )
    if cells:
        size = size_in_words(sum(bytes_freed_by_removing(cell.checkpoints) for cell in cells))
        yield f"checkpoints of {len(cells)} cells that are not done, {size}"
    for cell in cells:
        if cell.run not in planned:
            yield f"{cell.checkpoints}, of a cell that is no longer planned (rm -r it, if you wish)"


def _scraps(cell: CellFiles) -> Iterator[Path]:
    """Yield what processes that were killed while they wrote have left: the names of such files begin with a dot."""
    for folder in (cell.run.parent, cell.state):
        # .nfs...: what somebody still has open, by NFS's own hand.
        hidden = (path for path in sorted(folder.glob(".*")) if not path.name.startswith(".nfs"))
        yield from (path for path in hidden if not is_newer_than(path, DAY))
    yield from cell.state.glob("lock.leave.*")


def _add_heads(found: Found, folder: Path, is_busy: bool) -> None:
    """Add the files of calls of snakemake that are over; the newest says what the experiment is, and stays."""
    if living := living_head(folder):
        found.notes.append(f"{folder}/heads, since the call of {living.stem} lives, or may on another host")
    elif is_busy:
        found.notes.append(f"{folder}/heads, since jobs of it wait or run")
    elif newest := newest_head(folder):
        paths = [path for path in sorted((folder / "heads").iterdir()) if path.name.partition(".")[0] != newest.stem]
        if paths:
            found.leftovers.append(Leftovers("old calls of snakemake, copies of the code", paths, heads_of=folder))


def _of_resources(results: Path, is_busy: bool) -> Found:
    """`is_busy`: jobs of an earlier call may read what no plan names any more."""
    found = Found(str(RESOURCES))
    for partial in sorted(RESOURCES.glob("*/*.partial")):
        lock = partial.with_suffix(".lock")
        if is_locked(lock):
            found.notes.append(f"{partial}, which is being fetched")
        else:
            found.leftovers.append(Leftovers("what interrupted fetches have left", [partial], lock))
    used = used_resources(results)
    for kind in KINDS:
        for path in staged_resources(RESOURCES, kind):
            if path in used:
                continue
            if kind == "tokens" and not is_busy and _lies_elsewhere_too(path, used):
                lock = path.with_name(f"{path.name}.lock")
                found.leftovers.append(Leftovers("tokens that have another folder by now", [path], lock))
            else:
                size = size_in_words(bytes_freed_by_removing(path))
                found.notes.append(f"{path}, {size}; no experiment's last plan uses it (rm -r it, if you wish)")
    return found


def _lies_elsewhere_too(tokens: Path, used: Iterable[Path]) -> bool:
    """Tell whether the tokens in a folder are in one that is used, too: earlier releases named it by a task's alias."""
    try:
        hashes = recorded_hashes(tokens / "manifest.json")
        others = [path / "manifest.json" for path in used if path.parent == tokens.parent]
        return any(path.exists() and recorded_hashes(path) == hashes for path in others)
    except (DataError, KeyError, TypeError, AttributeError):
        return False


def _runs(folder: Path) -> set[Path]:
    """Return the run.json of each cell that an experiment has or had, where it is or would be."""
    cells = {
        path.relative_to(folder / part) for part in ("runs", "state") for path in folder.glob(f"{part}/{'*/' * 4}")
    }
    return {folder / "runs" / cell / "run.json" for cell in cells}


def _logs_of_jobs(numbers: set[str] | None) -> Iterator[Path]:
    """Yield SLURM's own logs, of some jobs or of all."""
    for log in sorted(SLURM_LOGS.rglob("*.log")):
        if NUMBER_OF_JOB.fullmatch(log.stem) and (numbers is None or log.stem in numbers):
            yield log


def _jobs_ever(cells: list[CellFiles]) -> set[str]:
    noted = {job.number for cell in cells for job in jobs_of_cell(cell.state)}
    return noted | {attempt["slurm_job_id"] for cell in cells for attempt in attempts.read(cell.state)}


def _jobs_with_reasons(cell: CellFiles) -> set[str]:
    """Return the last job of a cell that ended without a result: its log may say why."""
    return {attempt["slurm_job_id"] for attempt in attempts.read(cell.state)[-1:] if attempt["reason"] != attempts.DONE}


def _has_job(cell: CellFiles, queue: dict[str, Job]) -> bool:
    return any(job.found_in(queue) for job in jobs_of_cell(cell.state))


def _queue(numbers: set[str]) -> dict[str, Job]:
    try:
        return jobs_in_queue(numbers)
    except TransientError as error:
        said = " ".join(str(error).split())
        raise TransientError(
            f"nothing was deleted, since SLURM does not say which jobs are in its queue: {said}"
        ) from error


def _give_up(holder: dict) -> None:
    raise TransientError(f"it is used by {describe(holder)}")


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


DAY = 86400  # seconds
# Whether a process of another host lives cannot be seen from here.
HEAD_ELSEWHERE_DAYS = 7
HOLDER_ELSEWHERE_SECONDS = 3600  # without a heartbeat, which comes every 10 s


def living_head(folder: Path) -> Path | None:
    """Return the file of a call of snakemake that lives, or that may on another host; None where there is none."""
    return next((path for path in reversed(head_files(folder)) if _may_live(path)), None)


def is_locked(path: Path) -> bool:
    """Tell whether the lock at `path` is held by somebody who lives, or may on another host."""
    holder = living_holder(path)
    if holder is None or not path.exists():
        return False
    return holder["host"] == this_process()["host"] or is_newer_than(path, HOLDER_ELSEWHERE_SECONDS)


def is_newer_than(path: Path, seconds: float) -> bool:
    """Tell whether a file or folder was changed in the last so many seconds; not where it is gone."""
    try:
        return time.time() - path.lstat().st_mtime < seconds
    except OSError:
        return False


def _may_live(head: Path) -> bool:
    try:
        process = read_json(head)["process"]
        if process["host"] == this_process()["host"]:
            return is_running(process)
    except (DataError, KeyError, TypeError):
        pass
    return is_newer_than(head, HEAD_ELSEWHERE_DAYS * DAY)
