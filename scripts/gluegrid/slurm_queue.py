"""SLURM's queue: which of some jobs are still in it, and the end of those that nobody wants any more."""

import subprocess
from collections.abc import Iterable

from gluegrid.errors import TransientError

# A job in one of these states has ended, and is listed for a while (MinJobAge).
ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"),
    *("REVOKED", "TIMEOUT"),
}
ANSWER_SECONDS = 60


def in_queue(jobs: Iterable[str]) -> list[str]:
    """Return those of some jobs, by their numbers, that wait or run. TransientError when SLURM does not answer.

    A task of an array job has the number <job>_<task>.
    """
    jobs = sorted(set(jobs))
    return [number for number, state, _ in _listed(f"--jobs={','.join(jobs)}") if state not in ENDED] if jobs else []


def job_submitted_as(name: str, comment: str) -> str | None:
    """Return the number of a job that waits or runs with this name and comment. TransientError as above."""
    listed = _listed(f"--name={name}")
    found = [number for number, state, said in listed if state not in ENDED and said == comment]
    return found[-1] if found else None


def cancel_jobs(*which: str) -> None:
    """Cancel jobs, named as scancel's arguments. Raises TransientError."""
    _answer("scancel", *which)


def _listed(which: str) -> list[list[str]]:
    try:
        answer = _answer("squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%k", which)
    except TransientError as error:
        # What squeue says of a single job that has left the queue for long.
        if "Invalid job id specified" in str(error):
            return []
        raise
    return [line.split("|", 2) for line in answer.splitlines()]


def _answer(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TransientError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        raise TransientError(done.stderr.strip() or f"{command[0]} ended with exit code {done.returncode}")
    return done.stdout
