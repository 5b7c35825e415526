"""`make submit`: what sbatch is asked for, and when nothing is submitted. SLURM's programs and snakemake are played."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import builders
import pytest
from fake_slurm import FakeSlurm, slurm_in_a_folder, squeue_line
from waiting import HANG

from gluegrid.common.errors import GluegridError
from gluegrid.common.files import read_json, write_json
from gluegrid.operations.site_profile import slurm_profile
from gluegrid.workflow import submit as submitting
from gluegrid.workflow.submit import DEFAULTS, RULE, options_of, submit

PROFILE = "executor: slurm\n"
FILE = Path("mine.yaml")


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Iterator[FakeSlurm]:
    slurm = slurm_in_a_folder(tmp_path, monkeypatch)
    slurm.answers("sbatch", (0, "Welcome!\n12\n", ""))
    with mock.patch.dict(os.environ):  # submitting changes it
        yield slurm


@pytest.fixture
def calls(monkeypatch, slurm) -> list[list[str]]:
    """The calls of snakemake, which all succeed."""
    calls = []
    monkeypatch.setattr(submitting, "_check", lambda command: calls.append([*command[3:], "--dry-run"]))
    monkeypatch.setattr(submitting, "_stage", lambda command: calls.append([*command[3:], "stage"]))
    return calls


def profile(text: str = PROFILE):
    Path("profiles/slurm").mkdir(parents=True, exist_ok=True)
    Path("profiles/slurm/config.yaml").write_text(text, encoding="utf-8")
    return slurm_profile(None)


def options(text: str) -> list[str]:
    """Return sbatch's options by what stands in a profile for SLURM."""
    of_site = profile(PROFILE + text)
    return options_of(of_site.resources_of(RULE, DEFAULTS), of_site)


USUAL = ["--cpus-per-task=1", "--mem=4000", "--time=1440", "--signal=B:USR1@300"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", USUAL),
        # What holds for all jobs holds for it too, but for what it says itself.
        ("default-resources: [slurm_account=mine, slurm_partition=gpu, mem_mb=64000, runtime=60]",
         ["--account=mine", "--partition=gpu", *USUAL]),
        ("default-resources: {slurm_account: mine, qos: long}", ["--account=mine", "--qos=long", *USUAL]),
        ("slurm-qos: long", ["--qos=long", *USUAL]),
        ("default-resources: [slurm_partition=gpu]\nset-resources: {controller: {slurm_partition: cpu, runtime: 10h}}",
         ["--partition=cpu", *USUAL[:2], "--time=600", USUAL[3]]),
        ("set-resources: ['controller:slurm_partition=cpu', 'train:slurm_partition=gpu']", ["--partition=cpu", *USUAL]),
        ("set-resources: {train: {slurm_partition: gpu, gpu_model: a100}}", USUAL),
        # Values are Python, as in any profile; a quoted word is that word.
        ("set-resources: {controller: {slurm_partition: \"'cpu,low'\", runtime: 2 * 30, mem_mb: 0}}",
         ["--partition=cpu,low", "--cpus-per-task=1", "--time=60", USUAL[3]]),
        ("set-resources: {controller: {mem_mb_per_cpu: 2000, cpus_per_task: 2}}",
         ["--cpus-per-task=2", "--mem-per-cpu=2000", *USUAL[2:]]),
        # In a short time, it is warned when half is over; and what a site asks for beside stands before that.
        ("set-resources: {controller: {runtime: 2, slurm_extra: \"'--nice=100 --signal=USR1@120'\"}}",
         [*USUAL[:2], "--time=2", "--nice=100", "--signal=USR1@120", "--signal=B:USR1@60"]),
        # As it is written for the other rules, of which it has no part.
        ("default-resources: [gpu_model=a100, 'gres=gpu']", USUAL),
    ],
)  # fmt: skip
def test_what_the_profile_says_is_what_sbatch_is_asked_for(slurm, text, expected):
    assert options(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("set-resources: {controller: {runtime: 1-00:00:00}}", "1-00:00:00 is no duration; write minutes, or 10h, 2d"),
        ("default-resources: [\"slurm_partition='gpu' if wildcards.task == 'rte' else 'low'\"]",
         "cannot be evaluated for controller"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_in_it_is_said_with_file_and_key(slurm, text, said):
    with pytest.raises(GluegridError, match=r"^profiles/slurm/config\.yaml: ") as error:
        options(text)
    assert said in str(error.value)


@pytest.mark.parametrize(("text", "name"), [("executor: local", None), (PROFILE, "nothing")])
def test_another_profile_than_one_for_slurm_is_refused(slurm, text, name):
    Path("profiles/slurm").mkdir(parents=True)
    Path("profiles/slurm/config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(GluegridError, match=r"no `executor: slurm`|PROFILE=nothing: no such profile"):
        slurm_profile(name)


def test_a_controller_is_submitted_with_all_frozen_that_it_needs(slurm, calls, monkeypatch):
    experiment = builders.experiment(Path())
    of_site = profile(PROFILE + "slurm-partition-config: partitions.yaml")
    Path("profiles/slurm/partitions.yaml").write_text("partitions: {}", encoding="utf-8")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1")
    lines = submit(experiment, FILE, of_site)
    assert lines[0] == f"Submitted: the controller of {experiment.name} is SLURM job 12."
    call = ["snakemake", "--profile", "profiles/slurm/config.yaml", "--configfile", "mine.yaml"]
    assert calls == [[*call[1:], "--dry-run"], [*call[1:], "stage"]]
    (sbatch,) = slurm.calls("sbatch")
    assert sbatch[:5] == ["--parsable", *USUAL]
    assert {"--requeue", "--open-mode=append", f"--output=results/{experiment.name}/logs/controller.log"} <= {*sbatch}
    folder = Path(experiment.paths.root)
    noted = read_json(folder / "controller/job.json")
    assert noted["slurm_job_id"] == "12"
    plan = read_json(Path(noted["plan"]))
    assert plan["config"] == experiment.config
    assert plan["process"]["process_started"] is None
    assert {path.name for path in (folder / "controller/profile").iterdir()} == {"config.yaml", "partitions.yaml"}
    command = sbatch[-1]
    assert command.startswith(f"--wrap=exec {sys.executable} ")
    (code,) = (folder / "heads").glob("code-*")
    assert f" {code.resolve()}/scripts/controller.py --plan={noted['plan']} " in command
    assert (code / "profiles/default/config.yaml").exists()


def test_in_another_cluster_it_is_looked_for_and_known_there(slurm, calls):
    experiment = builders.experiment(Path())
    slurm.answers("sbatch", (0, "12;beta\n", ""))
    submit(experiment, FILE, profile(PROFILE + "set-resources: {controller: {clusters: beta}}"))
    assert "--clusters=beta" in slurm.calls("sbatch")[0]
    assert slurm.calls("squeue")[0][0] == "--clusters=beta"
    assert read_json(Path(experiment.paths.root) / "controller/job.json")["slurm_job_id"] == "12;beta"


def test_nothing_is_staged_here_where_nodes_have_a_network(slurm, calls):
    experiment = builders.experiment(Path())
    submit(experiment, FILE, profile(PROFILE + "set-resources: {controller: {network: 1}}"))
    assert [call[-1] for call in calls] == ["--dry-run"]


def test_what_is_staged_is_not_staged_again(slurm, calls):
    experiment = builders.experiment(Path())
    for resource in submitting.resources(experiment):
        write_json(resource.manifest, {})
    submit(experiment, FILE, profile())
    assert [call[-1] for call in calls] == ["--dry-run"]


@pytest.mark.parametrize(("state", "said"), [("RUNNING", "runs"), ("PENDING", "waits in SLURM's queue")])
def test_beside_a_controller_in_the_queue_no_other_is_submitted_also_where_nothing_was_noted(slurm, calls, state, said):
    experiment = builders.experiment(Path())
    name = submitting._name(Path(experiment.paths.root))
    slurm.answers("squeue", (0, squeue_line("11", state, name=name), ""))
    with pytest.raises(GluegridError, match=f"its controller, SLURM job 11, {said} already; what it says: results/"):
        submit(experiment, FILE, profile())
    assert (calls, slurm.calls("sbatch")) == ([], [])
    assert slurm.calls("squeue")[0][-1] == f"--name={name}"


def test_of_two_at_once_one_is_refused(slurm, calls, monkeypatch):
    experiment = builders.experiment(Path())
    of_site = profile()
    begun, refused = threading.Event(), threading.Event()
    monkeypatch.setattr(submitting, "_check", lambda command: (begun.set(), refused.wait(HANG)))
    first = threading.Thread(target=submit, args=(experiment, FILE, of_site))
    first.start()
    assert begun.wait(HANG)
    with pytest.raises(GluegridError, match="another make submit of this experiment is running: process"):
        submit(experiment, FILE, of_site)
    refused.set()
    first.join(HANG)
    assert len(slurm.calls("sbatch")) == 1


@pytest.mark.parametrize(
    ("program", "answer", "said"),
    [
        (
            "sbatch",
            (1, "", "sbatch: error: Batch job submission failed: Invalid qos"),
            "SLURM rejected the controller: sbatch",
        ),
        ("sbatch", (0, "done", ""), "sbatch accepted the controller, but returned no job number"),
        (
            "squeue",
            (1, "", "squeue: error: Unable to contact slurm controller"),
            "nothing was submitted: SLURM does not answer (squeue: error: Unable to contact",
        ),
    ],
)
def test_what_slurm_refuses_is_said_and_nothing_noted(slurm, calls, program, answer, said):
    experiment = builders.experiment(Path())
    slurm.answers(program, answer)
    with pytest.raises(GluegridError, match=re.escape(said)):
        submit(experiment, FILE, profile())
    assert not (Path(experiment.paths.root) / "controller/job.json").exists()


def test_a_wrong_file_is_one_line_before_anything_is_asked(slurm, project):
    FILE.write_text("experiment: mine\nmodls: {}\n", encoding="utf-8")
    command = [sys.executable, str(project / "scripts/commands.py"), "submit", "--configfile=mine.yaml"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "mine.yaml:2: modls: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("results").exists()
    assert not slurm.calls("squeue")
