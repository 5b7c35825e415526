"""What a cell does when it is killed, stopped, doubled, or tried in vain: real processes of scripts/train.py."""

import dataclasses
import json
import os
import signal
import time
from pathlib import Path

import pytest
from callers import MPIRUN, NOTEBOOK, TORCHRUN, python_variables
from late_signals import at_exit_of_python
from trainable_cell import (
    MANIFESTS,
    TrainableCell,
    child_of,
    dead_process,
    holder_of,
    is_alive,
    kill_group,
    lines_of,
    make_resources,
    our_error,
    write_head,
)
from waiting import HANG, wait_until

from gluegrid.common.files import read_json, sha256, write_json
from gluegrid.common.provenance import job, this_process
from gluegrid.execution import attempts
from gluegrid.execution.cell_state import CellFiles, has_published, has_result_of_this_call
from gluegrid.execution.reasons import Cause, Reason

LONG = 100_000  # epochs: hours
SHORT = 2


@pytest.fixture(scope="module")
def resources(tmp_path_factory):
    return make_resources(tmp_path_factory.mktemp("resources"))


@pytest.fixture
def cell(tmp_path, resources):
    """Return a cell that takes hours."""
    made = TrainableCell(tmp_path, resources, LONG, write_head(tmp_path / "results/e/heads/head.json"))
    made.write_run()
    return made


@pytest.fixture
def short(tmp_path, resources):
    """Return a cell that takes a second."""
    made = TrainableCell(tmp_path, resources, SHORT, write_head(tmp_path / "results/e/heads/head.json"))
    made.write_run()
    return made


@pytest.fixture
def started(cell):
    """Start trainings that are ended with the test."""
    running = []

    def start(of=cell, **options):
        running.append(of.start(**options))
        assert wait_until(of.has_begun), of.log.read_text()
        return running[-1]

    yield start
    for process in running:
        if process.poll() is None:
            kill_group(process)


def runs_first(folder: Path, code: str) -> dict[str, str]:
    """Return the environment of a Python that runs this before all else."""
    (folder / "first").mkdir()
    (folder / "first/sitecustomize.py").write_text(code)
    return {"PYTHONPATH": str(folder / "first")}


def test_a_latecomer_ends_before_the_holder_and_names_it(cell, started):
    first = started()
    holder = holder_of(cell)
    attempted = cell.attempts()
    latecomer = dataclasses.replace(cell, folder=cell.folder)
    assert latecomer.train() == 1
    assert first.poll() is None
    expected = f"gluegrid: this cell is being trained by process {holder['pid']} on {job()['host']}"
    assert our_error(cell.log).startswith(expected)
    assert holder_of(cell) == holder
    assert cell.attempts() == attempted


def test_a_latecomer_of_another_head_in_the_same_allocation_ends_too(cell, started):
    in_slurm = dataclasses.replace(cell, environment={"SLURM_JOB_ID": "77"})
    first = started(in_slurm)
    latecomer = dataclasses.replace(in_slurm, head=write_head(cell.folder / "another_head.json"))
    assert latecomer.train() == 1
    assert "this cell is being trained by process" in our_error(cell.log)
    assert first.poll() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP])
def test_a_signal_makes_it_save_and_leave_and_say_why(cell, started, number):
    process = started()
    os.kill(process.pid, number)
    assert process.wait(HANG) == 1
    (attempt,) = cell.attempts()
    assert number.name in attempt["reason"] or attempt["reason"].startswith("interrupted; ")
    kept = int(attempt["reason"].rpartition("step ")[2].split()[0])
    assert (cell.state / f"checkpoints/step-{kept:08d}/checkpoint.json").exists()
    assert not attempt["is_permanent"]
    assert our_error(cell.log) == f"gluegrid: {attempt['reason']}"
    assert not (cell.state / "lock").exists()


SIGNAL_AFTER_A_WRITE = """
import os, signal
replace, numbers = os.replace, iter(range(1, 9))

def replace_and_signal(source, target, **options):
    replace(source, target, **options)
    if str(target).endswith("attempts.jsonl") and next(numbers) == {write}:
        os.kill(os.getpid(), signal.SIGTERM)

os.replace = replace_and_signal
"""


@pytest.mark.parametrize(("write", "exit_code", "cause"), [(1, 1, Cause.SIGTERM), (2, 0, Cause.DONE)])
def test_a_signal_in_the_moment_in_which_an_attempt_is_noted_is_not_lost(short, write, exit_code, cause):
    first = runs_first(short.folder, SIGNAL_AFTER_A_WRITE.format(write=write))
    patched = dataclasses.replace(short, environment=first)
    assert patched.start(cold=True).wait(HANG) == exit_code, short.log.read_text()
    (attempt,) = short.attempts()
    assert attempt["cause"] == cause
    assert short.results.exists() == (cause == Cause.DONE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP])
def test_a_signal_while_python_exits_does_not_make_a_published_cell_fail(short, number):
    patched = dataclasses.replace(short, environment=runs_first(short.folder, at_exit_of_python(number)))
    assert patched.start(cold=True).wait(HANG) == 0, short.log.read_text()
    assert short.results.exists()


def test_a_signal_while_it_loads_ends_it_at_once(cell):
    process = cell.start(cold=True)
    assert wait_until(lambda: bool(cell.attempts()))
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(HANG) == 1
    assert cell.attempts()[0]["reason"].startswith("stopped by SIGTERM")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_training_dies_with_its_launcher_whoever_has_called(cell, started, number):
    theirs = TORCHRUN | MPIRUN | NOTEBOOK | python_variables(cell.folder / "of_the_caller")
    launcher = started(dataclasses.replace(cell, environment=theirs), launched=True)
    training = child_of(launcher)
    os.kill(launcher.pid, number)
    launcher.wait(HANG)
    assert wait_until(lambda: not is_alive(training))
    assert cell.attempts()[0]["reason"].startswith("stopped by SIGTERM")
    assert not (cell.state / "lock").exists()


def test_what_was_left_behind_by_a_dead_head_is_taken_over(cell, started):
    write_head(cell.head, process=dead_process())
    left_behind = started()
    successor = dataclasses.replace(cell, head=write_head(cell.folder / "another_head.json"))
    process = successor.start()
    assert left_behind.wait(HANG) == 1
    assert wait_until(lambda: len(cell.attempts()) == 2)
    os.kill(process.pid, signal.SIGTERM)
    process.wait(HANG)
    first, _ = cell.attempts()
    assert first["reason"].startswith("stopped by SIGTERM")
    assert first["end"] is not None
    text = cell.log.read_text()
    assert "taking over from process" in text
    assert not list(cell.state.glob("lock*"))


def test_what_is_left_of_an_earlier_start_of_the_same_slurm_job_is_taken_over(cell, started):
    """A requeued job: its first process is on a node that SLURM has given up, and lives."""
    in_slurm = dataclasses.replace(cell, environment={"SLURM_JOB_ID": "77"})
    first = started(in_slurm)
    second = in_slurm.start()
    assert first.wait(HANG) == 1
    assert wait_until(lambda: len(cell.attempts()) == 2)
    kill_group(second)


def test_a_process_whose_lock_was_taken_over_while_it_was_suspended_ends_and_writes_nothing(cell, started):
    process = started()
    lock = cell.state / "lock"
    lock.write_text(json.dumps(read_json(lock) | {"host": "elsewhere", "token": "another"}))
    assert process.wait(HANG) == 1
    assert "the lock of this cell was taken over or removed" in cell.log.read_text()
    assert cell.attempts()[0]["reason"] is None
    assert holder_of(cell)["token"] == "another"


def test_the_time_limit_of_the_job_is_left_in_time(cell, started):
    """The job has an hour, of which all but half a minute has gone at once when a checkpoint is there."""
    of_slurm = {"SLURM_JOB_ID": "1", "SLURM_JOB_END_TIME": str(int(time.time()) + 3600)}
    code = f"""
import time
from pathlib import Path
real = time.time
time.time = lambda: real() + (3570 if Path({str(cell.folder)!r}, "late").exists() else 0)
"""
    limited = dataclasses.replace(cell, environment=of_slurm | runs_first(cell.folder, code))
    process = started(limited, cold=True)
    (cell.folder / "late").touch()
    assert process.wait(HANG) == 1
    assert cell.attempts()[0]["reason"].startswith("its job's time limit is near; step ")
    assert not cell.attempts()[0]["is_permanent"]


def test_a_killed_process_costs_no_bit_and_the_attempts_are_counted(resources, tmp_path):
    """The first attempt kills itself when it has kept the second of its checkpoints, one for each step."""
    code = """
import os, signal
rename = os.rename

def and_die(source, target, **options):
    rename(source, target, **options)
    if os.path.basename(target) == "step-00000002":
        os.kill(os.getpid(), signal.SIGKILL)

os.rename = and_die
"""
    whole = TrainableCell(tmp_path / "whole", resources, SHORT, write_head(tmp_path / "never.json", 1e6))
    killed = TrainableCell(tmp_path / "killed", resources, SHORT, write_head(tmp_path / "always.json", 0))
    for each in (whole, killed):
        each.write_run()
    assert whole.train() == 0, whole.log.read_text()
    mortal = dataclasses.replace(killed, environment=runs_first(tmp_path, code))
    assert mortal.train(cold=True) == -signal.SIGKILL, killed.log.read_text()
    assert not killed.results.exists()
    assert killed.train() == 0, killed.log.read_text()
    assert killed.bits() == whole.bits()
    assert killed.record["attempts"] == 2
    assert len(killed.record["continued"]) == 1
    assert [attempt["reason"] for attempt in killed.attempts()] == [str(Reason(Cause.KILLED)), "done"]
    assert sorted(path.name for path in killed.state.iterdir()) == ["attempts.jsonl", "last_good_result"]


def test_a_rerun_that_fails_leaves_the_earlier_result(short):
    assert short.train() == 0
    good = short.state / "last_good_result/all_results.json"
    before = good.read_bytes()
    later = dataclasses.replace(short, head=write_head(short.folder / "later.json"))
    # A second later: a result of the same second counts as this head's.
    head = read_json(later.head) | {"started": "2999-01-01T00:00:00+00:00"}
    later.head.write_text(json.dumps(head))
    short.write_run(learning_rate=1, num_train_epochs=LONG)
    process = later.start()
    assert wait_until(later.has_begun)
    kill_group(process)
    assert good.read_bytes() == before


def test_a_permanent_failure_is_not_tried_again_by_the_same_head_but_by_the_next(short):
    tokens = dataclasses.replace(short, resources=short.folder / "resources")
    make_resources(tokens.resources)
    (tokens.resources / "tokens/train.arrow").write_bytes(b"damaged")
    assert tokens.train() == 1
    (attempt,) = tokens.attempts()
    assert attempt["is_permanent"]
    assert tokens.train() == 1
    assert our_error(tokens.log) == f"gluegrid: {attempt['reason']} (this call of snakemake does not try again)"
    assert len(tokens.attempts()) == 1
    later = dataclasses.replace(tokens, head=write_head(short.folder / "later.json"))
    assert later.train() == 1
    assert len(tokens.attempts()) == 2


def test_a_transient_failure_is_tried_again(short):
    """The node has no GPU."""
    short.write_run(device="cuda")
    for number in (1, 2):
        assert short.train() == 1
        assert len(short.attempts()) == number
    assert "CUDA finds none" in short.attempts()[-1]["reason"]
    assert not short.attempts()[-1]["is_permanent"]


def test_a_loss_that_is_no_number_is_permanent(short):
    short.write_run(learning_rate=1e20, num_train_epochs=1)
    assert short.train() == 1
    (attempt,) = short.attempts()
    assert "the loss is" in attempt["reason"]
    assert "at step" in attempt["reason"]
    assert attempt["is_permanent"]


def test_a_cancelled_cell_is_not_tried_by_a_head_that_had_begun(short):
    attempts.cancel(short.state)
    assert short.train() == 1
    assert our_error(short.log).startswith("gluegrid: cancelled by make cancel")
    assert short.attempts() == []


def test_a_result_whose_publishing_was_cut_off_is_published_and_not_trained_again(short):
    assert short.train() == 0
    before = short.bits()
    *_, last = short.attempts()
    (short.state / "attempts.jsonl").write_text(json.dumps(last | {"reason": None, "end": None}) + "\n")
    short.results.unlink()
    later = dataclasses.replace(short, head=write_head(short.folder / "later.json"))
    head = read_json(later.head) | {"started": "2999-01-01T00:00:00+00:00"}
    later.head.write_text(json.dumps(head))
    assert later.train() == 0
    assert short.bits() == before
    assert any("using its result" in line for line in lines_of(short.log))
    (attempt,) = short.attempts()
    assert attempt["reason"] == "done"
    short.results.unlink()
    assert later.train() == 0
    assert len(short.attempts()) == 2


@pytest.mark.parametrize("moment", ["2000-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00"])
def test_whether_a_result_is_of_this_call_is_asked_of_no_two_hosts_clocks(tmp_path, monkeypatch, moment):
    """A node's clock is behind that of the head, or ahead of it."""
    files = CellFiles(tmp_path / "results/e/runs/tiny/pair/base/seed-42/run.json")
    node = {**job(), "host": "node7"}

    def finish(written: float | None = None) -> None:
        record = {"finished": moment, "predictions_sha256": {}, "job": node, "run_sha256": "hash"}
        write_json(files.last_good / "run_record.json", record)
        write_json(files.last_good / "all_results.json", {})
        if written is not None:  # otherwise what the disk's clock says, which lags behind this process's
            os.utime(files.last_good / "run_record.json", (written, written))

    def attempted(head: Path, reason: str, **process) -> None:
        attempt = {"start": moment, "end": None, "reason": reason, "head": str(head)} | node | process
        (files.state / "attempts.jsonl").write_text(json.dumps(attempt) + "\n")

    earlier, mine = write_head(tmp_path / "earlier.json"), write_head(tmp_path / "mine.json")
    monkeypatch.setenv("GLUEGRID_HEAD", str(mine))
    finish(time.time() - 600)
    cases = [
        ((earlier, str(Reason(Cause.DONE))), {}, False),  # a rerun is wanted
        ((mine, str(Reason(Cause.DONE))), {}, True),
        ((earlier, str(Reason(Cause.KILLED))), {}, True),  # it could not publish
        ((earlier, str(Reason(Cause.KILLED))), {"pid": 1}, False),  # of another attempt
    ]
    for attempt, process, expected in cases:
        attempted(*attempt, **process)
        assert has_result_of_this_call(files, {"run_sha256": "hash"}) == expected
    attempted(earlier, str(Reason(Cause.DONE)))
    finish()  # by a job that an earlier head has left
    assert has_result_of_this_call(files, {"run_sha256": "hash"})


def test_the_record_of_a_cell_that_was_never_interrupted_says_so_and_its_call_knows_its_result(short, monkeypatch):
    assert short.train() == 0
    assert short.record["attempts"] == 1
    assert short.record["continued"] == []
    assert short.record["micro_batch_rows"] == {"train": None, "eval": None}
    assert short.record["run_sha256"] == sha256(short.run)
    assert short.attempts()[0]["head"] == str(short.head)
    assert short.attempts()[0]["host"] == this_process()["host"]
    manifests = [short.resources / path / "manifest.json" for path in MANIFESTS.values()]
    made = (short.run, *manifests, short.results, short.run.with_name("run_record.json"))
    monkeypatch.setenv("GLUEGRID_HEAD", str(short.head))
    assert has_published(*made)
    short.results.unlink()
    assert not has_published(*made)
    assert short.train() == 0
    assert has_published(*made)
    later = write_head(short.folder / "later.json")
    later.write_text(json.dumps(read_json(later) | {"started": "2999-01-01T00:00:00+00:00"}))
    monkeypatch.setenv("GLUEGRID_HEAD", str(later))
    assert not has_published(*made)


def test_where_snakemake_runs_the_jobs_itself_a_latecomer_waits(cell, started):
    first = started()
    waiting = dataclasses.replace(cell, environment={"GLUEGRID_EXECUTOR": "local"}).start()
    assert wait_until(lambda: "this cell is locked by process" in cell.log.read_text())
    assert waiting.poll() is None
    attempts.cancel(cell.state)
    kill_group(first)
    assert waiting.wait(HANG) == 1
    assert our_error(cell.log).startswith("gluegrid: cancelled by make cancel")
