"""`make submit` on a real SLURM: however a controller is lost, it ends with one table, and no cell is trained twice."""

import contextlib
import subprocess
import sys

import pytest
import yaml
from clones import Clone
from cluster import Cluster
from slurm_grid import (
    attempts_of,
    folder_of_cell,
    in_queue,
    is_running,
    jobs_of,
    pause_all_at_checkpoints,
    reasons_of,
    table_of,
    undrain,
    wait,
)

from gluegrid.common.files import read_json

pytestmark = pytest.mark.cluster

TASKS = ("wnli", "rte")
LOG = "results/left/logs/controller.log"
HOOKS = "scripts/gluegrid/workflow/hooks.py"


def write_profile(clone: Clone, **controller: object) -> None:
    """Write profiles/quick: its controllers are on other nodes than its cells, and look at the queue more often."""
    content = yaml.safe_load((clone.root / "profiles/slurm/config.yaml").read_text(encoding="utf-8"))
    content |= {"slurm-init-seconds-before-status-checks": 2, "seconds-between-status-checks": 3}
    content["set-resources"] = {"controller": {"constraint": "a100", **controller}, "train": {"constraint": "v100"}}
    path = clone.root / "profiles/quick/config.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


def make(clone: Clone, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Call make, as a user does."""
    command = ["make", "--no-print-directory", "--old-file=.venv/installed", *arguments]
    return subprocess.run(command, cwd=clone.root, env=clone.full_environment(), capture_output=True, text=True)


def submit(clone: Clone) -> subprocess.CompletedProcess[str]:
    return make(clone, "submit", "CONFIG=mine.yaml", "PROFILE=profiles/quick")


def submitted(clone: Clone) -> str:
    """Submit the experiment; return the number of its controller's job."""
    done = submit(clone)
    assert done.returncode == 0, done.stderr
    number = read_json(clone.root / "results/left/controller/job.json")["slurm_job_id"]
    assert f"Submitted: the controller of left is SLURM job {number}.\n" in done.stdout
    assert f"tail -f {LOG}\n" in done.stdout
    return number


def starts(clone: Clone) -> int:
    """Return how many starts of controllers have begun to submit cells."""
    plans = [read_json(path) for path in clone.root.glob("results/left/heads/*.json")]
    return sum("submitted" in plan for plan in plans)


def have_submitted(clone: Clone) -> bool:
    """Tell whether the last start of a controller has noted a job of each cell."""
    plans = sorted(clone.root.glob("results/left/heads/*.json"), key=lambda path: path.stat().st_mtime_ns)
    last = [path for path in plans if "submitted" in read_json(path)][-1]
    notes = [folder_of_cell(clone, "state", "left", task) / "slurm_job.json" for task in TASKS]
    return all(read_json(note)["head"] == str(last.relative_to(clone.root)) for note in notes)


def told_of(cluster: Cluster, number: str) -> dict[str, str]:
    """Return what SLURM says of a job."""
    words = cluster.run("scontrol", "show", "job", number).split()
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def status(clone: Clone) -> str:
    """Return what `make status` says, on one line."""
    return " ".join(make(clone, "status").stdout.split())


def test_a_controller_that_is_requeued_loses_its_node_and_is_killed(clone, cluster):
    log = clone.root / LOG
    (clone.root / ".venv").unlink(missing_ok=True)
    (clone.root / ".venv").symlink_to(sys.prefix)
    write_profile(clone, runtime=3)
    clone.write_experiment("left", {task: {"num_train_epochs": 40} for task in TASKS})
    first = submitted(clone)
    with contextlib.ExitStack() as pauses:
        pause_all_at_checkpoints(pauses, clone, "left", TASKS, log)
        # What is edited now is none of its concern, however often it starts.
        (clone.root / "mine.yaml").rename(clone.root / "kept.yaml")
        (clone.root / "profiles/quick/config.yaml").write_text("[broken", encoding="utf-8")
        clone.replace(HOOKS, "def prepare(", "def prepare(:")
        # Before its time limit of three minutes, it goes back into the queue by itself.
        wait(lambda: starts(clone) > 1, log)
        assert int(told_of(cluster, first)["Restarts"]) >= 1
        cluster.run("scontrol", "update", f"jobid={first}", "timelimit=1-0")
        clone.replace(HOOKS, "def prepare(:", "def prepare(")
        (clone.root / "kept.yaml").rename(clone.root / "mine.yaml")
        write_profile(clone)
        # Another is refused as long as it is there.
        refused = submit(clone)
        assert refused.returncode != 0
        assert f"left: its controller, SLURM job {first}, " in refused.stderr
        # Its node goes down, and it starts elsewhere.
        wait(lambda: told_of(cluster, first)["JobState"] == "RUNNING", log)
        node, before = told_of(cluster, first)["BatchHost"], starts(clone)
        cluster.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        wait(lambda: starts(clone) > before, log)
        undrain(cluster, node)
        wait(lambda: have_submitted(clone), log)
        assert f"controller: SLURM job {first} runs; " in status(clone)
        # Killed, it is gone; cells run on, and the same command goes on.
        cluster.run("scancel", "--signal=KILL", first)
        wait(lambda: first not in in_queue(cluster), log)
        assert f"controller: SLURM job {first} was cancelled, killed, or at its time limit." in status(clone)
        assert all(is_running(clone, "left", task) for task in TASKS)
        before = starts(clone)
        second = submitted(clone)
        wait(lambda: starts(clone) > before and have_submitted(clone), log)
    wait(lambda: in_queue(cluster) == [""], log)
    said = log.read_text(encoding="utf-8")
    assert told_of(cluster, second)["JobState"] == "COMPLETED", said[-5000:]
    assert "2 of 2" in table_of(clone, "left")
    assert said.count("Tables: results/left/results.md\n") == 1
    assert f"controller: SLURM job {second} ended at " in status(clone)
    for task in TASKS:
        assert reasons_of(clone, "left", task) == ["done"]
        # One has trained it; the jobs of later starts waited behind it, and have used its result.
        jobs = jobs_of(cluster, clone, task, "JobID", "State")
        assert attempts_of(clone, "left", task)[0]["slurm_job_id"] == jobs[0][0]
        assert len(jobs) > 1
        assert {state for _, state in jobs} == {"COMPLETED"}
