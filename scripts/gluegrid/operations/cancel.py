"""Cancel one cell, so that a running snakemake does not retry it, or a controller with all its cells."""

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
    """Cancel a cell, named as below runs/; return a line that says what was stopped.

    `experiment` may be None if only one has such a cell. Raise GluegridError if there is none.
    """
    experiment = _experiment_with(name, experiment, results)
    paths = ExperimentPaths(experiment)
    state = state_folder(Path(paths.root) / "runs" / name / "run.json")
    # Record it first, so that whoever notices the end of the job sees why.
    attempts.cancel(state)
    try:
        return f"cancelled {name} of {experiment}: {_end(state)}"
    except TransientError as error:
        raise TransientError(
            f"{name} of {experiment}: snakemake will not retry it, but its job, if any, keeps running, since SLURM"
            f" does not answer ({error}); run make cancel again"
        ) from error


def cancel_experiment(name: str, results: Path = Path("results")) -> str:
    """Stop an experiment's controller and the jobs of its cells, which save their work; return a line that says so.

    A running controller stops its cells itself and writes the tables. Raise GluegridError if there is no controller.
    """
    (folder,) = experiment_folders(results, name, ("heads",))
    controller = controller_of(folder)
    if controller is None:
        raise GluegridError(
            f"{name}: was not started with make submit; stop its snakemake with Ctrl-C, or cancel one cell with"
            " make cancel CELL=..."
        )
    job = controller.job.found_in(jobs_in_queue([controller.job.number]))
    if job is not None and not job.waits:
        cancel_jobs("--signal=INT", "--batch", without_cluster(job.number), clusters=cluster_of(job.number))
        return (
            f"asked the controller of {name}, SLURM job {job.number}, to stop with all its cells; log: {controller.log}"
        )
    if job is not None:
        cancel([job.number])
    of_cells = cancel_cells(folder)
    cancelled = [*([f"its controller, SLURM job {job.number}"] if job else []), f"{len(of_cells)} jobs of cells"]
    return f"{name}: cancelled {' and '.join(cancelled)}"


def _end(state: Path) -> str:
    """Stop the job or the process that trains a cell; say what it was."""
    jobs = jobs_of_cell(state)
    alone = in_queue(job for job in jobs if not job.is_pack)
    if alone:
        cancel(alone)
    ended = [f"SLURM job {', '.join(alone)} was cancelled"] if alone else []
    holder = living_holder(state / "lock")
    # If snakemake was called in an allocation, the holder's job is not one of ours, but may still be running.
    if holder is not None and holder["slurm_job_id"] and probable_holder(state / "lock") is None:
        holder = None
    if holder is not None and holder["slurm_job_id"] not in alone:
        ask_to_leave(state / "lock", holder)
        ended.append(f"{describe(holder)}, was asked to save its work and stop")
    if ended:
        return "; ".join(ended)
    if packs := in_queue(job for job in jobs if job.is_pack):
        return f"it was not being trained; SLURM job {', '.join(packs)}, a pack, continues without it"
    return "it was not being trained; a running snakemake will not start it"


def _experiment_with(name: str, experiment: str | None, results: Path) -> str:
    candidates = {path.name: _cells(path) for path in experiment_folders(results, experiment, ("heads",))}
    if not name:
        example = min(
            (cell for cells in candidates.values() for cell in cells), default="<model>/<task>/base/seed-<seed>"
        )
        raise GluegridError(
            f"name a cell as below {results}/{experiment or '*'}/runs: make cancel CELL={example};"
            " or an experiment started with make submit: make cancel EXPERIMENT=..."
        )
    having = [candidate for candidate, cells in candidates.items() if name in cells]
    if len(having) > 1:
        raise GluegridError(f"CELL={name}: is a cell of {' and of '.join(having)}; name one: EXPERIMENT={having[0]}")
    if not having:
        cells = sorted(set().union(*candidates.values()))
        nearest = difflib.get_close_matches(name, cells, n=1, cutoff=0)
        hint = f"the nearest is {nearest[0]}" if nearest else "no cell was ever planned there"
        raise GluegridError(f"CELL={name}: no such cell below {results}/{experiment or '*'}/runs; {hint}")
    return having[0]


def _cells(folder: Path) -> set[str]:
    """Return the names of all cells that an experiment has or once had."""
    names = {"/".join(path.parent.parts[-PARTS_OF_A_CELL:]) for path in folder.glob(f"runs/{'*/' * 4}run.json")}
    if invocation := newest_invocation(folder):
        names |= {cell.name for cell in planned_experiment(invocation).cells.values()}
    return names
