"""What SLURM itself wrote about a job that it ended: why a cell's attempt could not report its end."""

import re
from pathlib import Path

FOLDER = Path(".snakemake/slurm_logs/rule_train")  # the executor plugin's; a site may have set slurm-logdir
SAID_BY_SLURM = re.compile(r"^(?:slurmstepd|srun): error: (?P<words>.+)$", re.MULTILINE)
LAST_BYTES = 20_000


def last_words(slurm_job_id: str) -> str | None:
    """Return the last error that SLURM noted in a job's log; None where there is no such log or error.

    Such as "STEP 12.0 ON gpu1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT".
    """
    # That of an array job's task is not below its cell's name.
    log = next(FOLDER.glob(f"*/{slurm_job_id}.log"), FOLDER / f"{slurm_job_id}.log")
    if not log.exists():
        return None
    text = log.read_bytes()[-LAST_BYTES:].decode(errors="replace")
    said = [match["words"].strip("* ") for match in SAID_BY_SLURM.finditer(text)]
    return said[-1] if said else None
