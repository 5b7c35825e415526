"""Why a cell has no result: a value for programs, and a sentence made from it for people.

attempts.jsonl has both: the sentence, and the value under `cause`. Lines of earlier releases, and archives, have only
the sentence, which is turned into a value here, once, when it is read.
"""

from dataclasses import dataclass
from enum import StrEnum

from gluegrid.common.errors import Stopped


class Cause(StrEnum):
    """Why a cell has no result, or why an attempt at it ended; DONE if it left a result."""

    # How attempts end, as in attempts.jsonl.
    DONE = "done"
    FAILED = "failed"
    KILLED = "killed"
    SIGTERM = "sigterm"
    SIGUSR1 = "sigusr1"
    SIGHUP = "sighup"
    INTERRUPTED = "interrupted"
    TIME_LIMIT = "time_limit"
    PEER_PREEMPTED = "peer_preempted"
    # What else is known about a cell without a result.
    NOT_RUN = "not_run"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    UNPUBLISHED = "unpublished"
    UNREPORTED = "unreported"
    ENDED_BY_SLURM = "ended_by_slurm"
    NOT_STAGED = "not_staged"
    NOT_STARTED = "not_started"
    NO_START = "no_start"
    INVALID = "invalid"
    IMPORTED = "imported"
    IMPORT_GONE = "import_gone"


PREEMPTED = {
    *(Cause.SIGTERM, Cause.SIGUSR1, Cause.SIGHUP, Cause.INTERRUPTED, Cause.TIME_LIMIT, Cause.PEER_PREEMPTED),
}
# With these, nothing is wrong with the cell: its next attempt resumes.
STOPPED = PREEMPTED | {Cause.KILLED, Cause.ENDED_BY_SLURM, Cause.UNREPORTED}

# {said} is what an error, SLURM or a log says; {where} is a rule, a cell or a process. They can be reworded freely.
SENTENCES = {
    Cause.DONE: "done",
    Cause.FAILED: "{said}",
    Cause.KILLED: "ended without a word: killed, out of memory, or its node went down",
    Cause.SIGTERM: "stopped by SIGTERM: cancelled, preempted, at its time limit, or taken over",
    Cause.SIGUSR1: "stopped by SIGUSR1: the site's warning before the time limit",
    Cause.SIGHUP: "stopped by SIGHUP: its terminal was closed",
    Cause.INTERRUPTED: "interrupted",
    Cause.TIME_LIMIT: "its job's time limit is near",
    Cause.PEER_PREEMPTED: "another process of this cell was asked to leave",
    Cause.NOT_RUN: "not run yet",
    Cause.CANCELLED: "cancelled by make cancel",
    Cause.REFUSED: "SLURM took no job for it: {said}",
    Cause.UNPUBLISHED: "was trained, but its result is gone or was not published; run snakemake again",
    Cause.UNREPORTED: "killed, or still running: {where}, begun {said}, has not reported its end",
    Cause.ENDED_BY_SLURM: "ended by SLURM: {said}",
    Cause.NOT_STAGED: "{where} failed: {said}",
    Cause.NOT_STARTED: "train failed before its first step: {said}",
    Cause.NO_START: "not begun, since {where}, from whose model it starts, failed",
    Cause.INVALID: "{said}",
    Cause.IMPORTED: "{said}",
    Cause.IMPORT_GONE: "its result was imported, and is gone; import it again",
}


@dataclass(frozen=True)
class Reason:
    """Why a cell has no result. Its text is the sentence for people; programs use `cause`.

    `step` is the last step that a stopped training saved, 0 if it had not finished any. `noted` is the sentence as
    written in a file.
    """

    cause: Cause
    said: str = ""
    where: str = ""
    step: int | None = None
    noted: str | None = None

    def __str__(self) -> str:
        if self.noted is not None:
            return self.noted
        sentence = SENTENCES[self.cause].format(said=self.said, where=self.where)
        if self.step is None:
            return sentence
        return f"{sentence}; step {self.step} is kept" if self.step else f"{sentence}; before its first step was done"


class Preempted(Stopped):
    """The process was asked to leave before the cell was done."""

    def __init__(self, reason: Reason):
        super().__init__(str(reason))
        self.reason = reason


# How the sentences began in lines without a cause. Files of earlier releases contain them: never reword these.
WRITTEN_BEFORE = {
    "done": Cause.DONE,
    "ended without a word: killed, out of memory, or its node went down": Cause.KILLED,
    "stopped by SIGTERM: cancelled, preempted, at its time limit, or taken over": Cause.SIGTERM,
    "stopped by SIGUSR1: the site's warning before the time limit": Cause.SIGUSR1,
    "stopped by SIGHUP: its terminal was closed": Cause.SIGHUP,
    "interrupted": Cause.INTERRUPTED,
    "its job's time limit is near": Cause.TIME_LIMIT,
    "another process of this cell was asked to leave": Cause.PEER_PREEMPTED,
}
NOT_RUN_BEFORE = "not run yet"


def cause_of_earlier(sentence: str) -> Cause:
    """Return the cause of an attempt for which an earlier release noted only the sentence."""
    whole = WRITTEN_BEFORE.get(sentence)
    begun = (cause for text, cause in WRITTEN_BEFORE.items() if cause in PREEMPTED and sentence.startswith(text))
    return whole or next(begun, Cause.FAILED)


def reason_elsewhere(sentence: str | None) -> Reason:
    """Return why an imported cell has no result, from the sentence in its archive, which is None if it had a result."""
    if not sentence:
        return Reason(Cause.IMPORT_GONE)
    was_not_run = sentence in (NOT_RUN_BEFORE, SENTENCES[Cause.NOT_RUN])
    return Reason(Cause.NOT_RUN if was_not_run else Cause.IMPORTED, noted=sentence)
