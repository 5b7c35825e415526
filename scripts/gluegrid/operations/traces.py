"""Read the state folder of a cell without results: who works on it, its jobs, and its progress."""

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gluegrid.common.files import json_if_there
from gluegrid.execution.locks import DEAD_AFTER_SECONDS, living_holder, seconds_since_beat
from gluegrid.execution.slurm_queue import SubmittedJob
from gluegrid.execution.submissions import REFUSAL, SUBMITTED, noted_jobs
from gluegrid.experiment.cell import Cell, run_hash, run_text
from gluegrid.experiment.experiment import Experiment
from gluegrid.results.outcomes import state_of

EVENTS = ("attempts.jsonl", REFUSAL, "cancelled.json")  # files that tell how the last attempt ended


@dataclass(frozen=True)
class Progress:
    """The progress of a training: updates done and in total, last loss, seconds of all attempts; when it was noted, and
    by which process (None in files of earlier releases).
    """

    step: int
    steps: int
    loss: float
    seconds: float
    noted: str
    process: dict | None = None

    @property
    def seconds_left(self) -> float:
        """The remaining seconds of training at the pace so far, without scoring."""
        return self.seconds / self.step * (self.steps - self.step)

    def is_by(self, holder: dict) -> bool:
        """Tell whether a cell's holder noted it; compare times, perhaps of two hosts, only if it names no process."""
        if self.process is None:
            return self.noted >= str(holder["since"])
        return self.process.items() <= holder.items()


@dataclass(frozen=True)
class Traces:
    """The state of a cell as read: who holds its lock, its last SLURM job, its progress.

    `jobs` may be training the cell: its holder's, and the last one submitted. `last_event` is when the end of an
    attempt was last noted; 0 if never.
    """

    state: Path
    is_there: bool = False
    holder: dict | None = None
    heart_beats: bool = False
    submitted: str | None = None
    jobs: Sequence[SubmittedJob] = ()
    progress: Progress | None = None
    last_event: float = 0.0

    def is_outdated(self) -> bool:
        """Tell whether somebody has started to work on the cell since it was read."""
        holder, heart_beats = _living(self.state / "lock")
        return heart_beats and holder != self.holder


def traces_of(experiment: Experiment, cell: Cell) -> Traces:
    """Read a cell's state folder. Files may come and go meanwhile; treat what cannot be read as missing."""
    state = state_of(experiment, cell)
    try:
        with os.scandir(state) as entries:
            files = {entry.name: entry for entry in entries}
    except OSError:
        return Traces(state)
    holder, heart_beats = _living(state / "lock") if "lock" in files else (None, False)
    submitted = json_if_there(state / SUBMITTED) if SUBMITTED in files else {}
    noted = json_if_there(state / "progress.json") if "progress.json" in files else {}
    is_of_this_run = bool(noted) and noted.get("run_sha256") == run_hash(run_text(cell))
    return Traces(
        state,
        is_there=True,
        holder=holder,
        heart_beats=heart_beats,
        submitted=next((job.number for job in noted_jobs(state, submitted, {})), None),
        jobs=noted_jobs(state, submitted, holder or {}),
        progress=_progress(noted) if is_of_this_run else None,
        last_event=max((written(files[name]) for name in EVENTS if name in files), default=0.0),
    )


def written(path: Path | os.DirEntry) -> float:
    """Return a file's modification time in seconds; 0 if it does not exist."""
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _living(lock: Path) -> tuple[dict | None, bool]:
    """Return the holder of a lock, if it may be alive, and whether its heart beats."""
    holder = living_holder(lock)
    return holder, holder is not None and seconds_since_beat(lock) < DEAD_AFTER_SECONDS


def _progress(noted: dict) -> Progress | None:
    numbers = [noted.get(key) for key in ("step", "steps", "loss", "train_seconds")]
    if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
        return None
    step, steps, loss, seconds = numbers
    process = noted["process"] if isinstance(noted.get("process"), dict) else None
    return Progress(step, steps, loss, seconds, str(noted.get("time")), process) if 0 < step <= steps else None
