"""`make doctor` on a real SLURM: all is looked at, the proposed profile is one; no node is free; no controller."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from clones import Clone
from slurm_configuration import NODES
from slurm_grid import QUICK, drain, fields_of_jobs, in_queue, undrain
from waiting import wait_until

pytestmark = pytest.mark.cluster
CELL = "results/demo/runs/bert-demo-tiny/wnli/base/seed-42/all_results.json"
# The cluster's GPUs are pretended, so is the program that lists them.
NVIDIA_SMI = """#!/bin/sh
# A stub that stands in for NVIDIA's nvidia-smi.
echo 'NVIDIA V100 (a stub), 16384, 580.95.05'
"""
# The command behind `make doctor`, which gives a queue no time.
IMPATIENT = """
import sys
sys.path.insert(0, "scripts")
sys.argv = ["commands.py", "doctor"]
import commands
from gluegrid.site import reporting_job
reporting_job.SECONDS_IN_QUEUE = 0
commands.run_script(commands.main)
"""


def called(clone: Clone, *command: str) -> subprocess.CompletedProcess:
    """Call a command in a clone; its output has no line breaks."""
    done = subprocess.run(
        command,
        cwd=clone.root,
        env=clone.full_environment() | {"HF_ENDPOINT": "http://127.0.0.1:9"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert "Traceback" not in done.stdout
    done.stdout = " ".join(done.stdout.split())
    assert done.returncode == 0 or "FAULT" in done.stdout, done.stdout
    return done


@pytest.fixture
def with_card(clone: Clone, tmp_path: Path) -> Clone:
    """The clone, on nodes with a program that lists a card."""
    (tmp_path / "nvidia-smi").write_text(NVIDIA_SMI, encoding="utf-8")
    (tmp_path / "nvidia-smi").chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    return Clone(clone.root, clone.environment | {"PATH": path})


def test_without_a_controller_nothing_is_submitted_or_proposed(clone, cluster):
    cluster.kill("slurmctld")
    done = called(clone, sys.executable, "scripts/commands.py", "doctor")
    cluster.launch("slurmctld")
    assert wait_until(cluster._is_idle)  # until its nodes have spoken, none of them counts as being in use
    assert done.returncode == 1
    assert "FAULT SLURM does not answer: " in done.stdout
    assert "slurmctld is down" in done.stdout
    assert not (clone.root / "profiles/proposed").exists()


def test_a_node_reports_the_profile_is_one_and_a_full_or_drained_cluster_is_no_fault(with_card, cluster):
    done = called(with_card, "make", "--old-file=.venv/installed", "doctor")
    for said in (
        f"ok SLURM 22.05.8, cluster {cluster.name}: slurmctld answers",
        "ok SLURM's accounting answers; ended jobs stay listed for 600 s (MinJobAge)",
        "ok partition gpu (default): 4 v100, 4 a100 on 4 nodes of 64 GB, no time limit",
        "ok partition gpu-short: 4 v100 on 2 nodes of 64 GB, at most 1 h 00 min",
        "ok profiles/proposed/config.yaml was written: slurm_account gluegrid, slurm_partition gpu",
        "under the same path as here ok shared disk: the node's files were seen here after",
        "ok the clocks of the node, the shared disk and this machine agree",
        "ok NVIDIA V100 (a stub), 17.2 GB, driver 580.95.05",
        "ok jobs may submit jobs, so make submit works",
    ):
        assert said in done.stdout
    # Pretended cards: what torch thinks of them depends on its build. Nothing else may be at fault.
    faults = [part.split(" -> ")[0] for part in done.stdout.split("FAULT ")[1:]]
    assert all(text.startswith("torch ") for text in faults), faults
    assert "Next: snakemake --profile profiles/proposed -n" in done.stdout
    # SLURM's accounting may be behind.
    mine = functools.partial(fields_of_jobs, cluster, with_card)
    assert wait_until(lambda: ["gluegrid-doctor", "COMPLETED"] in mine("", "JobName%30", "State"))

    profile = yaml.safe_load((with_card.root / "profiles/proposed/config.yaml").read_text(encoding="utf-8"))
    assert {"slurm_account=gluegrid", "slurm_partition=gpu"} <= {*profile["default-resources"]}
    planned = with_card.planned("--profile", "profiles/proposed", "--configfile", "demo/config.yaml")
    assert planned["train"] > 0
    trained = with_card.snakemake("--profile", "profiles/proposed", *QUICK, CELL, "--configfile", "demo/config.yaml")
    assert trained.returncode == 0, trained.stdout
    comment = "rule_train_wildcards_bert-demo-tiny_wnli"
    assert wait_until(lambda: mine(comment, "Account", "Partition") == [["gluegrid", "gpu"]])

    of_another = cluster.run(
        "sbatch", "--parsable", "--nodes=4", "--gpus-per-node=2", "--output=/dev/null", "--wrap=sleep 600"
    )
    assert wait_until(lambda: in_queue(cluster, "--format=%T") == ["RUNNING"])
    done = called(with_card, sys.executable, "-c", IMPATIENT)
    assert "ok profiles/proposed/config.yaml is up to date" in done.stdout
    assert "in the queue (" in done.stdout
    assert "and was cancelled, so no node was checked" in done.stdout
    assert ("FAULT" in done.stdout, done.returncode) == (False, 0)
    assert in_queue(cluster) == [of_another]
    assert not [*(with_card.root / ".snakemake").glob("doctor-*")]
    cluster.run("scancel", of_another)
    assert wait_until(lambda: in_queue(cluster) == [""])

    drain(cluster, *NODES)
    done = called(with_card, sys.executable, "scripts/commands.py", "doctor")
    undrain(cluster, *NODES)
    assert "no node of partition gpu is up now, so none was checked" in done.stdout
    assert ("FAULT" in done.stdout, done.returncode) == (False, 0)
