"""Read job logs to learn what happened; no other module does so.

A prefix distinguishes our own errors from the output of libraries and from the launcher's traceback, which follows.
"""

import re
from pathlib import Path

from gluegrid.common.cli import OURS
from gluegrid.execution.reasons import PREEMPTED, Reason
from gluegrid.execution.slurm_queue import without_cluster

SLURM_LOGS = Path(".snakemake/slurm_logs")  # of the executor plugin; a site may have set slurm-logdir
SAID_BY_SLURM = re.compile(r"^(?:slurmstepd|srun): error: (?P<words>.+)$", re.MULTILINE)
LAST_BYTES = 20_000
ASKED_TO_END = {str(Reason(cause)) for cause in PREEMPTED}


def last_line(log: Path) -> str:
    """Return the error line of a failed job's log: our own last error, or else the last line."""
    lines = _lines(log)
    return next((line for line in reversed(_ours(lines) or lines) if line), "its log is empty")


def has_error(log: Path) -> bool:
    """Tell whether a job's log has an error of our scripts, so that the job has failed and ended."""
    return bool(_ours(_lines(log)))


def has_error_of_its_own(log: Path) -> bool:
    """Tell the same, ignoring the message of a script that was asked to end before it started an attempt."""
    return any(line not in ASKED_TO_END for line in _ours(_lines(log)))


def last_words_of_slurm(slurm_job_id: str) -> str | None:
    """Return the last error that SLURM wrote to a job's log, such as "STEP 12.0 ON gpu1 CANCELLED AT
    2026-01-01T00:00:00 DUE TO TIME LIMIT"; None if there is no such log or error.
    """
    # The log of an array job's task is not in its cell's folder, and that of a pack is in the pack's. Job numbers are
    # unique only within a cluster.
    name = f"{without_cluster(slurm_job_id)}.log"
    logs = (log for place in ("rule_train/*", "rule_train", "group_*") for log in SLURM_LOGS.glob(f"{place}/{name}"))
    if (log := next(logs, None)) is None:
        return None
    text = log.read_bytes()[-LAST_BYTES:].decode(errors="replace")
    said = [match["words"].strip("* ") for match in SAID_BY_SLURM.finditer(text)]
    return said[-1] if said else None


def _lines(log: Path) -> list[str]:
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:  # Snakemake removes it when it restarts the job
        return []
    return [line.strip() for line in text.splitlines()]


def _ours(lines: list[str]) -> list[str]:
    return [line.removeprefix(OURS) for line in lines if line.startswith(OURS)]
