"""attempts.jsonl: one line for each attempt at a cell, with how it ended.

`accelerate launch` turns every exit code into 1 and ends the log with its own traceback, and a killed process says
nothing. So an attempt is noted when it starts, and its end is added when it ends. Whoever starts an attempt holds the
cell's lock, so an earlier attempt that has not reported its end never will.
"""

import datetime
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gluegrid.common.errors import GluegridError
from gluegrid.common.files import disk_full, is_disk_full, json_if_there, sha256, write_json, write_text
from gluegrid.common.paths import heads_of_state
from gluegrid.common.provenance import job, now
from gluegrid.execution.invocation import current_invocation, path_of_current_invocation
from gluegrid.execution.job_logs import last_words_of_slurm
from gluegrid.execution.reasons import Cause, Preempted, Reason, cause_of_earlier
from gluegrid.experiment.experiment_index import invocation_files

logger = logging.getLogger(__name__)

KEYS = {"start", "end", "reason", "host", "pid", "slurm_job_id", "slurm_node"}  # in the lines of every release


@contextmanager
def attempting(state: Path, run: Path) -> Iterator[None]:
    """Note that an attempt at a run.json starts, and how it ends."""
    start(state, sha256(run))
    try:
        yield
    except BaseException as error:
        try:
            end(state, _reason_for(error), isinstance(error, GluegridError) and error.is_permanent)
        except (OSError, GluegridError) as another:
            logger.error("could not note the end of this attempt: %s", another)
        if is_disk_full(error) and not isinstance(error, GluegridError):
            raise disk_full(state) from error
        raise
    end(state, Reason(Cause.DONE))


def _reason_for(error: BaseException) -> Reason:
    if isinstance(error, Preempted):
        return error.reason
    if isinstance(error, KeyboardInterrupt):
        return Reason(Cause.INTERRUPTED)
    if isinstance(error, GluegridError):
        return Reason(Cause.FAILED, str(error))
    first_line = str(error).strip().splitlines()[:1]
    return Reason(Cause.FAILED, ": ".join([type(error).__name__, *first_line]))


def start(state: Path, run_sha256: str) -> None:
    """Note that this process starts a new attempt at the run with this hash."""
    killed = {"reason": str(Reason(Cause.KILLED)), "cause": Cause.KILLED}
    earlier = [attempt if attempt["cause"] else attempt | killed for attempt in read(state)]
    mine = {"start": now(), "end": None, **job(), "head": path_of_current_invocation(), "run_sha256": run_sha256}
    _write(state, [*earlier, {**mine, "reason": None, "cause": None, "is_permanent": False}])


def end(state: Path, reason: Reason, is_permanent: bool = False) -> None:
    """Note how the attempt of this process ended, and whether a retry would end in the same way."""
    *earlier, last = read(state)
    how = {"end": now(), "reason": str(reason), "cause": reason.cause, "is_permanent": is_permanent}
    _write(state, [*earlier, last | how])


def note_death(state: Path, pid: int) -> None:
    """Note the end of the attempt of a process on this host that died before it could; nothing if it had none."""
    last = (read(state) or [{}])[-1]
    if (last.get("pid"), last.get("host")) == (pid, job()["host"]) and last["cause"] is None:
        end(state, Reason(Cause.KILLED))


def has_died(state: Path) -> bool:
    """Tell whether the last attempt at a cell ended without reporting, or is still running."""
    tried = read(state)
    return bool(tried) and tried[-1]["cause"] in (None, Cause.KILLED)


def published(state: Path) -> None:
    """Note that the result of an attempt that failed to publish it has now been published."""
    if read(state)[-1]["cause"] != Cause.DONE:
        end(state, Reason(Cause.DONE))


def read(state: Path) -> list[dict]:
    """Return all attempts at a cell, oldest first; lines that are not attempts (after manual edits) are left out.

    Each has its `cause`, which is None if it has not reported its end.
    """
    try:
        text = (state / "attempts.jsonl").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [attempt for line in text.splitlines() if (attempt := _attempt(line))]


def at_this_result(state: Path, run_sha256: str) -> list[dict]:
    """Return the attempts at one run since its last result."""
    tried = read(state)
    done = [number for number, attempt in enumerate(tried, start=1) if attempt["cause"] == Cause.DONE]
    return [attempt for attempt in tried[max(done, default=0) :] if attempt.get("run_sha256") == run_sha256]


def seconds_of_last(state: Path) -> float | None:
    """Return how long the last attempt took, from its start to its end; None if it has not ended."""
    last = (read(state) or [{"end": None}])[-1]
    if last["end"] is None:
        return None
    start, end = (datetime.datetime.fromisoformat(last[key]) for key in ("start", "end"))
    return (end - start).total_seconds()


def name_of_last(tried: list[dict]) -> dict | None:
    """Return what identifies the last of a cell's attempts; None if there is none.

    Later events refer to it, since timestamps from two hosts do not tell which came first.
    """
    return {"number": len(tried), **{key: tried[-1][key] for key in ("start", "host", "pid")}} if tried else None


def was_last(noted: dict, moment: str, tried: list[dict]) -> bool:
    """Tell from its key `after` whether something was noted after the last of these attempts had started.

    Earlier releases noted only the `moment`.
    """
    if "after" in noted:
        return noted["after"] == name_of_last(tried)
    return not tried or moment >= tried[-1]["start"]


def cancel(state: Path) -> None:
    """Keep all calls of snakemake that have started from trying this cell again."""
    invocations = sorted(path.name for path in invocation_files(heads_of_state(state).parent))
    write_json(_cancellation(state), {"cancelled": now(), "after": name_of_last(read(state)), "heads": invocations})


def was_cancelled_last(state: Path, tried: list[dict]) -> bool:
    """Tell whether the cell was cancelled after the last of its attempts had started."""
    noted = json_if_there(_cancellation(state))
    return bool(noted) and was_last(noted, noted.get("cancelled", ""), tried)


def reason_to_stop(state: Path) -> Reason | None:
    """Return why the current call of snakemake need not try a cell again; None if it should.

    Snakemake's retries do not know why a job failed. A later call does try again, since the cause may be fixed.
    """
    path = path_of_current_invocation()
    if path is None:
        return None
    if _was_cancelled_under(path, state):
        return Reason(Cause.CANCELLED)
    latest = (read(state) or [{}])[-1]
    is_in_vain = latest.get("is_permanent") and latest.get("head") == path
    return Reason(latest["cause"], noted=str(latest["reason"])) if is_in_vain else None


def stop_if_in_vain(state: Path) -> None:
    """Raise GluegridError if another attempt in the current call of snakemake would be in vain."""
    if reason := reason_to_stop(state):
        raise GluegridError(f"{reason} (this call of snakemake does not try again)")


def why_without_result(attempt: dict) -> Reason:
    """Return why an attempt left no result."""
    cause, slurm_job = attempt["cause"], attempt["slurm_job_id"]
    if cause == Cause.DONE:
        return Reason(Cause.UNPUBLISHED)
    if cause not in (None, Cause.KILLED):
        return Reason(cause, noted=str(attempt["reason"]))
    if slurm_job and (words := last_words_of_slurm(slurm_job)):
        return Reason(Cause.ENDED_BY_SLURM, words)
    if cause == Cause.KILLED:
        return Reason(Cause.KILLED)
    process = f"SLURM job {slurm_job}" if slurm_job else f"process {attempt['pid']}"
    host = attempt["slurm_node"] or attempt["host"]
    return Reason(Cause.UNREPORTED, said=attempt["start"], where=f"{process} on {host}")


def _attempt(line: str) -> dict | None:
    try:
        attempt = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(attempt, dict) or not attempt.keys() >= KEYS:
        return None
    if attempt["reason"] is None:
        return attempt | {"cause": None}
    try:
        cause = Cause(attempt["cause"])
    except (KeyError, ValueError):
        cause = cause_of_earlier(str(attempt["reason"]))
    return attempt | {"cause": cause}


def _was_cancelled_under(path: str, state: Path) -> bool:
    """Tell whether the cell was cancelled after the call of snakemake with this file had started."""
    noted = json_if_there(_cancellation(state))
    if isinstance(noted.get("heads"), list):
        return Path(path).name in noted["heads"]
    # Written by an earlier release.
    return bool(noted) and noted.get("cancelled", "") >= current_invocation()["started"]


def _cancellation(state: Path) -> Path:
    return state / "cancelled.json"


def _write(state: Path, attempts: list[dict]) -> None:
    write_text(state / "attempts.jsonl", "".join(json.dumps(attempt) + "\n" for attempt in attempts))
