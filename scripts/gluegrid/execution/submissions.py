"""A cell's last submission to SLURM, in its state folder: slurm_job.json, or refusal.json if SLURM refused it."""

from contextlib import suppress
from pathlib import Path

from gluegrid.common.errors import GluegridError
from gluegrid.common.files import json_if_there, write_json
from gluegrid.common.provenance import now
from gluegrid.execution import attempts
from gluegrid.execution.invocation import path_of_current_invocation, tell_terminal
from gluegrid.execution.reasons import Cause, Reason
from gluegrid.execution.slurm_queue import NUMBER, SubmittedJob, comment_of_cell

SUBMITTED, REFUSAL = "slurm_job.json", "refusal.json"


def note_job(state: Path, number: str, name: str | None, comment: str | None, is_pack: bool = False) -> None:
    """Note the job of a cell, and the names of those it may wait behind, since numbers alone may be reused."""
    before = json_if_there(state / SUBMITTED).get("behind")
    behind = before if isinstance(before, dict) else {}
    behind |= {job.number: job.name for job in jobs_of_cell(state) if job.name is not None}
    job = {"slurm_job_id": number, "name": name, "comment": comment, "behind": behind, "is_pack": is_pack}
    _note(state / SUBMITTED, job | {"submitted": now(), "head": path_of_current_invocation()})
    with suppress(OSError):
        (state / REFUSAL).unlink()


def note_refusal(state: Path, said: str) -> None:
    """Note why SLURM refused a cell's job."""
    after = attempts.name_of_last(attempts.read(state))
    _note(state / REFUSAL, {"refused": now(), "reason": said, "head": path_of_current_invocation(), "after": after})


def jobs_of_cell(state: Path) -> list[SubmittedJob]:
    """Return the SLURM jobs that may still be training a cell: the last one submitted, and the holder of its lock."""
    return noted_jobs(state, json_if_there(state / SUBMITTED), json_if_there(state / "lock"))


def noted_jobs(state: Path, submitted: dict, holder: dict) -> list[SubmittedJob]:
    """Return the jobs of a cell named in these contents of its slurm_job.json and lock.

    Anything that is not a job number is left out, since earlier releases stored sbatch's whole output as one.
    """
    number, of_holder = str(submitted.get("slurm_job_id")), str(holder.get("slurm_job_id"))
    comment, is_pack = submitted.get("comment") or comment_of_cell(state), submitted.get("is_pack") is True
    jobs = [SubmittedJob(number, comment, submitted.get("name"), is_pack)]
    if of_holder != number:
        behind = submitted.get("behind")
        name = behind.get(of_holder) if isinstance(behind, dict) else None
        jobs.append(SubmittedJob(of_holder, comment_of_cell(state), name, is_pack=bool(holder.get("pack"))))
    return [job for job in jobs if NUMBER.fullmatch(job.number)]


def jobs_of_experiment(experiment: Path) -> list[SubmittedJob]:
    """Return every SLURM job that a call of snakemake may have left for a cell of the experiment in this folder."""
    jobs = []
    for path in experiment.glob(f"state/{'*/' * 4}{SUBMITTED}"):
        submitted = json_if_there(path)
        behind = submitted.get("behind") if isinstance(submitted.get("behind"), dict) else {}
        jobs += noted_jobs(path.parent, submitted, json_if_there(path.with_name("lock")))
        jobs += [SubmittedJob(number, comment_of_cell(path.parent), name) for number, name in behind.items()]
    return jobs


def refusal(state: Path, tried: list[dict]) -> Reason | None:
    """Return why a cell's last job was not submitted; None if it was, or if one of these attempts is newer."""
    noted = json_if_there(state / REFUSAL)
    if "reason" not in noted or not attempts.was_last(noted, noted.get("refused", ""), tried):
        return None
    before = [f"; the previous attempt: {attempts.why_without_result(attempt)}" for attempt in tried[-1:]]
    return Reason(Cause.REFUSED, "".join([str(noted["reason"]), *before]))


def _note(path: Path, content: dict) -> None:
    try:
        write_json(path, content)
    except (OSError, GluegridError) as error:
        # The job is in the queue anyway, and the cell's lock keeps two from training.
        tell_terminal(f"{path}: could not be written ({error}); it would contain {content}")
