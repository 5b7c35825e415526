"""What the logs of jobs say, which are texts of many hands: the only place where one is read to learn what happened.

Ours are told from those of libraries and of the launcher, whose traceback follows them, by how they begin.
"""

import re
from pathlib import Path

from gluegrid.common.cli import OURS
from gluegrid.execution.reasons import PREEMPTED, Reason
from gluegrid.execution.slurm_queue import without_cluster

SLURM_LOGS = Path(".snakemake/slurm_logs")  # the executor plugin's; a site may have set slurm-logdir
SAID_BY_SLURM = re.compile(r"^(?:slurmstepd|srun): error: (?P<words>.+)$", re.MULTILINE)
LAST_BYTES = 20_000
ASKED_TO_END = {str(Reason(cause)) for cause in PREEMPTED}


def last_line(log: Path) -> str:
    """Return the line of a failed job's log that is its error: the last of ours, else the last."""
    lines = _lines(log)
    return next((line for line in reversed(_ours(lines) or lines) if line), "its log is empty")


def has_error(log: Path) -> bool:
    """Tell whether a job's log has an error of our scripts: it has failed, and does not run any more."""
    return bool(_ours(_lines(log)))


def has_error_of_its_own(log: Path) -> bool:
    """Tell the same, but for what a script says that was asked to end before it had begun an attempt."""
    return any(line not in ASKED_TO_END for line in _ours(_lines(log)))


def last_words_of_slurm(slurm_job_id: str) -> str | None:
    """Return the last error that SLURM noted in a job's log; None where there is no such log or error.

    Such as "STEP 12.0 ON gpu1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT".
    """
    # That of an array job's task is not below its cell's name, and that of a pack below the pack's. Each cluster has
    # numbers of its own.
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
    except FileNotFoundError:  # Snakemake removes it when the job is begun again
        return []
    return [line.strip() for line in text.splitlines()]


def _ours(lines: list[str]) -> list[str]:
    return [line.removeprefix(OURS) for line in lines if line.startswith(OURS)]
