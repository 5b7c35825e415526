"""When a cell leaves: what signals do inside and outside of the steps, and when its job's time is over."""

import datetime
import os
import signal
import time

import pytest
from fake_slurm import FakeSlurm

from gluegrid.execution.preemption import SIGNALS, Preemption, end_of_job
from gluegrid.execution.reasons import Cause, Preempted, Reason


@pytest.fixture(autouse=True)
def old_handlers():
    """Give the signals back to whoever had them."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def leaving():
    listening = Preemption()
    listening.listen()
    return listening


@pytest.mark.parametrize("number", SIGNALS)
def test_outside_of_the_steps_a_signal_ends_at_once(leaving, number):
    with pytest.raises(Preempted, match=str(Reason(SIGNALS[number]))) as told:
        os.kill(os.getpid(), number)
    assert told.value.reason == Reason(SIGNALS[number])


def test_inside_a_signal_is_a_reason_and_a_second_one_changes_nothing(leaving):
    with pytest.raises(Preempted, match="SIGUSR1"), leaving.held_back():
        assert leaving.reason() is None
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert leaving.reason() == Reason(Cause.SIGUSR1)


def test_what_nohup_ignores_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    leaving = Preemption()
    leaving.listen()
    os.kill(os.getpid(), signal.SIGHUP)
    assert leaving.reason() is None


@pytest.mark.parametrize(("seconds", "margin"), [(86_400, 60), (600, 60), (100, 10)])
def test_the_end_of_the_time_is_left_a_margin_before(monkeypatch, seconds, margin):
    now = 1_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    leaving = Preemption(now + seconds)
    now += seconds - margin - 1
    assert leaving.reason() is None
    assert leaving.reason(seconds_needed=2) == Reason(Cause.TIME_LIMIT)
    now += 2
    assert leaving.reason() == Reason(Cause.TIME_LIMIT)


@pytest.mark.parametrize("answer", ["NONE", "N/A", ""])
def test_the_end_of_a_job_is_asked_of_slurm_where_nothing_says_it(tmp_path, monkeypatch, answer):
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert end_of_job() is None
    slurm = FakeSlurm(tmp_path / "slurm")
    slurm.put_on_path(monkeypatch)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    banner = "Since 2029-01-02T03:04:05 there are 9 nodes\nGr\udcfc\udcdfe\n"
    slurm.answers("squeue", (0, f"{banner}2030-01-02T03:04:05\n", banner), (0, f"{answer}\n", ""), (1, "", "error"))
    assert end_of_job() == datetime.datetime(2030, 1, 2, 3, 4, 5).timestamp()
    assert end_of_job() is None
    assert end_of_job() is None
    monkeypatch.setenv("SLURM_JOB_END_TIME", "123")
    assert end_of_job() == 123
