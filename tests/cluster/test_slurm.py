"""The pipeline on a real SLURM with accounting and pretended GPUs, started for these tests (tests/cluster)."""

import json

import pytest
from slurm_grid import (
    DEMO,
    LONG_ENOUGH,
    MINE,
    accounted,
    attempts_of,
    estimate_of,
    jobs_of,
    pack_everything,
    record_of,
    start_head,
    table_of,
)
from waiting import HANG, wait_until

pytestmark = pytest.mark.cluster


def test_the_demo_grid_is_as_many_packs_as_there_are_gpus(clone, cluster):
    pack_everything(clone)
    done = clone.snakemake(*DEMO)
    assert done.returncode == 0, done.stdout
    assert "Tables: results/demo/results.md" in done.stdout.splitlines()[-3:]
    jobs = accounted(cluster, "rule_", "AllocTRES%100", "State", "WorkDir%300")
    jobs = [row for row in jobs if row[4] == str(clone.root)]  # other tests have theirs
    assert len(jobs) == 8, done.stdout
    assert all("gres/gpu=1" in row[2].split(",") for row in jobs), jobs
    assert {row[3] for row in jobs} == {"COMPLETED"}
    records = [json.loads(path.read_text()) for path in (clone.root / "results/demo/runs").rglob("run_record.json")]
    assert len(records) == 18
    of_jobs = {row[0]: [] for row in jobs}
    git = json.loads(next((clone.root / "results/demo/heads").glob("*.json")).read_text())["git"]
    for record in records:
        of_jobs[record["job"]["slurm_job_id"]].append(record)
        assert record["job"]["cuda_visible_devices"] in ("0", "1")
        assert record["git"] == git
    packs = [row for row in jobs if row[1].startswith("rule_pack_")]
    assert len(packs) > 1
    for number, comment, *_ in packs:
        trained = of_jobs[number]
        assert comment.endswith(f"_{len(trained)}_cells")
        assert {record["job"]["pack"].rpartition("/")[2] for record in trained} == {comment.removeprefix("rule_")}
        assert len({record["identity"]["model"] for record in trained}) == 1
    # What is left for a pack of one cell is a job of its own.
    assert sum(len(of_jobs[row[0]]) for row in jobs if row not in packs) == len(jobs) - len(packs)


def test_a_cell_of_several_gpus_or_nodes_is_one_job_and_one_launch(clone, cluster):
    clone.write_experiment("several", {"wnli": {"gpus": 2, "num_train_epochs": 1}, "rte": {"nodes": 2}})
    on_one, on_each_of_two = (estimate_of(clone, task).memory_in_mb for task in ("wnli", "rte"))
    done = clone.snakemake(*MINE)
    assert done.returncode == 0, done.stdout
    asked = {
        "wnli": f"cpu=2,gres/gpu=2,mem={on_one}M,node=1",
        "rte": f"cpu=2,gres/gpu=2,mem={2 * on_each_of_two}M,node=2",
    }
    for task, resources in asked.items():
        (job,) = jobs_of(cluster, clone, task, "ReqTRES%100", "State")
        wanted = {part for part in job[0].split(",") if not part.startswith("billing")}
        assert (wanted, job[1]) == ({*resources.split(",")}, "COMPLETED"), job
        (attempt,) = attempts_of(clone, "several", task)
        assert attempt["reason"] == "done"
        assert record_of(clone, "several", task)["processes"] == 2


def test_one_failing_cell_costs_neither_the_others_nor_the_table(clone, cluster):
    clone.write_experiment("failing", {"rte": {}, "wnli": {}})
    tokens = next(clone.root.glob("resources/tokens/*/*--wnli@*-32/train.arrow"))
    content = tokens.read_bytes()
    tokens.write_bytes(content[:1000])
    expected = estimate_of(clone, "wnli")
    done = clone.snakemake(*MINE)
    assert done.returncode == 1
    # Damaged data stay so: no second job.
    asked = [[str(expected.limit_in_minutes), f"{expected.memory_in_mb}M"]]
    assert jobs_of(cluster, clone, "wnli", "TimelimitRaw", "ReqMem") == asked
    assert done.stdout.rstrip().splitlines()[-1].startswith("FAILED bert-demo-small/wnli/base/seed-42: ")
    assert "| WNLI   | Accuracy | failed" in table_of(clone, "failing")
    assert "| RTE    | Accuracy | failed" not in table_of(clone, "failing")
    tokens.write_bytes(content)
    assert clone.planned(*MINE) == {"train": 1, "results": 1}
    assert clone.snakemake(*MINE).returncode == 0
    assert len(attempts_of(clone, "failing", "rte")) == 1


def test_a_cancelled_job_is_noticed_by_a_head_as_shipped(clone, cluster, tmp_path):
    clone.write_experiment("cancelled", {"wnli": {"num_train_epochs": LONG_ENOUGH}})
    as_shipped = ("--profile", "slurm", "--configfile", "mine.yaml", "--retries", "0")
    head = start_head(clone, tmp_path / "head.log", *as_shipped)
    assert wait_until(lambda: bool(attempts_of(clone, "cancelled", "wnli")))
    cluster.run("scancel", attempts_of(clone, "cancelled", "wnli")[0]["slurm_job_id"])
    assert head.wait(timeout=HANG) == 1
    assert "FAILED bert-demo-small/wnli/base/seed-42: " in (tmp_path / "head.log").read_text(encoding="utf-8")
