"""The profiles of docs/cluster.md: what they say, and on a real SLURM, what they ask for and that cells are trained."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from clones import Clone
from cluster import Cluster
from slurm_grid import QUICK, accounted, start_head, start_head_in_a_job
from waiting import HANG

from gluegrid.common.files import read_json

PROJECT = Path(__file__).resolve().parents[2]
PROFILES = sorted(
    path.parent for path in PROJECT.glob("examples/*/config.yaml") if "executor:" in path.read_text(encoding="utf-8")
)
OF_THE_SITE = {"default-resources", "set-resources", "resources"}
LARGE, SMALL = "bert-large-uncased", "bert-base-uncased"


def write_grid(clone: Clone, experiment: str, task: str, models=(SMALL,), seeds=(42,)) -> None:
    """Write an experiment of the demo's models, under names of models that people use, on one task."""
    config = {
        "experiment": experiment,
        "models": {model: {"source": "./demo/generated/models/bert-demo-small"} for model in models},
        "task_defaults": {"source": "./demo/generated/glue"},
        "tasks": {task: {"num_train_epochs": 1}},
        **{"per_device_train_batch_size": 16, "max_seq_length": 32, "device": "cpu", "threads": 1, "seeds": [*seeds]},
    }
    (clone.root / f"{experiment}.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


def call_of(profile: str, experiment: str, *more: str) -> list[str]:
    """Return the arguments of a call of snakemake."""
    return ["--profile", profile, *QUICK, "--configfile", f"{experiment}.yaml", *more]


def jobs_of(cluster: Cluster, clone: Clone, comment: str) -> list[dict]:
    """Return what SLURM was asked for by the jobs of a clone with this comment."""
    fields = ("WorkDir%300", "Partition", "Account", "QOS", "ReqTRES%100", "TimelimitRaw", "SubmitLine%4000", "State")
    names = [field.partition("%")[0] for field in ("JobID", "Comment", *fields)]
    rows = [dict(zip(names, row, strict=False)) for row in accounted(cluster, comment, *fields)]
    return [row for row in rows if row["WorkDir"] == str(clone.root)]


@pytest.mark.parametrize("folder", PROFILES, ids=lambda folder: folder.name)
def test_a_profile_of_the_examples_says_all_that_the_profile_says_which_is_not_the_sites(folder):
    ours, example = (
        yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
        for path in (PROJECT / "profiles/slurm", folder)
    )
    assert {key: value for key, value in example.items() if key not in OF_THE_SITE} == {
        key: value for key, value in ours.items() if key not in OF_THE_SITE
    }
    assert example["default-resources"] != ours["default-resources"]
    assert f"examples/{folder.name}" in (PROJECT / "docs/cluster.md").read_text(encoding="utf-8")


@pytest.mark.cluster
def test_a_university_a_preemptible_partition_a_cpu_grid_and_an_array(clone, cluster, tmp_path):
    write_grid(clone, "university", "wnli", models=(LARGE, SMALL))
    write_grid(clone, "preemptible", "rte")
    write_grid(clone, "on_cpus", "mrpc")
    write_grid(clone, "array", "stsb", seeds=(1, 2))
    calls = {
        "university": call_of("examples/university", "university"),
        "preemptible": call_of("examples/preemptible", "preemptible"),
        "on_cpus": call_of("slurm", "on_cpus", "--set-resources", "train:gpu=0"),
        "array": call_of("slurm", "array", "--slurm-array-jobs", "train"),
    }
    # What SLURM says of a job to it is not for the cells' jobs, whose heads it may be.
    inside = start_head_in_a_job(clone, tmp_path / "on_cpus", *calls.pop("on_cpus"))
    heads = {"on_cpus": inside} | {name: start_head(clone, tmp_path / name, *call) for name, call in calls.items()}
    for name, head in heads.items():
        assert head.wait(timeout=HANG) == 0, (tmp_path / name).read_text(encoding="utf-8")

    (large,) = jobs_of(cluster, clone, f"rule_train_wildcards_{LARGE}_wnli")
    assert (large["Partition"], large["Account"], large["QOS"]) == ("gpu", "gluegrid", "gpu-week")
    assert " --gpus=a100:1 " in large["SubmitLine"]
    (small,) = jobs_of(cluster, clone, f"rule_train_wildcards_{SMALL}_wnli")
    assert (small["Partition"], small["Account"], small["QOS"]) == ("gpu-short", "gluegrid", "gpu-week")
    assert " --gpus=v100:1 " in small["SubmitLine"]

    (job,) = jobs_of(cluster, clone, f"rule_train_wildcards_{SMALL}_rte")
    assert (job["Partition"], job["TimelimitRaw"]) == ("low", "600")
    assert {"--gres=gpu:1", "-C", "v100", "--nice=100"} <= {*job["SubmitLine"].split()}
    assert not {"--gpus", "--mem", "--mem-per-cpu"} & {word.partition("=")[0] for word in job["SubmitLine"].split()}
    assert {"cpu=8", "mem=8000M", "gres/gpu=1"} <= {*job["ReqTRES"].split(",")}

    (job,) = jobs_of(cluster, clone, f"rule_train_wildcards_{SMALL}_mrpc")
    assert "gpu" not in job["ReqTRES"]
    assert {"cpu=1", "node=1"} <= {*job["ReqTRES"].split(",")}
    (record,) = clone.root.glob(f"results/on_cpus/runs/{SMALL}/mrpc/*/*/run_record.json")
    assert read_json(record)["job"]["slurm_job_id"] == job["JobID"]

    tasks = jobs_of(cluster, clone, f"rule_train_wildcards_{SMALL}_stsb")
    assert sorted(task["JobID"].partition("_")[2] for task in tasks if "_" in task["JobID"]) == ["1", "2"]


BANNER = """#!/bin/sh
echo 'Welcome | to the cluster of 2026'
printf 'Gr\\374\\337e\\n\\n'
echo '*** maintenance: 24 cores, submission failed ***' >&2
exec {program} "$@"
"""


def with_banners(clone: Clone, folder: Path) -> Clone:
    """Return a clone at a site whose programs say more than they are asked for, in Latin-1."""
    folder.mkdir()
    for name in ("sbatch", "squeue", "scancel"):
        (folder / name).write_text(BANNER.format(program=shutil.which(name)), encoding="utf-8")
        (folder / name).chmod(0o755)
    return Clone(clone.root, clone.environment | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"})


@pytest.mark.cluster
def test_a_cluster_without_accounting_and_with_a_banner(clone, cluster, tmp_path):
    clone = with_banners(clone, tmp_path / "programs")
    write_grid(clone, "small", "wnli")
    configuration = cluster.root / "slurm.conf"
    kept = configuration.read_text(encoding="utf-8")
    lines = [line for line in kept.splitlines() if not line.startswith(("AccountingStorage", "JobAcct"))]
    cluster.kill("slurmctld")
    configuration.write_text("\n".join([*lines, "AccountingStorageType=accounting_storage/none", ""]), encoding="utf-8")
    try:
        cluster.launch("slurmctld")
        done = clone.snakemake(*call_of("examples/small_cluster", "small"))
    finally:
        cluster.kill("slurmctld")
        configuration.write_text(kept, encoding="utf-8")
        cluster.launch("slurmctld")
    assert done.returncode == 0, done.stdout
    assert "Tables: results/small/results.md" in done.stdout
    (noted,) = (json.loads(path.read_text()) for path in clone.root.glob("results/small/state/**/slurm_job.json"))
    (attempts,) = clone.root.glob("results/small/state/**/attempts.jsonl")
    assert json.loads(attempts.read_text())["slurm_job_id"] == noted["slurm_job_id"]


@pytest.mark.cluster
def test_what_slurm_says_of_a_wrong_account_stands_at_the_end(clone, cluster):
    write_grid(clone, "wrong", "wnli")
    done = clone.snakemake(*call_of("slurm", "wrong", "--default-resources", "slurm_account=nobody"))
    assert done.returncode == 1
    last = done.stdout.rstrip().splitlines()[-1]
    assert last.startswith(f"FAILED {SMALL}/wnli/base/seed-42: SLURM took no job for it: sbatch: error: ")
    assert "Invalid account" in last
