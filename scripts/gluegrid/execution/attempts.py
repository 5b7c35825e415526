"""attempts.jsonl: one line for each time a cell was tried, with how it ended. Tables and messages read reasons here.

`accelerate launch` turns every exit code into 1 and ends the log with a traceback of its own, and a killed process
says nothing; so the attempt is noted when it starts, and its end is filled in when there is one. Whoever starts an
attempt holds the cell's lock: an earlier attempt that has not reported its end then never will.
"""

import datetime
import json
import re
from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json, write_json, write_text
from gluegrid.common.paths import heads_of_state
from gluegrid.common.provenance import job, now
from gluegrid.execution.invocation import current_head, path_of_current_head

DONE = "done"
CANCELLED = "cancelled by make cancel"
KILLED = "ended without a word: killed, out of memory, or its node went down"


def start(state: Path, run_sha256: str) -> None:
    """Note that this process begins a new attempt at the run of this hash."""
    earlier = [attempt if attempt["reason"] else {**attempt, "reason": KILLED} for attempt in read(state)]
    mine = {"start": now(), "end": None, **job(), "head": path_of_current_head(), "run_sha256": run_sha256}
    _write(state, [*earlier, {**mine, "reason": None, "is_permanent": False}])


def end(state: Path, reason: str, is_permanent: bool = False) -> None:
    """Note how the attempt of this process ended: DONE, or why not, and whether another would end in the same way."""
    *earlier, last = read(state)
    _write(state, [*earlier, {**last, "end": now(), "reason": reason, "is_permanent": is_permanent}])


def published(state: Path) -> None:
    """Note that the result of an attempt that could not publish it has been published."""
    if read(state)[-1]["reason"] != DONE:
        end(state, DONE)


def read(state: Path) -> list[dict]:
    """Return all attempts of a cell, the oldest first; what is no attempt (somebody edited the file) is left out."""
    try:
        text = (state / "attempts.jsonl").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return []
    attempts = map(_attempt, text.splitlines())
    return [attempt for attempt in attempts if attempt is not None]


def of_this_result(state: Path, run_sha256: str) -> list[dict]:
    """Return the attempts at one run since its last result."""
    tried = read(state)
    done = [number for number, attempt in enumerate(tried, start=1) if attempt["reason"] == DONE]
    return [attempt for attempt in tried[max(done, default=0) :] if attempt.get("run_sha256") == run_sha256]


def seconds_of_last(state: Path) -> float | None:
    """Return how long the last attempt took, from its first line of Python to its end; None where it has not ended."""
    last = (read(state) or [{"end": None}])[-1]
    if last["end"] is None:
        return None
    start, end = (datetime.datetime.fromisoformat(last[key]) for key in ("start", "end"))
    return (end - start).total_seconds()


def last(state: Path) -> dict | None:
    """Return what names the last attempt of a cell; None where it has had none.

    What follows an attempt names it: moments that two hosts have written say nothing of which was first.
    """
    return _name_of_last(read(state))


def was_last(noted: dict, moment: str, tried: list[dict]) -> bool:
    """Tell whether something was noted after the last of these attempts had begun, under the key `after`.

    Earlier releases noted only the `moment`.
    """
    if "after" in noted:
        return noted["after"] == _name_of_last(tried)
    return not tried or moment >= tried[-1]["start"]


def cancel(state: Path) -> None:
    """Let no call of snakemake that has begun try this cell again."""
    heads = sorted(path.name for path in heads_of_state(state).glob("*.json") if "." not in path.stem)
    write_json(_cancellation(state), {"cancelled": now(), "after": last(state), "heads": heads})


def was_cancelled_last(state: Path, tried: list[dict]) -> bool:
    """Tell whether the cell was cancelled after the last of its attempts had begun."""
    noted = _cancelled(state)
    return noted is not None and was_last(noted, noted.get("cancelled", ""), tried)


def reason_to_stop(state: Path) -> str | None:
    """Return why the present call of snakemake need not try a cell again; None where it may.

    Its retries cannot look at the reason of a failure. A later call tries again: something may have been mended.
    """
    head = path_of_current_head()
    if head is None:
        return None
    if _was_cancelled_under(head, state):
        return CANCELLED
    latest = (read(state) or [{}])[-1]
    return latest["reason"] if latest.get("is_permanent") and latest.get("head") == head else None


def reason(attempt: dict) -> str:
    """Say why an attempt left no result."""
    if attempt["reason"] == DONE:
        return "was trained, but its result is gone or was not published; run snakemake again"
    if attempt["reason"] not in (None, KILLED):
        return attempt["reason"]
    slurm_job = attempt["slurm_job_id"]
    if slurm_job and (words := last_words_of_slurm(slurm_job)):
        return f"ended by SLURM: {words}"
    if attempt["reason"] is not None:
        return attempt["reason"]
    process = f"SLURM job {slurm_job}" if slurm_job else f"process {attempt['pid']}"
    host = attempt["slurm_node"] or attempt["host"]
    return f"killed, or still running: {process} on {host}, begun {attempt['start']}, has not reported its end"


def _attempt(line: str) -> dict | None:
    try:
        attempt = json.loads(line)
    except (ValueError, RecursionError):
        return None
    expected = ("start", "end", "reason", "host", "pid", "slurm_job_id", "slurm_node")
    return attempt if isinstance(attempt, dict) and all(key in attempt for key in expected) else None


def _name_of_last(tried: list[dict]) -> dict | None:
    return {"number": len(tried), **{key: tried[-1][key] for key in ("start", "host", "pid")}} if tried else None


def _was_cancelled_under(head: str, state: Path) -> bool:
    """Tell whether the cell was cancelled after the call of snakemake of this file had begun."""
    noted = _cancelled(state)
    if noted is None:
        return False
    if isinstance(noted.get("heads"), list):
        return Path(head).name in noted["heads"]
    return noted.get("cancelled", "") >= current_head()["started"]  # an earlier release's


def _cancelled(state: Path) -> dict | None:
    try:
        return read_json(_cancellation(state))
    except DataError:  # it is not there
        return None


def _cancellation(state: Path) -> Path:
    return state / "cancelled.json"


def _write(state: Path, attempts: list[dict]) -> None:
    write_text(state / "attempts.jsonl", "".join(json.dumps(attempt) + "\n" for attempt in attempts))


FOLDER = Path(".snakemake/slurm_logs/rule_train")  # the executor plugin's; a site may have set slurm-logdir
SAID_BY_SLURM = re.compile(r"^(?:slurmstepd|srun): error: (?P<words>.+)$", re.MULTILINE)
LAST_BYTES = 20_000


def last_words_of_slurm(slurm_job_id: str) -> str | None:
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
