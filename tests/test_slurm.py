"""The pipeline on a real SLURM with accounting and pretended GPUs, started for these tests (tests/cluster)."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from clones import Clone, copy_of
from cluster import Cluster, start, wait_until

pytestmark = pytest.mark.cluster

# The profile's own pauses are longer, to spare a cluster's controller.
QUICK = ("--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "3")
SLURM = ("--profile", "slurm", *QUICK)
DEMO = (*SLURM, "--configfile", "demo/config.yaml")
MINE = (*SLURM, "--configfile", "mine.yaml")
LONG_ENOUGH = 400  # epochs of wnli: minutes


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if os.geteuid() != 0 or shutil.which("slurmctld") is None:
        reason = "needs root and Debian's SLURM; tests/cluster/install.sh installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    cluster = start(tmp_path_factory.mktemp("slurm") / "cluster")
    yield cluster
    cluster.stop()


@pytest.fixture
def clone(demo: Clone, cluster: Cluster, tmp_path: Path) -> Clone:
    """The demo with all staged and nothing trained, on the login node of the cluster."""
    clone = copy_of(demo, tmp_path / "clone")
    shutil.rmtree(clone.root / "results")
    clone.environment.update(cluster.environment)
    return clone


def state_of(clone: Clone, experiment: str, task: str) -> list[dict]:
    """Read the attempts of a cell."""
    path = clone.root / f"results/{experiment}/state/bert-demo-small/{task}/base/seed-42/attempts.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def accounted(cluster: Cluster, comment: str, *fields: str) -> list[list[str]]:
    """Return what sacct knows of the jobs whose comment contains a text."""
    asked = ",".join(["JobID", "Comment%200", *fields])
    lines = cluster.run("sacct", "--allocations", "--noheader", "--parsable2", f"--format={asked}").splitlines()
    return [row for row in (line.split("|") for line in lines) if comment in row[1]]


def start_head(clone: Clone, log: Path, *arguments: str) -> subprocess.Popen:
    """Start snakemake and go on."""
    with log.open("w", encoding="utf-8") as stream:
        return subprocess.Popen(
            clone.command(*arguments),
            cwd=clone.root,
            env=clone.full_environment(),
            stdout=stream,
            stderr=subprocess.STDOUT,
        )


def test_the_demo_grid_is_one_job_on_one_gpu_for_each_cell(clone, cluster):
    done = clone.snakemake(*DEMO)
    assert done.returncode == 0, done.stdout
    assert done.stdout.rstrip().endswith("Tables: results/demo/results.md")
    jobs = accounted(cluster, "rule_train", "AllocTRES%100", "State", "ExitCode")
    assert len(jobs) == 18, jobs
    assert all("gres/gpu=1" in row[2].split(",") for row in jobs), jobs
    assert {row[3] for row in jobs} == {"COMPLETED"}
    records = [json.loads(path.read_text()) for path in (clone.root / "results/demo/runs").rglob("run_record.json")]
    assert len(records) == 18
    comments = {row[0]: row[1] for row in jobs}
    for record in records:
        job = record["job"]
        assert job["cuda_visible_devices"] in ("0", "1")
        assert record["identity"]["model"] in comments[job["slurm_job_id"]]
        assert record["identity"]["task"] in comments[job["slurm_job_id"]]
        assert record["git"] == json.loads(next((clone.root / "results/demo/heads").iterdir()).read_text())["git"]
    assert len({record["job"]["slurm_job_id"] for record in records}) == 18


def test_one_failing_cell_costs_neither_the_others_nor_the_table(clone, cluster):
    clone.write_experiment("failing", {"rte": {}, "wnli": {}})
    tokens = next(clone.root.glob("resources/tokens/*/wnli-32/train.arrow"))
    content = tokens.read_bytes()
    tokens.write_bytes(content[:1000])
    done = clone.snakemake(*MINE, "--retries", "1")
    assert done.returncode == 1
    jobs = accounted(cluster, "rule_train_wildcards_bert-demo-small_wnli", "WorkDir%300", "TimelimitRaw", "ReqMem")
    (first, second) = (row[3:] for row in jobs if row[2] == str(clone.root))
    # 635 rows and 3 epochs at 25 a second, on top of the 30 minutes of every cell; then twice as much.
    assert (first, second) == (["32", "8000M"], ["64", "16000M"])
    assert done.stdout.rstrip().splitlines()[-1].startswith("FAILED bert-demo-small/wnli/base/seed-42: ")
    table = (clone.root / "results/failing/results.md").read_text(encoding="utf-8")
    assert "| WNLI   | Accuracy | failed" in table
    assert "| RTE    | Accuracy | failed" not in table
    tokens.write_bytes(content)
    assert clone.planned(*MINE) == {"train": 1, "results": 1}
    assert clone.snakemake(*MINE).returncode == 0
    assert len(state_of(clone, "failing", "rte")) == 1


def test_a_cancelled_job_is_noticed_within_a_minute(clone, cluster, tmp_path):
    clone.write_experiment("cancelled", {"wnli": {"num_train_epochs": LONG_ENOUGH}})
    as_shipped = ("--profile", "slurm", "--configfile", "mine.yaml", "--retries", "0")
    head = start_head(clone, tmp_path / "head.log", *as_shipped)
    assert wait_until(lambda: bool(state_of(clone, "cancelled", "wnli")), 120)
    cluster.run("scancel", state_of(clone, "cancelled", "wnli")[0]["slurm_job_id"])
    cancelled = time.monotonic()
    assert head.wait(timeout=120) == 1
    assert time.monotonic() - cancelled < 60
    assert "FAILED bert-demo-small/wnli/base/seed-42: " in (tmp_path / "head.log").read_text(encoding="utf-8")


def test_after_the_head_was_killed_the_same_command_finishes(clone, cluster, tmp_path):
    longer = {"num_train_epochs": 30}
    clone.write_experiment("killed", {"wnli": {"num_train_epochs": 1}, "rte": longer, "stsb": longer})
    head = start_head(clone, tmp_path / "head.log", *MINE)
    wnli = clone.root / "results/killed/runs/bert-demo-small/wnli/base/seed-42/all_results.json"
    assert wait_until(lambda: wnli.exists() and bool(state_of(clone, "killed", "rte")), 240)
    head.send_signal(signal.SIGKILL)
    head.wait()
    done = clone.snakemake(*MINE)
    assert done.returncode == 0, done.stdout
    jobs = accounted(cluster, "rule_train_wildcards_bert-demo-small_wnli", "WorkDir%300")
    assert len([row for row in jobs if row[2] == str(clone.root)]) == 1, jobs
    table = (clone.root / "results/killed/results.md").read_text(encoding="utf-8")
    assert "3 of 3" in table
    for task in ("wnli", "rte", "stsb"):
        attempts = state_of(clone, "killed", task)
        assert [attempt["reason"] for attempt in attempts] == ["done"], (task, attempts)
