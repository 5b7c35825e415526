"""Find the state of one cell: done, running, waiting in SLURM's queue, stopped, failed, or not begun.

The cell itself is not asked: its files and SLURM's queue tell. The queue is read after the files of what may still
work, and before those of what has ended. So a cell that ends in between is seen as ended.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from gluegrid.common.provenance import this_process
from gluegrid.execution.invocation import Invocations
from gluegrid.execution.job_logs import has_error
from gluegrid.execution.reasons import PREEMPTED, STOPPED, Cause, Reason
from gluegrid.execution.slurm_queue import Job
from gluegrid.experiment.cell import Cell
from gluegrid.experiment.experiment import Experiment
from gluegrid.operations.traces import Progress, Traces, written
from gluegrid.results.outcomes import Outcome, outcome, train_log

SECONDS_TO_START = 120  # from a job's first line in its log until it holds the cell's lock


class State(StrEnum):
    """The state of a cell, in the words that users read."""

    RUNNING = "running"
    QUEUED = "queued"
    FAILED = "failed"
    STOPPED = "stopped"  # ended early without a fault: killed, cancelled by SLURM, told to exit
    NOT_BEGUN = "not begun"
    DONE = "done"


class Phase(StrEnum):
    """What a running cell does when it does not train, in the words that users read."""

    STARTING = "starting"
    SCORING = "scoring"
    ENDING = "ending"


@dataclass(frozen=True)
class CellStatus:
    """A cell and its state. `why`: what it does if not training, what it waits for, or why it failed."""

    outcome: Outcome
    state: State
    why: str | Phase = ""
    progress: Progress | None = None
    job: Job | None = None


@dataclass(frozen=True)
class Surroundings:
    """What cells share: their jobs in SLURM's queue, their calls of snakemake, and what is not staged for them.

    `queue` is None when SLURM does not answer. `missing` has rule and log of what is not staged, by model and task.
    """

    queue: dict[str, Job] | None
    invocations: Invocations
    missing: dict[tuple[str, str], list[tuple[str, Path]]]

    def waits_for(self, cell: Cell) -> str:
        """Return which rules must end before a cell can begin."""
        rules = dict.fromkeys(rule for rule, _ in self.missing[cell.model, cell.task])
        return f"waits for {', '.join(rules)}" if rules else ""


def status_of(experiment: Experiment, cell: Cell, traces: Traces, around: Surroundings) -> CellStatus:
    """Return the status of a cell that had no results when its traces were read."""
    queue = around.queue
    jobs = [job for each in traces.jobs if (job := each.found_in(queue or {}))]
    job = min(jobs, key=lambda job: job.waits, default=None)  # prefer a running job to one that waits for it
    nothing = Outcome(cell, train_log(experiment, cell), why=Reason(Cause.NOT_RUN))
    if _is_held(traces, queue):
        return CellStatus(nothing, State.RUNNING, _phase(traces, job), traces.progress, job)
    if job is not None and not job.waits and any(each.is_pack for each in traces.jobs if each.number == job.number):
        return _status_in_pack(experiment, cell, traces, around, job)
    if job is not None and not job.waits:
        return CellStatus(nothing, State.RUNNING, _phase(traces, job), traces.progress, job)
    if job is not None:
        return CellStatus(nothing, State.QUEUED, job.reason, traces.progress, job)
    is_untouched = not traces.is_there and not around.missing[cell.model, cell.task] and not nothing.log.exists()
    if is_untouched and not experiment.imported:
        return CellStatus(nothing, State.NOT_BEGUN)  # nothing else needs reading, as for most cells of a large grid
    ended = outcome(experiment, cell)
    if ended.is_done:
        return CellStatus(ended, State.DONE)
    if ended.attempts and ended.attempts[-1]["end"] is None and traces.is_outdated():
        return CellStatus(ended, State.RUNNING, Phase.STARTING)
    is_silent = queue is None and traces.submitted and not _has_begun(traces.submitted, ended.attempts)
    if is_silent:
        return CellStatus(ended, State.QUEUED, "when SLURM last answered", traces.progress)
    return _status_when_ended(ended, traces, around)


def _status_in_pack(experiment: Experiment, cell: Cell, traces: Traces, around: Surroundings, job: Job) -> CellStatus:
    """Return the status of a cell whose pack runs and works on another cell: its turn is to come, or over."""
    ended = outcome(experiment, cell)
    if ended.is_done:
        return CellStatus(ended, State.DONE)
    if traces.is_outdated():
        return CellStatus(ended, State.RUNNING, Phase.STARTING)
    # A cell that has left while the job runs: SLURM has restarted the job, and the cell's turn comes again.
    is_over = _has_begun(job.number, ended.attempts) and ended.why.cause not in PREEMPTED
    if is_over or ended.why.cause == Cause.CANCELLED:
        return _status_when_ended(ended, traces, around)
    return CellStatus(ended, State.QUEUED, "its pack runs", traces.progress, job)


def _is_held(traces: Traces, queue: dict[str, Job] | None) -> bool:
    """Tell whether a living process holds the cell's lock."""
    holder = traces.holder
    if holder is None:
        return False
    if holder["host"] == this_process()["host"]:
        return True  # this machine knows that the process lives
    if holder["slurm_job_id"] and queue is not None:
        number = str(holder["slurm_job_id"])
        if number not in queue:
            return False
        job = next((job for each in traces.jobs if each.number == number and (job := each.found_in(queue))), None)
        if job is not None and holder.get("pack"):
            # The pack may work on another cell by now, and a dead node may have left this lock.
            return not job.waits and traces.heart_beats
        if job is not None:
            return not job.waits
        # Not one of our jobs: somebody else's with the same number, or an allocation in which snakemake was called.
    return traces.heart_beats


def _phase(traces: Traces, job: Job | None) -> str | Phase:
    """Return what a running cell does; an empty text if it trains."""
    progress = traces.progress
    if job is not None and job.state == "COMPLETING":
        return Phase.ENDING
    if progress is None or traces.holder is None or not progress.is_by(traces.holder):
        return Phase.STARTING  # the progress is that of the attempt before
    return Phase.SCORING if progress.step == progress.steps else ""


def _status_when_ended(ended: Outcome, traces: Traces, around: Surroundings) -> CellStatus:
    """Return the status of a cell on which nothing works."""
    since, cause = around.invocations.since, ended.why.cause
    if cause == Cause.NOT_RUN:
        return CellStatus(ended, State.NOT_BEGUN, around.waits_for(ended.cell))
    # What an earlier call left is no failure of the running one, which tries the cell again.
    if since is not None and max(traces.last_event, written(ended.log)) < since:
        return CellStatus(ended, State.NOT_BEGUN, f"before this call: {ended.reason}", traces.progress)
    if cause in (Cause.NOT_STAGED, Cause.NO_START):
        if since is not None and not has_error(ended.log):
            return CellStatus(ended, State.NOT_BEGUN, around.waits_for(ended.cell))
        return CellStatus(ended, State.FAILED, ended.reason)
    is_untried = cause in (Cause.NOT_STARTED, Cause.INVALID)
    if is_untried and since is not None and not traces.submitted and _may_yet_start(ended.log):
        return CellStatus(ended, State.RUNNING, Phase.STARTING)
    why = str(Reason(Cause.KILLED)) if cause == Cause.UNREPORTED else ended.reason
    return CellStatus(ended, State.STOPPED if cause in STOPPED else State.FAILED, why, traces.progress)


def _may_yet_start(log: Path) -> bool:
    return time.time() - written(log) < SECONDS_TO_START and not has_error(log)


def _has_begun(job: str, tried: Sequence[dict]) -> bool:
    return any(str(attempt["slurm_job_id"]) == str(job) for attempt in tried)
