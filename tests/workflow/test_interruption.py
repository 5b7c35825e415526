"""How a call of snakemake ends when it is asked to: which signals ask, and that all its jobs here are told once.

Calls that are interrupted with their cells in real trainings are in test_two_calls.py, and on SLURM in
tests/cluster/test_heads.py.
"""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from snakemake.executors.local import Executor as LocalExecutor
from snakemake.logging import logger
from snakemake.shell import shell
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from waiting import HANG, wait_until

from gluegrid.common.provenance import EXECUTOR
from gluegrid.execution import invocation
from gluegrid.workflow import interruption
from gluegrid.workflow.interruption import end_when_asked
from gluegrid.workflow.snakemake_patches import tell_jobs_of_interruption

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Ignores the signals as the shell around a training does, and listens to them only when it is told to.
LISTENS_LATER = """
import signal, sys, time
from pathlib import Path
told = []
Path("begun").touch()
while not Path("listen").exists():
    time.sleep(0.05)
signal.signal(signal.SIGINT, lambda *_: told.append(1))
Path("listens").touch()
deadline = time.monotonic() + 300
while not told:
    assert time.monotonic() < deadline
    time.sleep(0.05)
time.sleep(3)  # for a second telling
Path("told").write_text(str(len(told)))
"""


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """Give signals, executors and the environment back."""
    handlers = {number: signal.getsignal(number) for number in ASKING}
    for executor in (LocalExecutor, RemoteExecutor):
        monkeypatch.setattr(executor, "cancel", executor.cancel)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    # It is ignored in what a shell starts with &.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("executor", "ignored", "asking"),
    [
        ("local", None, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}),
        ("local", signal.SIGHUP, {signal.SIGINT, signal.SIGTERM}),  # nohup
        ("slurm", None, {signal.SIGINT, signal.SIGTERM}),  # jobs outlast a lost connection
        ("slurm", "controller", {signal.SIGINT}),  # and the end of a controller's job
    ],
)
def test_which_signals_end_a_call_as_ctrl_c_does(executor, ignored, asking):
    signal.signal(signal.SIGTERM, lambda *_: None)  # Snakemake's, which waits for running jobs
    if ignored == "controller":
        os.environ[invocation.SUBMITTED] = "results/mine/heads/plan.json"
    for number in (signal.SIGHUP, ignored):
        if isinstance(number, signal.Signals):
            signal.signal(number, signal.SIG_IGN if number == ignored else signal.SIG_DFL)
    os.environ[EXECUTOR] = executor
    end_when_asked()
    assert {number for number in ASKING if signal.getsignal(number) == signal.default_int_handler} == asking
    for number in asking:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert (signal.getsignal(signal.SIGTERM) == signal.SIG_DFL) == (ignored == "controller")


def test_what_an_interrupted_call_has_started_is_told_once_when_it_listens_and_waited_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("later.py").write_text(LISTENS_LATER)
    invocation.freeze({}, tmp_path)
    os.environ[EXECUTOR] = "local"
    command = f"trap '' INT TERM; {sys.executable} later.py"
    job = threading.Thread(target=lambda: shell(command, jobid=7))
    monkeypatch.setattr(LocalExecutor, "cancel", lambda self: job.join(HANG))
    end_when_asked()
    tell_jobs_of_interruption()
    job.start()
    assert wait_until(lambda: 7 in shell._processes and Path("begun").exists())
    threading.Timer(2, Path("listen").touch).start()
    LocalExecutor.cancel(None)
    assert not job.is_alive()
    assert Path("told").read_text() == "1"
    assert invocation.has_ended()
    # A second time, it is only said to be under way.
    for number in ASKING:
        signal.raise_signal(number)


@pytest.mark.parametrize(("ending", "is_told"), [(KeyboardInterrupt(), False), (RuntimeError("lost"), True)])
def test_that_jobs_end_as_they_were_told_is_no_error(tmp_path, monkeypatch, caplog, ending, is_told):
    """Snakemake says of each job of an interrupted call that it has failed, and shows its log."""
    monkeypatch.setattr(logger, "filters", [])
    invocation.freeze({}, tmp_path)
    monkeypatch.setattr(LocalExecutor, "cancel", lambda self: None)
    tell_jobs_of_interruption()
    try:
        raise ending
    except BaseException:
        LocalExecutor.cancel(None)
    with caplog.at_level("INFO", logger.name):
        logger.error("Error in rule train")
        logger.info("Complete log")
    assert [record.getMessage() for record in caplog.records] == [*["Error in rule train"] * is_told, "Complete log"]


def test_a_process_that_has_ended_meanwhile_is_no_problem(monkeypatch):
    ended = subprocess.Popen(["true"])
    ended.wait()
    monkeypatch.setattr(shell, "_processes", {1: ended})
    assert list(interruption._processes_of_local_jobs()) == []
