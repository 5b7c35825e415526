"""`make cancel`: which cell is meant, what is ended, and what the tables say. SLURM's programs are played."""

import subprocess
import sys
from pathlib import Path

import builders
import pytest
from fake_slurm import NAME, FakeSlurm, slurm_in_a_folder, squeue_line
from waiting import wait_until

from gluegrid.common.errors import GluegridError
from gluegrid.common.files import write_json
from gluegrid.common.paths import state_folder
from gluegrid.common.provenance import job, this_process
from gluegrid.execution import attempts, invocation
from gluegrid.execution.controller import note_submission
from gluegrid.execution.locks import lock
from gluegrid.execution.reasons import Cause, Reason
from gluegrid.execution.submissions import note_job
from gluegrid.operations.cancel import cancel_cell, cancel_experiment
from gluegrid.results.outcomes import read_outcomes


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> FakeSlurm:
    return slurm_in_a_folder(tmp_path, monkeypatch)


@pytest.fixture
def experiment(tmp_path, slurm):
    """An experiment that a head of this process has planned."""
    experiment = builders.experiment(tmp_path)
    invocation.freeze(experiment.config, Path(experiment.paths.heads))
    return experiment


@pytest.fixture
def cell(experiment):
    return next(iter(experiment.cells.values()))


@pytest.fixture
def state(experiment, cell) -> Path:
    return state_folder(Path(experiment.paths.run.format(**cell.wildcards)))


def test_a_job_in_the_queue_is_cancelled_and_its_cell_not_tried_again(slurm, experiment, cell, state):
    write_json(state / "slurm_job.json", {"slurm_job_id": "17"})
    slurm.answers("squeue", (0, squeue_line("17", "PENDING"), ""))
    said = cancel_cell(cell.name, None)
    assert said == f"cancelled {cell.name} of {experiment.name}: SLURM job 17 was cancelled"
    assert slurm.calls("scancel") == [["17"]]
    assert attempts.reason_to_stop(state) == Reason(Cause.CANCELLED)


def test_a_job_in_another_clusters_queue_is_cancelled_there(slurm, cell, state):
    write_json(state / "slurm_job.json", {"slurm_job_id": "17;blue"})
    slurm.answers("squeue", (0, f"CLUSTER: blue\nJOBID|STATE\n{squeue_line('17', 'RUNNING')}", ""))
    assert cancel_cell(cell.name, None).endswith("SLURM job 17;blue was cancelled")
    assert slurm.calls("scancel") == [["17", "--clusters=blue"]]
    assert "--clusters=blue" in slurm.calls("squeue")[0] and "--jobs=17" in slurm.calls("squeue")[0]


def test_a_job_that_has_ended_is_left_alone(slurm, cell, state):
    write_json(state / "slurm_job.json", {"slurm_job_id": "17"})
    slurm.answers("squeue", (0, squeue_line("17", "COMPLETED"), ""))
    assert cancel_cell(cell.name, None).endswith("it was not being trained; a running snakemake will not start it")
    assert not slurm.calls("scancel")


def test_another_job_that_has_its_number_now_is_left_alone(slurm, cell, state):
    write_json(state / "slurm_job.json", {"slurm_job_id": "17", "name": NAME, "comment": "x"})
    slurm.answers("squeue", (0, squeue_line("17", "RUNNING", "somebodys"), ""))
    assert cancel_cell(cell.name, None).endswith("it was not being trained; a running snakemake will not start it")
    assert not slurm.calls("scancel")


def test_a_running_controller_is_asked_to_end_with_its_cells(slurm, experiment):
    submit_controller(experiment)
    slurm.answers("squeue", (0, squeue_line("12", "RUNNING", "gluegrid-1"), ""))
    said = cancel_experiment(experiment.name)
    assert said.startswith(
        f"asked the controller of {experiment.name}, SLURM job 12, to stop with all its cells; log: "
    )
    assert slurm.calls("scancel") == [["--signal=INT", "--batch", "12"]]


@pytest.mark.parametrize("controller", ["gluegrid-1", "another"], ids=["it waits", "it is gone"])
def test_of_a_controller_that_does_not_run_all_jobs_are_cancelled_also_those_of_earlier_starts(
    slurm, experiment, state, controller
):
    submit_controller(experiment)
    for number in ("17", "18", "19"):
        note_job(state, number, NAME, None)
    lines = [squeue_line(number, "PENDING") for number in ("17", "19")]
    slurm.answers("squeue", (0, "".join([squeue_line("12", "PENDING", controller), *lines]), ""))
    said = cancel_experiment(experiment.name)
    is_there = controller == "gluegrid-1"
    assert said == f"{experiment.name}: cancelled " + "its controller, SLURM job 12 and " * is_there + "2 jobs of cells"
    assert slurm.calls("scancel") == [*[["12"]] * is_there, ["17", "19"]]


def test_an_experiment_without_a_controller_has_none_to_end(slurm, experiment, project):
    command = [sys.executable, str(project / "scripts/commands.py"), "cancel", f"--experiment={experiment.name}"]
    done = subprocess.run(command, capture_output=True, text=True)
    said = "was not started with make submit; stop its snakemake with Ctrl-C, or cancel one cell with make cancel"
    said += " CELL=...\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"gluegrid: {experiment.name}: {said}")


def submit_controller(experiment) -> None:
    note_submission(Path(experiment.paths.root), "12", "gluegrid-1", Path(experiment.paths.heads) / "plan.json")


def test_a_training_in_somebodys_allocation_is_asked_to_leave_and_the_allocation_left_alone(slurm, cell, state):
    holder = {**job(), **this_process(), "slurm_job_id": "17", "host": "node7", "since": "now", "token": "t"}
    write_json(state / "lock", holder | {"head": None})
    slurm.answers("squeue", (0, squeue_line("17", "RUNNING", "interactive"), ""))
    assert "SLURM job 17, since now, was asked to save its work" in cancel_cell(cell.name, None)
    assert (state / "lock.leave.t").exists()
    assert not slurm.calls("scancel")


@pytest.mark.parametrize("number", ["17", "18"])
def test_a_cell_that_a_pack_trains_is_asked_to_leave_and_the_pack_goes_on(slurm, cell, state, number):
    """Also where another call's pack, which is the last that was submitted, waits behind it."""
    submitted = {"slurm_job_id": number, "name": NAME, "comment": "rule_pack_1_of_1_m_2_cells", "is_pack": True}
    write_json(state / "slurm_job.json", submitted | {"behind": {"17": NAME} if number == "18" else {}})
    packs = squeue_line("17", "RUNNING", comment="rule_pack_1_of_2_m_3_cells") + squeue_line("18", "PENDING")
    slurm.answers("squeue", (0, packs, ""))
    assert f"SLURM job {number}, a pack, continues without it" in cancel_cell(cell.name, None)
    holder = {**job(), **this_process(), "slurm_job_id": "17", "pack": "x/pack_1", "host": "node7"}
    write_json(state / "lock", holder | {"since": "now", "token": "t", "head": None})
    assert "SLURM job 17, since now, was asked to save its work" in cancel_cell(cell.name, None)
    assert (state / "lock.leave.t").exists()
    assert not slurm.calls("scancel")


def test_a_job_of_its_own_that_waits_behind_a_pack_is_cancelled_too(slurm, cell, state):
    submitted = {"slurm_job_id": "18", "name": NAME, "comment": "x", "behind": {"17": NAME}}
    write_json(state / "slurm_job.json", submitted)
    slurm.answers("squeue", (0, squeue_line("17", "RUNNING") + squeue_line("18", "PENDING"), ""))
    holder = {**job(), **this_process(), "slurm_job_id": "17", "pack": "x/pack_1", "host": "node7"}
    write_json(state / "lock", holder | {"since": "now", "token": "t", "head": None})
    said = cancel_cell(cell.name, None)
    assert "SLURM job 18 was cancelled; " in said and said.endswith("was asked to save its work and stop")
    assert slurm.calls("scancel") == [["18"]]


def test_a_slurm_that_does_not_answer_is_one_line_with_what_to_do(slurm, cell, state, project):
    write_json(state / "slurm_job.json", {"slurm_job_id": "17"})
    slurm.answers(
        "squeue", (1, "Be\nwelcome", "Be\nwelcome\nslurm_load_jobs error: Unable to contact slurm controller")
    )
    command = [sys.executable, str(project / "scripts/commands.py"), "cancel", cell.name]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert (
        "does not answer (slurm_load_jobs error: Unable to contact slurm controller); run make cancel again"
        in done.stderr
    )
    assert attempts.reason_to_stop(state) == Reason(Cause.CANCELLED)


def test_a_process_outside_slurm_is_asked_to_leave_on_whatever_host(slurm, cell, state):
    asked = []
    with lock(state / "lock", [].append, on_asked_to_leave=lambda: asked.append(True)):
        assert cancel_cell(cell.name, None).endswith("was asked to save its work and stop")
        assert wait_until(lambda: bool(asked))
    mine = {**job(), **this_process(), "slurm_job_id": None, "since": "now", "token": "t", "head": None}
    write_json(state / "lock", mine | {"process_started": "1"})
    assert "it was not being trained" in cancel_cell(cell.name, None)
    write_json(state / "lock", mine | {"host": "elsewhere"})
    assert " on elsewhere, since now, was asked to save its work and stop" in cancel_cell(cell.name, None)
    assert (state / "lock.leave.t").exists()


def test_a_cell_that_is_not_there_is_one_line_with_the_nearest(slurm, experiment, cell):
    wrong = cell.name.replace("seed-", "sed-")
    with pytest.raises(GluegridError, match=f"no such cell below results/.*; the nearest is {cell.name}$") as error:
        cancel_cell(wrong, None)
    assert "\n" not in str(error.value)
    with pytest.raises(GluegridError, match=r"results/other is not an experiment; there are: \w+"):
        cancel_cell(cell.name, "other")


def test_a_cell_of_two_experiments_needs_its_experiments_name(slurm, experiment, cell):
    invocation.freeze(experiment.config | {"experiment": "other"}, Path("results/other/heads"))
    with pytest.raises(GluegridError, match="name one: EXPERIMENT="):
        cancel_cell(cell.name, None)
    assert " of other: " in cancel_cell(cell.name, "other")


def test_the_tables_say_that_a_cell_was_cancelled_until_it_is_tried_again(slurm, experiment, cell, state):
    cancel_cell(cell.name, None)
    found = read_outcomes(experiment)[0]
    assert (found.cell, found.reason, found.has_failed) == (cell, "cancelled by make cancel", True)
    write_json(state / "cancelled.json", {"cancelled": "2026-01-01T00:00:00+00:00"})
    attempts.start(state, "hash")
    attempts.end(state, Reason(Cause.FAILED, "loss is NaN"))
    assert read_outcomes(experiment)[0].reason == "loss is NaN"


@pytest.mark.parametrize("moment", ["2000-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00"])
def test_a_cancellation_is_of_the_attempts_and_calls_before_it_whatever_the_clocks_say(
    slurm, experiment, cell, state, monkeypatch, moment
):
    invocation.freeze(experiment.config, Path(experiment.paths.heads), started=moment)  # by a login node's clock
    with monkeypatch.context() as node:
        node.setattr(attempts, "now", lambda: moment)
        attempts.start(state, "hash")
    cancel_cell(cell.name, None)
    attempts.end(state, Reason(Cause.SIGTERM))
    assert attempts.reason_to_stop(state) == Reason(Cause.CANCELLED)
    assert read_outcomes(experiment)[0].why == Reason(Cause.CANCELLED)
    invocation.freeze(experiment.config, Path(experiment.paths.heads), started=moment)
    assert attempts.reason_to_stop(state) is None
    attempts.start(state, "hash")
    attempts.end(state, Reason(Cause.FAILED, "loss is NaN"))
    assert read_outcomes(experiment)[0].reason == "loss is NaN"


def test_without_a_cell_it_says_how_one_is_named(slurm, experiment, project):
    done = subprocess.run(
        [sys.executable, str(project / "scripts/commands.py"), "cancel", ""], capture_output=True, text=True
    )
    said = "gluegrid: name a cell as below results/*/runs: make cancel CELL=tiny/number/base/seed-42;"
    said += " or an experiment started with make submit: make cancel EXPERIMENT=...\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


def test_the_script_says_what_is_wrong_in_one_line(slurm, experiment, project):
    command = [sys.executable, str(project / "scripts/commands.py"), "cancel", "no/such/base/seed-1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("gluegrid: CELL=no/such/base/seed-1: no such cell")
