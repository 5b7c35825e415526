"""SLURM's queue: which of some jobs are still in it, and the end of those that nobody wants any more."""

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from gluegrid.errors import TransientError

# A job in one of these states has ended, and is listed for a while (MinJobAge).
ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"),
    *("REVOKED", "TIMEOUT"),
}
WAITING = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
ANSWER_SECONDS = 60
MOST_NAMED = 1_000  # jobs in a command line; of more, the whole queue is asked for
STATE_AND_COMMENT = "%i|%T|%k"
ALL_ABOUT_WAITING = "%i|%T|%S|%L|%r"
DURATION = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)")  # [days-][hours:]minutes:seconds


@dataclass(frozen=True)
class Job:
    """A job that waits or runs, as squeue lists it.

    `reason` is SLURM's word for why it waits, `starts` when SLURM expects that to end (local time, ISO 8601; None where
    it does not say), `seconds_left` how much is left of the time limit of one that runs.
    """

    number: str
    state: str
    reason: str = ""
    starts: str | None = None
    seconds_left: int | None = None

    @property
    def waits(self) -> bool:
        """Whether it has yet to start."""
        return self.state in WAITING


def in_queue(jobs: Iterable[str]) -> list[str]:
    """Return those of some jobs, by their numbers, that wait or run. TransientError when SLURM does not answer.

    A task of an array job has the number <job>_<task>.
    """
    jobs = sorted(set(jobs))
    listed = _listed(STATE_AND_COMMENT, f"--jobs={','.join(jobs)}") if jobs else []
    return [number for number, state, _ in listed if state not in ENDED]


def jobs_in_queue(numbers: Iterable[str], answer_seconds: float = ANSWER_SECONDS) -> dict[str, Job]:
    """Return those of some jobs that wait or run, by their numbers; one call of squeue. TransientError as above."""
    wanted = set(numbers)
    if not wanted:
        return {}
    which = [f"--jobs={','.join(sorted(wanted))}"] if len(wanted) <= MOST_NAMED else []
    found = [_job(*fields) for fields in _listed(ALL_ABOUT_WAITING, *which, seconds=answer_seconds)]
    return {job.number: job for job in found if job.number in wanted and job.state not in ENDED}


def job_submitted_as(name: str, comment: str) -> str | None:
    """Return the number of a job that waits or runs with this name and comment. TransientError as above."""
    listed = _listed(STATE_AND_COMMENT, f"--name={name}")
    found = [number for number, state, said in listed if state not in ENDED and said == comment]
    return found[-1] if found else None


def is_in_queue(name: str) -> bool:
    """Tell whether a job of this name waits, runs, or is just ending. TransientError as above."""
    return any(state not in ENDED for _, state, _ in _listed(STATE_AND_COMMENT, f"--name={name}"))


def cancel_jobs(*which: str) -> None:
    """Cancel jobs, named as scancel's arguments. Raises TransientError."""
    _answer("scancel", *which)


def _listed(columns: str, *which: str, seconds: float = ANSWER_SECONDS) -> list[list[str]]:
    try:
        asked = ("--noheader", "--array", "--states=all", f"--format={columns}")
        answer = _answer("squeue", *asked, *which, seconds=seconds)
    except TransientError as error:
        # What squeue says of a single job that has left the queue for long.
        if "Invalid job id specified" in str(error):
            return []
        raise
    # Only the last column may hold what separates them.
    lines = [line.split("|", columns.count("|")) for line in answer.splitlines()]
    return [line for line in lines if len(line) == columns.count("|") + 1]


def _job(number: str, state: str, starts: str, left: str, reason: str) -> Job:
    parts = DURATION.fullmatch(left)
    days, hours, minutes, seconds = (int(part or 0) for part in parts.groups()) if parts else (0, 0, 0, 0)
    return Job(
        number,
        state,
        reason="" if reason == "None" else reason,
        starts=starts if starts[:1].isdigit() else None,
        seconds_left=((days * 24 + hours) * 60 + minutes) * 60 + seconds if parts else None,
    )


def _answer(*command: str, seconds: float = ANSWER_SECONDS) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TransientError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        raise TransientError(done.stderr.strip() or f"{command[0]} ended with exit code {done.returncode}")
    return done.stdout
