"""attempts.jsonl: one line for each time a cell was tried, with how it ended. Tables and messages read reasons here.

`accelerate launch` turns every exit code into 1 and ends the log with a traceback of its own, and a killed process
says nothing; so the attempt is noted when it starts, and its end is filled in when there is one.
"""

import json
from pathlib import Path

from gluegrid.files import write_text
from gluegrid.provenance import job, now

DONE = "done"


def start(state: Path) -> None:
    """Note that this process begins a new attempt."""
    _write(state, [*read(state), {"start": now(), "end": None, **job(), "reason": None}])


def end(state: Path, reason: str) -> None:
    """Note how the attempt of this process ended: DONE, or why not."""
    *earlier, last = read(state)
    _write(state, [*earlier, {**last, "end": now(), "reason": reason}])


def read(state: Path) -> list[dict]:
    """Return all attempts of a cell, the oldest first."""
    path = state / "attempts.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def reason(attempt: dict) -> str:
    """Say why an attempt left no result."""
    if attempt["reason"] == DONE:
        return "was trained, but its result is gone or was not published; run snakemake again"
    if attempt["reason"] is not None:
        return attempt["reason"]
    process = f"SLURM job {attempt['slurm_job_id']}" if attempt["slurm_job_id"] else f"process {attempt['pid']}"
    host = attempt["slurm_node"] or attempt["host"]
    return f"killed, or still running: {process} on {host}, begun {attempt['start']}, has not reported its end"


def _write(state: Path, attempts: list[dict]) -> None:
    write_text(state / "attempts.jsonl", "".join(json.dumps(attempt) + "\n" for attempt in attempts))
