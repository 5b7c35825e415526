"""When a cell has to stop before it is done: at a signal, its launcher's death, or the end of its job's time."""

import ctypes
import datetime
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from gluegrid.common.errors import TransientError
from gluegrid.execution.reasons import Cause, Preempted, Reason
from gluegrid.execution.slurm_queue import answer_of

PR_SET_PDEATHSIG = 1  # prctl(2)
OF_THE_LAUNCHER = "ACCELERATE_MIXED_PRECISION"  # accelerate launch sets it for the processes that it starts
LONGEST_MARGIN = 60  # seconds before the end of the job's time
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")  # as SLURM writes it
SHARE_OF_TIME = 0.1  # of the job's time, where that is shorter
SIGNALS = {
    signal.SIGTERM: Cause.SIGTERM,
    signal.SIGUSR1: Cause.SIGUSR1,
    signal.SIGINT: Cause.INTERRUPTED,
    signal.SIGHUP: Cause.SIGHUP,
}


class Preemption:
    """Whether this process should leave, and why. `ends` is the end of its job's time, in seconds as time.time()."""

    def __init__(self, ends: float | None = None):
        self._asked: Reason | None = None
        self._is_held_back = False
        self._last_moment = None
        if ends is not None:
            self._last_moment = ends - min(LONGEST_MARGIN, SHARE_OF_TIME * (ends - time.time()))

    def listen(self) -> None:
        """Let signals ask this process to leave: by raising Preempted at once, or if held back, through `reason`."""
        for number in SIGNALS:
            # SIGHUP stays ignored under nohup. The shell around the launcher ignores the other signals.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # a pack blocks them until its child can heed them

    def stop_listening(self) -> None:
        """Ignore the signals, since all is done. Python gives up its handlers before it has exited."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def hold_back(self) -> None:
        """Do not raise Preempted from now on, so that what follows cannot be interrupted halfway."""
        self._is_held_back = True

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Do not raise Preempted inside, where the code itself checks `reason` at suitable moments."""
        self._is_held_back = True
        try:
            yield
        finally:
            self._is_held_back = False
        if self._asked:
            raise Preempted(self._asked)

    @contextmanager
    def raised_at_once(self) -> Iterator[None]:
        """After `hold_back`: raise Preempted at once inside, also for a signal that was held back."""
        try:
            self._is_held_back = False
            if self._asked:
                raise Preempted(self._asked)
            yield
        finally:
            self._is_held_back = True

    def reason(self, seconds_needed: float = 0.0) -> Reason | None:
        """Return why to leave now, given that leaving takes so many seconds; None to go on."""
        if self._asked:
            return self._asked
        if self._last_moment is not None and time.time() + seconds_needed > self._last_moment:
            return Reason(Cause.TIME_LIMIT)
        return None

    def _on_signal(self, number: int, frame: object) -> None:
        # Only once: a second signal would interrupt the saving.
        if self._asked is None:
            self._asked = Reason(SIGNALS[signal.Signals(number)])
            if not self._is_held_back:
                raise Preempted(self._asked)


def follow_launcher() -> None:
    """Ask the kernel for SIGTERM when the launcher that started this process dies, since it forwards no signals.

    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    if OF_THE_LAUNCHER in os.environ:
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def end_of_job() -> float | None:
    """Return when SLURM will end this process's job, in seconds as time.time(); None if unknown."""
    if end := os.environ.get("SLURM_JOB_END_TIME"):
        return float(end)
    if job := os.environ.get("SLURM_JOB_ID"):
        return _asked_of_squeue(job)
    return None


def _asked_of_squeue(job: str) -> float | None:
    try:
        answer = answer_of("squeue", "--noheader", f"--jobs={job}", "--format=%e", seconds=30)
    except TransientError:
        return None
    # Some sites make squeue print more.
    moments = [line.strip() for line in answer.splitlines() if MOMENT.fullmatch(line.strip())]
    return datetime.datetime.fromisoformat(moments[-1]).timestamp() if moments else None
