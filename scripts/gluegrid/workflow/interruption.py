"""The end of a call of snakemake that is asked for, by Ctrl-C or by a signal to its process alone.

What it has started saves its work and leaves, and the call ends after it. Only a `kill -9` leaves jobs behind; the same
command finds them.
"""

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from snakemake.logging import logger
from snakemake.shell import shell

from gluegrid.common.provenance import EXECUTOR
from gluegrid.execution.invocation import LIVE, SUBMITTED, interrupt

SECONDS_BETWEEN_ROUNDS = 1


def end_when_asked() -> None:
    """Let SIGTERM end this call as Ctrl-C does, and SIGHUP too where its cells are on this machine.

    Snakemake (9.27) itself waits after a SIGTERM until all its jobs are done: hours, and whoever sends one mostly kills
    within seconds what is left. Jobs on SLURM outlast a connection that is lost, and the job of a controller, in which
    SIGTERM comes from SLURM when it is requeued, preempted or cancelled: there, it is as good as a `kill -9`.
    """
    # Snakemake's own handlers are there by now. What nohup ignores stays ignored.
    signal.signal(signal.SIGTERM, signal.SIG_DFL if SUBMITTED in os.environ else signal.default_int_handler)
    if os.environ.get(EXECUTOR) == "local" and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)


def tell_jobs_and_cancel(cancel: Callable, self) -> None:
    """Let an executor that is cancelled tell its jobs on this machine, for which Snakemake only waits.

    A terminal's Ctrl-C reaches them too, a signal to the process of snakemake alone does not.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _ask_for_patience)
    interrupt()
    if isinstance(sys.exception(), KeyboardInterrupt):
        # That its jobs have ended as they were told is no error, nor that the workflow has not come to its end.
        logger.addFilter(lambda record: record.levelno < logging.ERROR)
        warnings.filterwarnings("ignore", "coroutine .* was never awaited")  # of a job that was just to begin
        if LIVE in os.environ:  # Snakemake says so itself where its own output is shown
            print("Stopping; running cells save their work first.", file=sys.stderr, flush=True)
    with _local_jobs_told():
        cancel(self)


def _ask_for_patience(number: int, frame: object) -> None:
    print("Already stopping; running cells are saving their work.", file=sys.stderr, flush=True)


@contextmanager
def _local_jobs_told() -> Iterator[None]:
    """Tell the processes of this machine's jobs to leave, until those inside have been waited for."""
    is_over = threading.Event()
    teller = threading.Thread(target=_tell_local_jobs, args=(is_over,), daemon=True)
    teller.start()
    try:
        yield
    finally:
        is_over.set()
        teller.join()


def _tell_local_jobs(is_over: threading.Event) -> None:
    told: set[psutil.Process] = set()
    while True:
        for process in set(_processes_of_local_jobs()) - told:
            # One that ignores it may yet begin to listen: the training does, its shell and its launcher do not.
            with suppress(psutil.Error, OSError):
                if not _ignores_interrupts(process.pid):
                    process.send_signal(signal.SIGINT)
                    told.add(process)
        if is_over.wait(SECONDS_BETWEEN_ROUNDS):
            return


def _processes_of_local_jobs() -> Iterator[psutil.Process]:
    for started in list(shell._processes.values()):
        with suppress(psutil.Error):
            of_shell = psutil.Process(started.pid)
            yield of_shell
            yield from of_shell.children(recursive=True)


def _ignores_interrupts(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    ignored = next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:"))
    return bool(int(ignored, 16) >> (signal.SIGINT - 1) & 1)
