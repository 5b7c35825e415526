"""Packs on a real SLURM: several cells in one job, each of which stays what it is alone."""

import json

import pytest
from slurm_grid import DEMO, accounted

pytestmark = pytest.mark.cluster


def test_the_demo_grid_is_as_many_packs_as_there_are_gpus(clone, cluster):
    done = clone.snakemake(*DEMO)
    assert done.returncode == 0, done.stdout
    assert done.stdout.rstrip().endswith("Tables: results/demo/results.md")
    jobs = accounted(cluster, "rule_pack_", "AllocTRES%100", "State", "WorkDir%300")
    jobs = [row for row in jobs if row[4] == str(clone.root)]  # other tests have theirs
    assert len(jobs) == 8, done.stdout
    assert all("gres/gpu=1" in row[2].split(",") for row in jobs), jobs
    assert {row[3] for row in jobs} == {"COMPLETED"}
    records = [json.loads(path.read_text()) for path in (clone.root / "results/demo/runs").rglob("run_record.json")]
    assert len(records) == 18
    of_job = {row[0]: [] for row in jobs}
    for record in records:
        of_job[record["job"]["slurm_job_id"]].append(record)
    comments = {row[0]: row[1] for row in jobs}
    for job, trained in of_job.items():
        assert comments[job].endswith(f"_{len(trained)}_cells")
        assert {record["job"]["pack"].rpartition("/")[2] for record in trained} == {comments[job].removeprefix("rule_")}
        assert len({record["identity"]["model"] for record in trained}) == 1
