"""What a controller's job does: with which environment snakemake runs, and what a signal does. SLURM is played."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fake_slurm import NAME, FakeSlurm, slurm_in_a_folder, squeue_line
from late_signals import at_exit_of_python
from waiting import HANG, wait_until

from gluegrid.common.files import read_json, write_json
from gluegrid.execution import controller
from gluegrid.execution.controller import controller_of, environment_to_take_along, note_submission
from gluegrid.execution.invocation import SUBMITTED

SCRIPTS = Path(controller.__file__).resolve().parents[2]
EXPERIMENT = Path("results/mine")
PLAN = EXPERIMENT / "heads/plan.json"
END = EXPERIMENT / "controller/end.json"

# Instead of snakemake: notes each start with its environment, and how it is asked to end. SIGKILL, it cannot note.
SNAKEMAKE = """
import json, os, signal, sys, time
from pathlib import Path
def note(line):
    with open("notes", "a") as stream:
        stream.write(json.dumps(line) + "\\n")
def leave(number, frame):
    note(number)
    sys.exit(1)
signal.signal(signal.SIGINT, leave)
signal.signal(signal.SIGTERM, leave)
note(dict(os.environ))
if Path("code").exists():
    sys.exit(int(Path("code").read_text()))
time.sleep(600)
"""
RUN = """
import sys
from pathlib import Path
sys.path.insert(0, {scripts!r})
from gluegrid.execution.controller import run
sys.exit(run(Path({plan!r}), [sys.executable, "snakemake.py"], ["--partition=cpu"]))
"""
OF_THE_JOB = {
    "SLURM_JOB_ID": "12",
    "SLURMD_NODENAME": "node7",
    "SLURM_MEM_PER_NODE": "4000",
    "SLURM_TMPDIR": "/scratch/12",
    "TMPDIR": "/scratch/12",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> FakeSlurm:
    return slurm_in_a_folder(tmp_path, monkeypatch)


@pytest.fixture
def job(slurm, monkeypatch):
    """What starts the job of a controller that was submitted with the environment of this process."""
    Path("snakemake.py").write_text(SNAKEMAKE, encoding="utf-8")
    write_json(PLAN, {})
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setenv("TMPDIR", "/tmp")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    environment = os.environ | environment_to_take_along() | OF_THE_JOB
    code = RUN.format(scripts=str(SCRIPTS), plan=str(PLAN))
    started = []

    def start(first: str = "", **more: str) -> subprocess.Popen:
        command = [sys.executable, "-c", first + code]
        started.append(subprocess.Popen(command, env=environment | more, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def notes() -> list:
    path = Path("notes")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("code", [0, 1])
def test_the_job_ends_as_snakemake_does_whose_environment_is_that_of_the_submission(job, slurm, code):
    Path("code").write_text(str(code))
    write_json(END, {"exit_code": 7, "reason": "of an earlier start"})
    process = job(SLURM_RESTART_COUNT="2")
    said = process.communicate(timeout=HANG)[1]
    assert process.returncode == code
    assert "controller: SLURM job 12 on node7, after 2 requeues\n" in said
    assert said.endswith(f"controller: ends with exit code {code}\n")
    end = read_json(END)
    assert (end["slurm_job_id"], end["exit_code"], end["reason"]) == ("12", code, "")
    (environment,) = notes()
    assert environment.pop(SUBMITTED) == str(PLAN)
    assert environment["TMPDIR"] == "/tmp"
    assert environment["OMP_NUM_THREADS"] == "8"
    assert not {name for name in environment if name.startswith("SLURM")} - {*os.environ}
    assert environment.keys() <= os.environ.keys() | {"LC_CTYPE"}


def test_before_its_time_limit_it_is_requeued_and_snakemake_has_no_time_to_cancel_anything(job, slurm):
    process = job()
    assert wait_until(notes)
    process.send_signal(signal.SIGUSR1)
    assert wait_until(lambda: slurm.calls("scontrol") == [["requeue", "12"]])
    # SLURM ends it then.
    process.terminate()
    assert process.wait(HANG) == -signal.SIGTERM
    assert len(notes()) == 1
    assert not slurm.calls("scancel")
    assert not END.exists()


def test_a_signal_before_snakemake_is_started_requeues_it_too(job, slurm):
    (slurm.folder / "sbatch").unlink()
    (slurm.folder / "sbatch").write_text("#!/bin/sh\n# A stub of SLURM's sbatch.\nkill -USR1 $PPID\n", encoding="utf-8")
    (slurm.folder / "sbatch").chmod(0o755)
    process = job()
    assert wait_until(lambda: slurm.calls("scontrol") == [["requeue", "12"]] or process.poll() is not None)
    assert process.poll() is None
    assert not END.exists()


def test_as_long_as_it_cannot_be_requeued_that_is_said_and_tried_again(job, slurm, monkeypatch):
    slurm.answers("scontrol", (1, "", "scontrol: error: Requested operation is presently disabled"), (0, "", ""))
    process = job()
    assert wait_until(notes)
    process.send_signal(signal.SIGUSR1)
    assert wait_until(END.exists)
    end = read_json(END)
    assert "exit_code" not in end
    assert end["reason"].startswith("not requeued before its time limit: scontrol: error: Requested operation is")
    assert wait_until(lambda: len(slurm.calls("scontrol")) == 2)


def test_slurms_own_end_of_the_job_leaves_the_cells_in_the_queue(job, slurm):
    write_json(END, {"reason": "of an earlier start"})
    process = job()
    assert wait_until(notes)
    process.send_signal(signal.SIGTERM)
    assert process.wait(HANG) == 128 + signal.SIGTERM
    assert len(notes()) == 1
    assert not slurm.calls("scancel")
    assert not END.exists()


def test_make_cancel_lets_snakemake_end_and_cancels_what_is_left(job, slurm):
    state = EXPERIMENT / "state/m/t/base/seed-1"
    write_json(state / "slurm_job.json", {"slurm_job_id": "19", "name": NAME, "behind": {"17": NAME, "16": NAME}})
    lines = [squeue_line("19", "PENDING"), squeue_line("17", "RUNNING"), squeue_line("16", "RUNNING", name="another")]
    slurm.answers("squeue", (0, "".join(lines), ""))
    process = job()
    assert wait_until(notes)
    process.send_signal(signal.SIGINT)
    assert wait_until(lambda: notes()[1:] == [signal.SIGINT])
    process.send_signal(signal.SIGUSR1)  # its time limit, too
    assert process.wait(HANG) == 1
    assert notes()[1:] == [signal.SIGINT]
    assert slurm.calls("scancel") == [["17", "19"]]
    assert not slurm.calls("scontrol")
    assert read_json(END)["reason"] == "cancelled by make cancel"


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGINT])
def test_a_signal_while_the_ended_job_exits_does_not_change_its_exit_code(job, slurm, number):
    Path("code").write_text("0")
    process = job(at_exit_of_python(number))
    assert process.wait(HANG) == 0
    assert read_json(END)["exit_code"] == 0


def test_what_kills_snakemake_alone_does_not_end_the_job_unless_again_and_again(job, slurm):
    process = job()
    for start in range(1, 4):
        assert wait_until(lambda start=start: len(notes()) == start)
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGKILL)
    said = process.communicate(timeout=HANG)[1]
    assert process.returncode == 128 + signal.SIGKILL
    assert said.count("snakemake was killed by SIGKILL; starting it again\n") == 2
    assert read_json(END)["reason"] == "snakemake was killed 3 times"


@pytest.mark.parametrize(
    "refused",
    ["sbatch: error: Batch job submission failed: Access/permission denied", None],
    ids=["not from here", "no sbatch"],
)
def test_where_nodes_may_not_submit_jobs_that_is_said_in_one_line_before_anything(job, slurm, refused):
    if refused is None:
        (slurm.folder / "sbatch").unlink()
    else:
        slurm.answers("sbatch", (1, "", f"{refused}\n"))
    # Of all folders of PATH, only this one may have one.
    process = job() if refused else job(**_without_other_sbatch(slurm))
    said = process.communicate(timeout=HANG)[1]
    assert process.returncode == 1
    assert notes() == []
    reason = read_json(END)["reason"]
    begins = f"this node may not submit jobs ({refused})" if refused else "this node has no sbatch program"
    assert reason == f"{begins}; call snakemake on the login node instead (see The controller in docs/cluster.md)"
    assert said.splitlines()[-1].endswith(f"controller: ends with exit code 1: {reason}")
    assert [call[:2] for call in slurm.calls("sbatch")] == [["--test-only", "--partition=cpu"]] * bool(refused)


def _without_other_sbatch(slurm: FakeSlurm) -> dict[str, str]:
    before = os.environ["PATH"]
    os.environ["PATH"] = str(slurm.folder)
    try:
        return environment_to_take_along()
    finally:
        os.environ["PATH"] = before


def test_what_slurm_refuses_for_a_while_is_left_to_the_cells_submissions(job, slurm):
    Path("code").write_text("0")
    slurm.answers("sbatch", (1, "", "sbatch: error: Unable to contact slurm controller (connect failure)\n"))
    assert job().wait(HANG) == 0


def test_a_controller_is_known_by_what_was_noted_of_it(slurm):
    assert controller_of(EXPERIMENT) is None
    note_submission(EXPERIMENT, "12", "gluegrid-mine-1", PLAN)
    noted = controller_of(EXPERIMENT)
    assert (noted.job.number, noted.plan, noted.may_be_in_queue) == ("12", str(PLAN), True)
    write_json(END, {"slurm_job_id": "12", "exit_code": 0})
    assert not controller_of(EXPERIMENT).may_be_in_queue
    (EXPERIMENT / "controller/job.json").write_text("{", encoding="utf-8")
    assert controller_of(EXPERIMENT) is None
