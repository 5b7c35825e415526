"""What a cell without results has in its state folder: who works on it, its jobs, and how far its training is."""

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

EVENTS = ("attempts.jsonl", REFUSAL, "cancelled.json")  # files that say how the last try ended


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

    def is_by(self, holder: dict) -> bool:
        """Tell whether a cell's holder has noted it; by moments of perhaps two hosts only if it names nobody."""
        if self.process is None:
            return self.noted >= str(holder["since"])
        return self.process.items() <= holder.items()


@dataclass(frozen=True)
class Traces:
    """What was read of a cell: who holds its lock, its last SLURM job, its progress.

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

    def is_outdated(self) -> bool:
        """Tell whether somebody has begun to work on the cell since they were read."""
        holder, heart_beats = _living(self.state / "lock")
        return heart_beats and holder != self.holder


def traces_of(experiment: Experiment, cell: Cell) -> Traces:
    """Read a cell's state folder. Files may come and go meanwhile; what cannot be read is not there."""
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
    """Return when a file was written last, in seconds as files have them; 0 where it is not there."""
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0


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
