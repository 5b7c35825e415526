"""Find, list and delete files that are safe to delete.

Never delete what a running process may need, the checkpoints of an unfinished cell, or anything that documents a run:
run.json, results, records, attempts.jsonl, the last good result.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from gluegrid.common.errors import TransientError
from gluegrid.execution import attempts
from gluegrid.execution.cell_state import CellFiles
from gluegrid.execution.controller import controller_of
from gluegrid.execution.job_logs import SLURM_LOGS
from gluegrid.execution.locks import describe, lock
from gluegrid.execution.reasons import Cause
from gluegrid.execution.slurm_queue import NUMBER, Job, jobs_in_queue, without_cluster
from gluegrid.execution.submissions import jobs_of_cell
from gluegrid.experiment.experiment_index import experiment_folders
from gluegrid.operations.leftovers import (
    Leftovers,
    Place,
    is_locked,
    leftovers_of_experiment,
    leftovers_of_resources,
    living_invocation,
)


def find_leftovers(results: Path, name: str | None = None) -> list[Place]:
    """Return what may be deleted of all experiments and of what they share, or of the named experiment.

    Raise GluegridError also if SLURM does not answer, since then nobody knows which of its jobs are still to run.
    """
    folders = experiment_folders(results, name)
    cells = {folder: [CellFiles(run) for run in sorted(_runs(folder))] for folder in folders}
    every_cell = [cell for of_folder in cells.values() for cell in of_folder]
    jobs = {cell.run: jobs_of_cell(cell.state) for cell in every_cell}
    tried = {cell.run: attempts.read(cell.state) for cell in every_cell}
    controllers = {folder: controller.job for folder in folders if (controller := controller_of(folder))}
    numbers = {job.number for of_cell in jobs.values() for job in of_cell}
    numbers |= {job.number for job in controllers.values()}
    numbers_ever = numbers | {attempt["slurm_job_id"] for of_cell in tried.values() for attempt in of_cell}
    known = _names_of_logs(numbers_ever)
    logs = [log for log in _logs_of_jobs() if name is None or log.stem in known]
    queue = _queue({*numbers, *(log.stem for log in logs)})

    def is_busy(cell: CellFiles) -> bool:
        return any(job.found_in(queue) for job in jobs[cell.run]) or is_locked(cell.lock)

    busy = {folder: list(filter(is_busy, of_folder)) for folder, of_folder in cells.items()}
    to_go_on = {folder for folder, job in controllers.items() if job.found_in(queue)}
    places = [leftovers_of_experiment(folder, cells[folder], busy[folder], folder in to_go_on) for folder in folders]
    # Keep the log of the last job of a cell without a result, which may say why.
    last = [of_cell[-1] for of_cell in tried.values() if of_cell]
    wanted = {attempt["slurm_job_id"] for attempt in last if attempt["cause"] != Cause.DONE}
    kept = _names_of_logs(queue.keys() | wanted)
    ended = [log for log in logs if log.stem not in kept]
    places.append(Place(str(SLURM_LOGS), [Leftovers("logs of ended SLURM jobs", ended)] if ended else []))
    if name is None:
        places.append(
            leftovers_of_resources(
                results, any(busy.values()) or bool(to_go_on) or any(map(living_invocation, folders))
            )
        )
    return places


def delete(places: Iterable[Place]) -> list[str]:
    """Delete all leftovers; return a line for each that was kept because somebody uses it by now."""
    left = []
    for leftovers in (leftovers for place in places for leftovers in place.leftovers):
        try:
            _delete_unless_used(leftovers)
        except (TransientError, OSError) as error:
            left.append(f"not deleted: {leftovers.what} ({error})")
    return left


def _delete_unless_used(leftovers: Leftovers) -> None:
    if leftovers.calls_of is not None:
        _delete_invocations(leftovers.paths, leftovers.calls_of)
        return
    with ExitStack() as stack:
        if leftovers.lock is not None:
            stack.enter_context(lock(leftovers.lock, _give_up, on_alive=_give_up))
        for path in leftovers.paths:
            _delete(path)


def _delete_invocations(paths: list[Path], folder: Path) -> None:
    """Move the files away first: a call of snakemake that starts now makes its own copy, or is seen to be running."""
    with TemporaryDirectory(prefix=".removed-", dir=folder / "heads", ignore_cleanup_errors=True) as name:
        removed = Path(name)
        for path in paths:
            path.rename(removed / path.name)
        if living_invocation(folder) is None:
            return
        for path in paths:
            if not path.exists():
                (removed / path.name).rename(path)
    raise TransientError("a call of snakemake has just started")


def _runs(folder: Path) -> set[Path]:
    """Return the path of run.json, existing or not, of each cell that an experiment has or once had."""
    cells = {
        path.relative_to(folder / part) for part in ("runs", "state") for path in folder.glob(f"{part}/{'*/' * 4}")
    }
    return {folder / "runs" / cell / "run.json" for cell in cells}


def _logs_of_jobs() -> Iterator[Path]:
    """Yield SLURM's own logs."""
    return (log for log in sorted(SLURM_LOGS.rglob("*.log")) if NUMBER.fullmatch(log.stem))


def _names_of_logs(numbers: Iterable[str | None]) -> set[str]:
    """Return the names of SLURM's logs of these jobs, which do not name the cluster."""
    return {without_cluster(number) for number in numbers if number}


def _queue(numbers: set[str]) -> dict[str, Job]:
    try:
        return jobs_in_queue(numbers)
    except TransientError as error:
        said = " ".join(str(error).split())
        raise TransientError(
            f"nothing was deleted, since SLURM does not say which jobs are in its queue ({said}); try again later"
        ) from error


def _give_up(holder: dict) -> None:
    raise TransientError(f"it is used by {describe(holder)}")


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
