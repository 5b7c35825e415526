"""Cancelling one cell, so that the running snakemake does not try it again; or a controller with all its cells."""

import difflib
from pathlib import Path

from gluegrid.common.errors import GluegridError, TransientError
from gluegrid.common.paths import CELL, ExperimentPaths, state_folder
from gluegrid.execution import attempts
from gluegrid.execution.controller import cancel_cells, controller_of
from gluegrid.execution.locks import ask_to_leave, describe, living_holder, probable_holder
from gluegrid.execution.slurm_queue import cancel, cancel_jobs, cluster_of, in_queue, jobs_in_queue, without_cluster
from gluegrid.execution.submissions import jobs_of_cell
from gluegrid.experiment.experiment_index import experiment_folders, newest_invocation
from gluegrid.experiment.loading import planned_experiment

PARTS_OF_A_CELL = CELL.count("/") + 1


def cancel_cell(name: str, experiment: str | None, results: Path = Path("results")) -> str:
    """Cancel a cell, named as below runs/; return a line that says what was ended.

    `experiment` may be None where only one has such a cell. Raises GluegridError.
    """
    experiment = _experiment_with(name, experiment, results)
    paths = ExperimentPaths(experiment)
    state = state_folder(Path(paths.root) / "runs" / name / "run.json")
    # First, so that whoever notices the end of the job sees why.
    attempts.cancel(state)
    try:
        return f"cancelled {name} of {experiment}: {_end(state)}"
    except TransientError as error:
        raise TransientError(
            f"{name} of {experiment}: snakemake will not try it again, but its job, if it has one, goes on, since SLURM"
            f" does not answer ({error}); make cancel again"
        ) from error


def cancel_experiment(name: str, results: Path = Path("results")) -> str:
    """End the controller of an experiment and the jobs of its cells, which save their work; return a line that says so.

    A running controller does it itself, and writes the tables. Raises GluegridError.
    """
    (folder,) = experiment_folders(results, name, ("heads",))
    controller = controller_of(folder)
    if controller is None:
        raise GluegridError(
            f"{name}: was not begun by make submit; end its snakemake by Ctrl-C, or one cell: make cancel CELL=..."
        )
    job = controller.job.found_in(jobs_in_queue([controller.job.number]))
    if job is not None and not job.waits:
        cancel_jobs("--signal=INT", "--batch", without_cluster(job.number), clusters=cluster_of(job.number))
        return f"the controller of {name}, SLURM job {job.number}, is asked to end with all its cells: {controller.log}"
    if job is not None:
        cancel([job.number])
    of_cells = cancel_cells(folder)
    cancelled = [*([f"its controller, SLURM job {job.number}"] if job else []), f"{len(of_cells)} jobs of cells"]
    return f"{name}: cancelled: {' and '.join(cancelled)}"


def _end(state: Path) -> str:
    """End the job or the process that works on a cell; say what it was."""
    jobs = jobs_of_cell(state)
    alone = in_queue(job for job in jobs if not job.is_pack)
    if alone:
        cancel(alone)
    ended = [f"SLURM job {', '.join(alone)} is cancelled"] if alone else []
    holder = living_holder(state / "lock")
    # Its job is none of ours where snakemake was called in an allocation: it may live all the same.
    if holder is not None and holder["slurm_job_id"] and probable_holder(state / "lock") is None:
        holder = None
    if holder is not None and holder["slurm_job_id"] not in alone:
        ask_to_leave(state / "lock", holder)
        ended.append(f"{describe(holder)}, is asked to save its work and end")
    if ended:
        return "; ".join(ended)
    if packs := in_queue(job for job in jobs if job.is_pack):
        return f"nothing works on it; SLURM job {', '.join(packs)}, a pack, goes on without it"
    return "nothing works on it; the running snakemake will not start it"


def _experiment_with(name: str, experiment: str | None, results: Path) -> str:
    candidates = {path.name: _cells(path) for path in experiment_folders(results, experiment, ("heads",))}
    if not name:
        example = min(
            (cell for cells in candidates.values() for cell in cells), default="<model>/<task>/base/seed-<seed>"
        )
        raise GluegridError(
            f"say which cell: make cancel CELL={example}, as below {results}/{experiment or '*'}/runs;"
            " or what make submit has begun: make cancel EXPERIMENT=..."
        )
    having = [candidate for candidate, cells in candidates.items() if name in cells]
    if len(having) > 1:
        raise GluegridError(f"{name} is a cell of {' and of '.join(having)}; name one: EXPERIMENT={having[0]}")
    if not having:
        cells = sorted(set().union(*candidates.values()))
        nearest = difflib.get_close_matches(name, cells, n=1, cutoff=0)
        hint = f"the nearest is {nearest[0]}" if nearest else "no cell was ever planned there"
        raise GluegridError(f"CELL={name}: no such cell below {results}/{experiment or '*'}/runs; {hint}")
    return having[0]


def _cells(folder: Path) -> set[str]:
    """Return the names of all cells that an experiment has, or had when they were run."""
    names = {"/".join(path.parent.parts[-PARTS_OF_A_CELL:]) for path in folder.glob(f"runs/{'*/' * 4}run.json")}
    if invocation := newest_invocation(folder):
        names |= {cell.name for cell in planned_experiment(invocation).cells.values()}
    return names
