"""End a call of snakemake on request: by Ctrl-C, or by a signal to its process alone.

Its jobs save their work and exit, and then the call ends. Only a `kill -9` leaves jobs behind; the same command finds
them.
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
    """Make SIGTERM end this call as Ctrl-C does, and SIGHUP too if its cells run on this machine.

    After a SIGTERM, Snakemake (9.27) itself waits for all its jobs. That takes hours, but most senders kill what is
    left within seconds. Jobs on SLURM outlast a lost connection, and they outlast the job of their controller. SLURM
    sends SIGTERM to that job when it requeues, preempts or cancels it: there, the signal works like a `kill -9`.
    """
    # Snakemake has installed its own handlers by now. What nohup ignores stays ignored.
    signal.signal(signal.SIGTERM, signal.SIG_DFL if SUBMITTED in os.environ else signal.default_int_handler)
    if os.environ.get(EXECUTOR) == "local" and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)


def tell_jobs_and_cancel(cancel: Callable, self) -> None:
    """Make a cancelled executor tell its jobs on this machine to exit; Snakemake only waits for them.

    A Ctrl-C in the terminal reaches them, too; a signal to the snakemake process alone does not.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _ask_for_patience)
    interrupt()
    if isinstance(sys.exception(), KeyboardInterrupt):
        # Jobs that exit as told are no errors, nor is a workflow that does not finish.
        logger.addFilter(lambda record: record.levelno < logging.ERROR)
        warnings.filterwarnings("ignore", "coroutine .* was never awaited")  # of a job that was about to begin
        if LIVE in os.environ:  # Snakemake says so itself where its own output is shown
            print("Stopping; running cells save their work first.", file=sys.stderr, flush=True)
    with _local_jobs_told():
        cancel(self)


def _ask_for_patience(number: int, frame: object) -> None:
    print("Already stopping; running cells are saving their work.", file=sys.stderr, flush=True)


@contextmanager
def _local_jobs_told() -> Iterator[None]:
    """Tell the processes of this machine's jobs to exit, until the body of the `with` statement has waited for them."""
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
            # A process that ignores SIGINT may listen later: a training does; its shell and its launcher do not.
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
