"""Where one cell is: done, running, waiting in SLURM's queue, stopped, failed, or not begun.

Nothing here is asked of the cell itself: its files tell, and SLURM's queue, which is asked after what may still work
was read, and before what has ended is: so what ends in between is seen as ended.
"""

import math
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json
from gluegrid.common.paths import state_folder
from gluegrid.common.provenance import this_process
from gluegrid.execution import attempts
from gluegrid.execution.invocation import Heads
from gluegrid.execution.locks import DEAD_AFTER_SECONDS, living_holder, seconds_since_beat
from gluegrid.execution.preemption import tells_of_leaving
from gluegrid.execution.sbatch import REFUSED, noted_jobs
from gluegrid.execution.slurm_queue import Job, SubmittedJob
from gluegrid.experiment.cell import Cell, run_hash, run_text
from gluegrid.experiment.experiment import Experiment
from gluegrid.results.outcomes import NOT_RUN, Outcome, has_error, outcome, train_log

SECONDS_TO_START = 120  # from a job's first line in its log until it holds the cell's lock
STARTING = "starting"
EVENTS = ("attempts.jsonl", "refusal.json", "cancelled.json")  # files that say how the last try ended


class State(StrEnum):
    """Where a cell is; the words that people read."""

    RUNNING = "running"
    QUEUED = "queued"
    FAILED = "failed"
    STOPPED = "stopped"  # ended before it was done, with nothing wrong: killed, cancelled by SLURM, asked to leave
    NOT_BEGUN = "not begun"
    DONE = "done"


@dataclass(frozen=True)
class Progress:
    """How far a training is, or was when it ended: updates done, of how many, last loss, seconds of all attempts; when
    it was noted, and by which process (None in an earlier release's file).
    """

    step: int
    steps: int
    loss: float
    seconds: float
    noted: str
    process: dict | None = None

    @property
    def seconds_left(self) -> float:
        """Seconds that the training takes yet at the pace it had until now; without scoring."""
        return self.seconds / self.step * (self.steps - self.step)


@dataclass(frozen=True)
class CellStatus:
    """A cell and where it is. `why`: what it does if not training, what it waits for, why it failed."""

    outcome: Outcome
    state: State
    why: str = ""
    progress: Progress | None = None
    job: Job | None = None


@dataclass(frozen=True)
class Traces:
    """What a cell without results has in its state folder: who holds its lock, its last SLURM job, its progress.

    `jobs` may work on the cell: its holder's, and the last one submitted. `last_event`: when something was noted there
    about how a try ended; 0 where nothing was.
    """

    state: Path
    is_there: bool = False
    holder: dict | None = None
    heart_beats: bool = False
    submitted: str | None = None
    jobs: Sequence[SubmittedJob] = ()
    progress: Progress | None = None
    last_event: float = 0.0


@dataclass(frozen=True)
class Surroundings:
    """What cells share: their jobs in SLURM's queue, their calls of snakemake, and what is not staged for them.

    `queue` is None when SLURM does not answer. `missing` has rule and log of what is not staged, by model and task.
    """

    queue: dict[str, Job] | None
    heads: Heads
    missing: dict[tuple[str, str], list[tuple[str, Path]]]

    def waits_for(self, cell: Cell) -> str:
        """Say which rules must end before a cell can begin."""
        rules = dict.fromkeys(rule for rule, _ in self.missing[cell.model, cell.task])
        return f"waits for {', '.join(rules)}" if rules else ""


def traces_of(experiment: Experiment, cell: Cell) -> Traces:
    """Read a cell's state folder. Files may come and go meanwhile; what cannot be read is not there."""
    state = state_folder(Path(experiment.paths.run.format(**cell.wildcards)))
    try:
        with os.scandir(state) as entries:
            found = {entry.name: entry for entry in entries}
    except OSError:
        return Traces(state)
    holder, heart_beats = _living(state / "lock") if "lock" in found else (None, False)
    submitted = _content(state / "slurm_job.json") if "slurm_job.json" in found else {}
    noted = _content(state / "progress.json") if "progress.json" in found else {}
    is_of_this_run = bool(noted) and noted.get("run_sha256") == run_hash(run_text(cell))
    return Traces(
        state,
        is_there=True,
        holder=holder,
        heart_beats=heart_beats,
        submitted=next((job.number for job in noted_jobs(state, submitted, {})), None),
        jobs=noted_jobs(state, submitted, holder or {}),
        progress=_progress(noted) if is_of_this_run else None,
        last_event=max((_time(found[name]) for name in EVENTS if name in found), default=0.0),
    )


def status_of(experiment: Experiment, cell: Cell, traces: Traces, around: Surroundings) -> CellStatus:
    """Return where a cell is that had no results when its traces were read."""
    queue = around.queue
    jobs = [job for each in traces.jobs if (job := each.found_in(queue or {}))]
    job = min(jobs, key=lambda job: job.waits, default=None)  # one that runs before one that waits for it
    if _is_held(traces, queue):
        return _running(experiment, cell, traces, job)
    if job is not None and job.waits:
        return CellStatus(_no_outcome(experiment, cell), State.QUEUED, job.reason, traces.progress, job)
    if job is not None:
        return _running(experiment, cell, traces, job)
    nothing = _no_outcome(experiment, cell)
    is_untouched = not traces.is_there and not around.missing[cell.model, cell.task] and not nothing.log.exists()
    if is_untouched and not experiment.imported:
        return CellStatus(nothing, State.NOT_BEGUN)  # nothing else is to be read, as of most cells of a large grid
    found = outcome(experiment, cell)
    if found.is_done:
        return CellStatus(found, State.DONE)
    if found.attempts and found.attempts[-1]["end"] is None and _was_taken_since(traces):
        return CellStatus(found, State.RUNNING, STARTING)
    is_silent = queue is None and traces.submitted and not _has_begun(traces.submitted, found.attempts)
    if is_silent:
        return CellStatus(found, State.QUEUED, "when SLURM last answered", traces.progress)
    return _of_what_has_ended(experiment, found, traces, around)


def _is_held(traces: Traces, queue: dict[str, Job] | None) -> bool:
    """Tell whether a living process holds the cell's lock."""
    holder = traces.holder
    if holder is None:
        return False
    if holder["host"] == this_process()["host"]:
        return True  # it was looked up
    if holder["slurm_job_id"] and queue is not None:
        number = str(holder["slurm_job_id"])
        if number not in queue:
            return False
        job = next((found for each in traces.jobs if each.number == number and (found := each.found_in(queue))), None)
        if job is not None:
            return not job.waits
        # Not of ours: somebody else's that has its number now, or an allocation in which snakemake was called.
    return traces.heart_beats


def _was_taken_since(traces: Traces) -> bool:
    """Tell whether somebody has begun to work on a cell after its traces were read."""
    holder, heart_beats = _living(traces.state / "lock")
    return heart_beats and holder != traces.holder


def _running(experiment: Experiment, cell: Cell, traces: Traces, job: Job | None) -> CellStatus:
    progress, why = traces.progress, ""
    if job is not None and job.state == "COMPLETING":
        why = "ending"
    elif progress is None or traces.holder is None or not _is_noted_by(traces.holder, progress):
        why = STARTING  # what is noted is from the attempt before
    elif progress.step == progress.steps:
        why = "scoring"
    return CellStatus(_no_outcome(experiment, cell), State.RUNNING, why, progress, job)


def _is_noted_by(holder: dict, progress: Progress) -> bool:
    """Tell whether a cell's holder has noted this progress; by moments of perhaps two hosts only if it names nobody."""
    if progress.process is None:
        return progress.noted >= str(holder["since"])
    return progress.process.items() <= holder.items()


def _of_what_has_ended(experiment: Experiment, found: Outcome, traces: Traces, around: Surroundings) -> CellStatus:
    """Return the status of a cell on which nothing works."""
    heads = around.heads
    if found.reason == NOT_RUN:
        return CellStatus(found, State.NOT_BEGUN, around.waits_for(found.cell))
    # What an earlier call of snakemake has left is no failure of the one that runs: it tries the cell again.
    is_news = heads.since is None or max(traces.last_event, _time(found.log)) >= heads.since
    if not is_news:
        return CellStatus(found, State.NOT_BEGUN, f"before this call: {found.reason}", traces.progress)
    if found.reason == attempts.CANCELLED or found.reason.startswith(REFUSED):
        return CellStatus(found, State.FAILED, found.reason, traces.progress)
    if found.log != train_log(experiment, found.cell):
        if heads.since is not None and not has_error(found.log):
            return CellStatus(found, State.NOT_BEGUN, around.waits_for(found.cell))
        return CellStatus(found, State.FAILED, found.reason)
    if not found.attempts and heads.since is not None and not traces.submitted and _may_yet_start(found.log):
        return CellStatus(found, State.RUNNING, STARTING)
    if found.attempts and _was_only_stopped(found.attempts[-1]):
        last = found.attempts[-1]
        why = found.reason if last["reason"] else attempts.reason({**last, "reason": attempts.KILLED})
        return CellStatus(found, State.STOPPED, why, traces.progress)
    return CellStatus(found, State.FAILED, found.reason, traces.progress)


def _may_yet_start(log: Path) -> bool:
    return time.time() - _time(log) < SECONDS_TO_START and not has_error(log)


def _was_only_stopped(attempt: dict) -> bool:
    return attempt["reason"] in (None, attempts.KILLED) or tells_of_leaving(str(attempt["reason"]))


def _has_begun(job: str, tried: Sequence[dict]) -> bool:
    return any(str(attempt["slurm_job_id"]) == str(job) for attempt in tried)


def _no_outcome(experiment: Experiment, cell: Cell) -> Outcome:
    return Outcome(cell, train_log(experiment, cell), reason=NOT_RUN)


def _living(lock: Path) -> tuple[dict | None, bool]:
    """Return who holds a lock, if it may be alive, and whether its heart beats."""
    holder = living_holder(lock)
    return holder, holder is not None and seconds_since_beat(lock) < DEAD_AFTER_SECONDS


def _progress(noted: dict) -> Progress | None:
    numbers = [noted.get(key) for key in ("step", "steps", "loss", "train_seconds")]
    if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
        return None
    step, steps, loss, seconds = numbers
    process = noted["process"] if isinstance(noted.get("process"), dict) else None
    return Progress(step, steps, loss, seconds, str(noted.get("time")), process) if 0 < step <= steps else None


def _content(path: Path) -> dict:
    try:
        return read_json(path)
    except DataError:
        return {}


def _time(path: Path | os.DirEntry) -> float:
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0
