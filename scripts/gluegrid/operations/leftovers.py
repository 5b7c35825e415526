"""Find what nobody needs any more of experiments and of what they share; note what is kept, and why."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.common.files import json_if_there, read_json, sha256, size_in_words
from gluegrid.common.manifests import recorded_hashes
from gluegrid.common.paths import KERNELS
from gluegrid.common.provenance import is_running, this_process
from gluegrid.execution import attempts
from gluegrid.execution.cell_state import CellFiles
from gluegrid.execution.locks import probable_holder
from gluegrid.execution.reasons import Cause
from gluegrid.experiment.experiment_index import (
    KINDS,
    invocation_files,
    newest_invocation,
    newest_plan,
    staged_resources,
    used_resources,
)
from gluegrid.operations.disk import bytes_freed_by_removing

RESOURCES = Path("resources")
DAY = 86400  # seconds
# Whether a process on another host is running cannot be seen from here.
INVOCATION_ELSEWHERE_DAYS = 7
HOLDER_ELSEWHERE_SECONDS = 3600  # without a heartbeat, which comes every 10 s


@dataclass
class Leftovers:
    """Files of one kind that may be deleted.

    Hold `lock` while deleting the paths, so that nobody starts to use them; no call of snakemake may have started
    meanwhile for the experiment `calls_of`.
    """

    what: str
    paths: list[Path]
    lock: Path | None = None
    calls_of: Path | None = None


@dataclass
class Place:
    """A place with its leftovers, and notes about what is kept and why."""

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
        """The bytes that deleting all leftovers frees."""
        return sum(bytes_freed_by_removing(path) for leftovers in self.leftovers for path in leftovers.paths)


def leftovers_of_experiment(
    folder: Path, cells: list[CellFiles], busy: list[CellFiles], has_controller: bool = False
) -> Place:
    """Return what may be deleted of an experiment's cells; only `busy` ones are queued or being trained.

    `has_controller`: a controller in SLURM's queue still needs the files that were frozen for it.
    """
    place = Place(str(folder))
    unfinished = []
    for cell in cells:
        if cell in busy:
            continue
        state = (cell.checkpoints, cell.new_result, cell.progress, cell.failure_of_helper)
        of_training = [path for path in state if path.exists()]
        paths = list(_scraps(cell))
        if of_training and is_done(cell):
            paths += of_training
        elif cell.checkpoints.exists():
            unfinished.append(cell)
        if paths:
            place.leftovers.append(Leftovers("state of finished cells, and partial files", paths, cell.lock))
    place.notes += _about_unfinished(folder, unfinished)
    if busy:
        place.notes.append(f"everything of {len(busy)} cells that are queued or being trained")
    _add_invocations(place, folder, bool(busy) or has_controller)
    return place


def is_done(cell: CellFiles) -> bool:
    """Tell whether a cell has the complete result of its run.json, and no later attempt has started another."""
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
    return is_whole and (not tried or tried[-1]["cause"] == Cause.DONE)


def _about_unfinished(folder: Path, cells: list[CellFiles]) -> Iterator[str]:
    """Yield notes about the checkpoints of unfinished cells, and of those that are no longer planned."""
    experiment = newest_plan(folder) if cells else None
    planned = (
        {Path(experiment.paths.run.format(**cell.wildcards)) for cell in experiment.cells.values()}
        if experiment
        else set()
    )
    if cells:
        size = size_in_words(sum(bytes_freed_by_removing(cell.checkpoints) for cell in cells))
        yield f"checkpoints of {len(cells)} unfinished cells, {size}"
    for cell in cells:
        if cell.run not in planned:
            yield f"{cell.checkpoints}, of a cell that is no longer planned (rm -r it if you do not need it)"


def _scraps(cell: CellFiles) -> Iterator[Path]:
    """Yield files that killed processes had not finished writing, whose names begin with a dot."""
    for folder in (cell.run.parent, cell.state):
        # NFS renames deleted files that are still open to .nfs...
        hidden = (path for path in sorted(folder.glob(".*")) if not path.name.startswith(".nfs"))
        yield from (path for path in hidden if not _is_newer_than(path, DAY))
    yield from cell.state.glob("lock.leave.*")


def _add_invocations(place: Place, folder: Path, is_busy: bool) -> None:
    """Add the files of finished calls of snakemake, except the newest, which defines the experiment."""
    if living := living_invocation(folder):
        place.notes.append(f"{folder}/heads, since the call of {living.stem} is running, or may be on another host")
    elif is_busy:
        place.notes.append(f"{folder}/heads, since its jobs are queued or running")
    elif newest := newest_invocation(folder):
        paths = [path for path in sorted((folder / "heads").iterdir()) if path.name.partition(".")[0] != newest.stem]
        if paths:
            place.leftovers.append(Leftovers("files of old snakemake calls", paths, calls_of=folder))


def leftovers_of_resources(results: Path, is_busy: bool) -> Place:
    """Return what may be deleted of what experiments share.

    `is_busy`: jobs of an earlier call may still read what no plan names any more.
    """
    place = Place(str(RESOURCES))
    for partial in sorted(RESOURCES.glob("*/*.partial")):
        lock = partial.with_suffix(".lock")
        if is_locked(lock):
            place.notes.append(f"{partial}, which is being fetched")
        else:
            place.leftovers.append(Leftovers("partial files of interrupted fetches", [partial], lock))
    if (RESOURCES / KERNELS).exists() and not is_busy:
        place.leftovers.append(Leftovers("GPU kernels, which are recompiled if needed", [RESOURCES / KERNELS]))
    used = used_resources(results)
    for kind in KINDS:
        for path in staged_resources(RESOURCES, kind):
            if path in used:
                continue
            if kind == "tokens" and not is_busy and _lies_elsewhere_too(path, used):
                lock = path.with_name(f"{path.name}.lock")
                place.leftovers.append(Leftovers("tokens that are in another folder, too", [path], lock))
            else:
                size = size_in_words(bytes_freed_by_removing(path))
                place.notes.append(
                    f"{path}, {size}; no experiment's last plan uses it (rm -r it if you do not need it)"
                )
    return place


def _lies_elsewhere_too(tokens: Path, used: Iterable[Path]) -> bool:
    """Tell whether a used folder has the same tokens, which earlier releases named by the task's alias."""
    try:
        hashes = recorded_hashes(tokens / "manifest.json")
        others = [path / "manifest.json" for path in used if path.parent == tokens.parent]
        return any(path.exists() and recorded_hashes(path) == hashes for path in others)
    except (DataError, KeyError, TypeError, AttributeError):
        return False


def living_invocation(folder: Path) -> Path | None:
    """Return the file of a call of snakemake that is running, or may be on another host; None if there is none."""
    return next((path for path in reversed(invocation_files(folder)) if _may_live(path)), None)


def is_locked(path: Path) -> bool:
    """Tell whether a running process, or one on another host that may be running, holds the lock at `path`."""
    return probable_holder(path, HOLDER_ELSEWHERE_SECONDS) is not None


def _is_newer_than(path: Path, seconds: float) -> bool:
    """Tell whether a file or folder was changed in the last so many seconds; False if it is gone."""
    try:
        return time.time() - path.lstat().st_mtime < seconds
    except OSError:
        return False


def _may_live(invocation: Path) -> bool:
    process = json_if_there(invocation).get("process")
    is_whole = isinstance(process, dict) and process.keys() >= this_process().keys()
    if is_whole and process["host"] == this_process()["host"]:
        return is_running(process)
    return _is_newer_than(invocation, INVOCATION_ELSEWHERE_DAYS * DAY)
