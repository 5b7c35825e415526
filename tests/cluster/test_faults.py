"""Every fault that SLURM has in store, on a real SLURM (tests/cluster): what it costs, and what not."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from slurm_grid import (
    ALONE,
    CELL,
    MINE,
    attempts_of,
    ended,
    folder_of_cell,
    is_running,
    jobs_of,
    never_overlap,
    pause_all_at_checkpoints,
    pause_at_checkpoint,
    paused,
    reasons_of,
    record_of,
    start_head,
    table_of,
    undrain,
    wait,
)

pytestmark = pytest.mark.cluster


@contextmanager
def full_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    """Let a folder lie on a disk of this size."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def refusals(log: Path) -> list[str]:
    """Return what a head has said of cells that SLURM took no job for, and that are tried again."""
    return [line for line in log.read_text(encoding="utf-8").splitlines() if "SLURM refuses a job of train" in line]


def test_time_memory_and_disks_run_out(clone, cluster, tmp_path):
    """One head, since cells that fail wait for each other: time limit, memory, full disks, all attempts failed."""
    log = tmp_path / "head.log"
    # For wnli an hour for the first attempt, which is cut to a minute while it runs, and more for the next ones.
    rule_inputs = "scripts/gluegrid/workflow/rule_inputs.py"
    clone.replace(
        rule_inputs,
        "limit_of_attempt(self._estimates.of(self._cell(wildcards)), attempt)",
        '60 if attempt == 1 or wildcards.task != "wnli" else 120 * attempt',
    )
    clone.replace(
        rule_inputs,
        "self._estimates.of(self._cell(wildcards)).memory_in_mb * attempt",
        '300 * attempt**3 if wildcards.task == "rte" else 8000 * attempt',
    )
    one = {"num_train_epochs": 1}
    clone.write_experiment(
        "limits", {"wnli": {"num_train_epochs": 60}, "rte": one, "stsb": one, "mrpc": one, "cola": one}
    )
    state = folder_of_cell(clone, "state", "limits", "stsb")
    results = folder_of_cell(clone, "runs", "limits", "mrpc")
    with full_disk(state, 64), full_disk(results, 8):
        head = start_head(clone, log, *MINE)
        with pause_at_checkpoint(clone, "limits", "wnli", log):
            job = attempts_of(clone, "limits", "wnli")[0]["slurm_job_id"]
            cluster.run("scontrol", "update", f"jobid={job}", "timelimit=1")
            wait(lambda: len(attempts_of(clone, "limits", "wnli")) > 1, log)
        assert ended(head, log) == 1
        said = log.read_text(encoding="utf-8")
        assert reasons_of(clone, "limits", "cola") == ["done"]
        # Time: each attempt gets more, and goes on where the one before was.
        limits = [row[0] for row in jobs_of(cluster, clone, "wnli", "TimelimitRaw")]
        assert limits == ["1", "240"]
        reasons = reasons_of(clone, "limits", "wnli")
        assert reasons[-1] == "done"
        assert all("time limit" in reason for reason in reasons[:-1]), reasons
        record = record_of(clone, "limits", "wnli")
        assert record["attempts"] == len(limits)
        # Memory: killed without a word, then given more.
        memory = [row[0] for row in jobs_of(cluster, clone, "rte", "ReqMem")]
        assert memory[:2] == ["300M", "2400M"], memory
        assert reasons_of(clone, "limits", "rte")[-1] == "done"
        # Full disks: said clearly, given up after all attempts.
        last_words = said[said.rindex("Tables: ") :]
        for task in ("stsb", "mrpc"):
            assert f"FAILED {CELL.format(task=task)}: " in last_words
            assert len(jobs_of(cluster, clone, task)) == 3
        assert last_words.count("is full") == 2, last_words
        assert "3 of 5" in table_of(clone, "limits")
    shutil.rmtree(state, ignore_errors=True)
    again = clone.snakemake(*MINE)
    assert again.returncode == 0, again.stdout
    assert "5 of 5" in table_of(clone, "limits")


def test_jobs_of_lost_nodes_and_preempted_ones_run_again_and_go_on(clone, cluster, tmp_path):
    log = tmp_path / "head.log"
    tasks = ("wnli", "rte", "stsb", "mrpc", "cola")
    epochs = {"wnli": 60, "rte": 40}
    clone.write_experiment("lost", {task: {"num_train_epochs": epochs.get(task, 25)} for task in tasks})
    preemptible = ("--default-resources", "slurm_partition=low", "mem_mb=4000", "runtime=60")
    head = start_head(clone, log, *MINE, *preemptible)
    with contextlib.ExitStack() as pauses:
        pause_all_at_checkpoints(pauses, clone, "lost", tasks, log)
        running = {task: attempts_of(clone, "lost", task)[0] for task in tasks}
        nodes = sorted({attempt["slurm_node"] for attempt in running.values()})
        assert len(nodes) >= 3, running
        down, preempted, requeued = nodes[:3]
        cluster.run("scontrol", "update", f"nodename={down}", "state=down", "reason=test")
        urgent = ("sbatch", "--parsable", "-p", "high", "-w", preempted, "--gpus-per-node=2", "--wrap=sleep 1")
        cluster.run(*urgent, "--output=/dev/null")
        jobs = {task: attempt["slurm_job_id"] for task, attempt in running.items()}
        hit = next(task for task in tasks if running[task]["slurm_node"] == requeued)
        cluster.run("scontrol", "requeue", jobs[hit])
        are_hit = {task for task in tasks if running[task]["slurm_node"] in (down, preempted)} | {hit}
        wait(lambda: all(len(attempts_of(clone, "lost", task)) > 1 for task in are_hit), log)
    assert ended(head, log) == 0
    undrain(cluster, down)
    for task in tasks:
        tried = attempts_of(clone, "lost", task)
        assert [row[0] for row in jobs_of(cluster, clone, task, "JobIDRaw")] == [jobs[task]]
        assert {attempt["slurm_job_id"] for attempt in tried} == {jobs[task]}
        assert tried[-1]["reason"] == "done"
        assert never_overlap(tried), tried
        record = record_of(clone, "lost", task)
        assert record["attempts"] == len(tried)
        assert (len(tried) > 1) == (task in are_hit), (task, tried)
        if task in are_hit:
            assert record["continued"], record
        if running[task]["slurm_node"] == down:
            assert tried[-1]["slurm_node"] != down


def test_slurm_refuses_jobs_and_its_daemons_die(clone, cluster, tmp_path):
    log = tmp_path / "head.log"
    tasks = ("rte", "wnli")
    clone.write_experiment("silent", {task: {"num_train_epochs": 60} for task in tasks})
    # No partition is named, for which the plugin would ask the controller before it submits.
    cluster.kill("slurmctld")
    one_at_a_time = ("--jobs", "1", "--default-resources", "mem_mb=4000", "runtime=60")
    head = start_head(clone, log, *MINE, *ALONE, *one_at_a_time)
    wait(lambda: len(refusals(log)) >= 1, log)
    assert "Unable to contact slurm controller" in refusals(log)[0]
    cluster.launch("slurmctld")
    wait(lambda: any(is_running(clone, "silent", task) for task in tasks), log)
    with paused(clone, "silent", next(task for task in tasks if is_running(clone, "silent", task))):
        first = len(refusals(log))
        cluster.run("scontrol", "update", "partitionname=gpu", "state=inactive")
    wait(lambda: len(refusals(log)) >= first + 2, log)
    said = refusals(log)[first : first + 2]
    assert [line.rpartition(" in ")[2] for line in said] == ["5 s", "10 s"]
    assert "Required partition not available" in said[0]
    cluster.run("scontrol", "update", "partitionname=gpu", "state=up")
    wait(lambda: any(is_running(clone, "silent", task) for task in tasks), log)
    task = next(task for task in tasks if is_running(clone, "silent", task))
    with paused(clone, "silent", task):
        time.sleep(20)  # what a controller has not saved is another fault (tests/cluster/README.md)
        for daemon in ("slurmdbd", "slurmctld"):
            cluster.kill(daemon)
        wait(lambda: "SLURM does not answer" in log.read_text(encoding="utf-8"), log)
        time.sleep(30)  # many times the pauses after which Snakemake asks again
        assert head.poll() is None, log.read_text()
    # In this order: a controller starts only with an accounting.
    cluster.launch("slurmdbd")
    cluster.launch("slurmctld")
    assert ended(head, log) == 0, log.read_text()
    assert "2 of 2" in table_of(clone, "silent")
    for task in tasks:
        assert reasons_of(clone, "silent", task) == ["done"]
        assert len(jobs_of(cluster, clone, task)) == 1
