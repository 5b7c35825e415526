"""What may happen to a pack on a real SLURM (tests/cluster): its cells end as they would in jobs of their own."""

import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from clones import Clone
from cluster import Cluster
from slurm_grid import (
    CELL,
    MINE,
    attempts_of,
    causes_of,
    ended,
    folder_of_cell,
    in_queue,
    is_running,
    jobs_of_packs,
    never_overlap,
    order_of_pack,
    pack_everything,
    packs_of,
    pause_at_checkpoint,
    paused,
    process_of_pack,
    reasons_of,
    record_of,
    start_head,
    table_of,
    undrain,
    wait,
)
from trainable_cell import is_alive
from waiting import wait_until

from gluegrid.execution.reasons import Cause

pytestmark = pytest.mark.cluster

ONE_PACK = (*MINE, "--resources", "gpu=1")
# The longest first: so they are in this order in their pack.
LONG = {"stsb": {"num_train_epochs": 18}, "rte": {"num_train_epochs": 18}}
TASKS = {
    **LONG,
    "mrpc": {"num_train_epochs": 11.1},
    "sst2": {"num_train_epochs": 18},
    **{task: {"num_train_epochs": 1} for task in ("qnli", "cola", "wnli")},
}
KILLED, CANCELLED, DONE, LEAVING, SHORT, NOT_BEGUN, DAMAGED = TASKS
# The same machine under another name, as a node or a login node beside this one has it.
ELSEWHERE = ("unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh")


def say(clone: Clone, *command: str, where: tuple[str, ...] = ()) -> str:
    """Return what a command of `make` says, in one line."""
    program = [*where, sys.executable, "scripts/commands.py", *command]
    done = subprocess.run(program, cwd=clone.root, env=clone.full_environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return " ".join(done.stdout.split())


def has_ended(pid: int) -> bool:
    return not is_alive(pid)


def trained_now(clone: Clone, experiment: str) -> str | None:
    """Return the task of a cell that is being trained, if there is one."""
    trained = (task for task in TASKS if is_running(clone, experiment, task))
    return next((task for task in trained if is_alive(attempts_of(clone, experiment, task)[-1]["pid"])), None)


def test_whatever_ends_a_cell_or_the_job_of_a_pack_costs_the_others_nothing(clone, cluster, tmp_path):
    """One pack in three jobs, of which the first is started three times. Beside it, one whose time is too short."""
    pack_everything(clone)
    clone.replace(
        "scripts/gluegrid/workflow/pack_jobs.py",
        "return limit_of_pack(estimates, attempt) if is_usual else asked",
        'return 120 * attempt if self.experiment.name == "brief" else limit_of_pack(estimates, attempt)',
    )
    brief, log = tmp_path / "brief.log", tmp_path / "head.log"
    clone.write_experiment("brief", {"rte": {"num_train_epochs": 40}, "cola": {"num_train_epochs": 1}})
    # Nothing that happens to one is to happen on a node of the other.
    head_of_brief = start_head(clone, brief, *ONE_PACK, *on_nodes_with("a100"))
    with pause_at_checkpoint(clone, "brief", "rte", brief):
        job = attempts_of(clone, "brief", "rte")[0]["slurm_job_id"]
        cluster.run("scontrol", "update", f"jobid={job}", "timelimit=1")
        clone.write_experiment("packed", TASKS)
        damage(next(clone.root.glob(f"resources/tasks/*--{DAMAGED}@*/**/train-*.parquet")))
        as_arrays = ("--slurm-array-jobs", "train", "--slurm-pass-command-as-script")
        head = start_head(clone, log, *ONE_PACK, *on_nodes_with("v100"), *as_arrays)
        wait(lambda: packs_of(clone, "packed"), log)
        assert order_of_pack(packs_of(clone, "packed")[0]) == [*TASKS]
        let_cells_of_one_job_end(clone, log)
        let_one_job_be_started_again(clone, cluster, log)
        let_the_next_job_lose_what_starts_the_cells(clone, log)
        wait(lambda: len(attempts_of(clone, "brief", "rte")) > 1, brief)
    assert ended(head, log) == 1

    check_what_is_told(clone, log)
    jobs = jobs_of_packs(cluster, clone, "_7_cells", "ReqMem", "TimelimitRaw", "AllocTRES%100")
    assert len(jobs) == 3, jobs
    memory, minutes = ([int(row[column].rstrip("M")) for row in jobs] for column in (0, 1))
    assert memory == sorted({*memory}), memory  # as a cell that was killed for its memory needs it
    assert len({*minutes}) == 3, minutes
    assert all("gres/gpu=1" in row[2].split(",") for row in jobs), jobs

    assert ended(head_of_brief, brief) == 0
    limits = [row[0] for row in jobs_of_packs(cluster, clone, "_2_cells", "TimelimitRaw")]
    assert limits == ["1", "240"]
    first, *others = reasons_of(clone, "brief", "rte")
    assert "time limit" in first and others[-1] == "done", (first, others)
    assert reasons_of(clone, "brief", "cola") == ["done"]


def on_nodes_with(kind: str) -> tuple[str, str]:
    return "--set-resources", f"train:constraint={kind}"


def damage(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b"damage")


def let_cells_of_one_job_end(clone: Clone, log: Path) -> None:
    """Kill one, cancel one that runs and one whose turn has not come, and see what is said of them here and there."""
    with pause_at_checkpoint(clone, "packed", KILLED, log) as training:
        os.kill(training, signal.SIGKILL)
    lock = folder_of_cell(clone, "state", "packed", KILLED) / "lock"
    wait(lambda: not lock.exists(), log)  # other hosts would believe it
    with pause_at_checkpoint(clone, "packed", CANCELLED, log):
        for where in ((), ELSEWHERE):
            said = say(clone, "status", "packed", where=where)
            assert "Cells: 0 done, 1 running, 5 queued, 1 stopped, 0 failed, 0 not begun." in said, said
            assert "SLURM jobs: 1 running, 0 queued; 1 of them for several cells." in said, said
            assert f"{KILLED} stopped" in said and f"{CANCELLED} running" in said, said
            assert f"{NOT_BEGUN} queued its pack runs" in said, said
        cancel = ("cancel", "--experiment", "packed")
        assert "a pack, continues without it" in say(clone, *cancel, CELL.format(task=NOT_BEGUN), where=ELSEWHERE)
        assert "was asked to save its work" in say(clone, *cancel, CELL.format(task=CANCELLED), where=ELSEWHERE)
    wait(lambda: reasons_of(clone, "packed", CANCELLED)[-1:] not in ([], [None]), log)


def let_one_job_be_started_again(clone: Clone, cluster: Cluster, log: Path) -> None:
    """Let SLURM requeue the job while its fourth cell is trained, and its node go down; at last, cancel it."""
    with pause_at_checkpoint(clone, "packed", LEAVING, log) as training:
        assert reasons_of(clone, "packed", DONE) == ["done"]
        first = attempts_of(clone, "packed", LEAVING)[0]
        cluster.run("scontrol", "requeue", first["slurm_job_id"])
        wait(partial(has_ended, training), log)
    for number in (2, 3):
        wait(partial(is_tried_again, clone, number), log)
        with paused(clone, "packed", LEAVING):
            said = say(clone, "status", "packed", where=ELSEWHERE)
            assert f"{LEAVING} running" in said and f"{DONE} done" in said, said
            *_, now = attempts_of(clone, "packed", LEAVING)
            assert now["slurm_job_id"] == first["slurm_job_id"]
            if number == 2:
                node = now["slurm_node"]
                cluster.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
            else:
                assert now["slurm_node"] != node
                cluster.run("scancel", now["slurm_job_id"])
            wait(partial(has_ended, now["pid"]), log)
    undrain(cluster, node)


def is_tried_again(clone: Clone, number: int) -> bool:
    """Tell whether an attempt of this number at the cell that is to leave is under way."""
    return len(attempts_of(clone, "packed", LEAVING)) == number and is_running(clone, "packed", LEAVING)


def let_the_next_job_lose_what_starts_the_cells(clone: Clone, log: Path) -> None:
    """Kill the process that starts the cells, while one is trained."""
    wait(lambda: len(packs_of(clone, "packed")) == 2 and trained_now(clone, "packed"), log)
    task = trained_now(clone, "packed")
    with paused(clone, "packed", task):
        training = attempts_of(clone, "packed", task)[-1]["pid"]
        os.kill(process_of_pack(training), signal.SIGKILL)
    wait(lambda: len(packs_of(clone, "packed")) == 3, log)


def check_what_is_told(clone: Clone, log: Path) -> None:
    """Look at the end of the call: what is done was done once, or went on; the others say why they are not."""
    causes = {task: causes_of(clone, "packed", task) for task in TASKS}
    assert causes[DONE] == causes[SHORT] == [Cause.DONE], causes
    assert causes[CANCELLED] == [Cause.SIGTERM] and causes[NOT_BEGUN] == [], causes
    assert causes[DAMAGED] == [Cause.FAILED], causes
    for task in (KILLED, LEAVING):
        tried = attempts_of(clone, "packed", task)
        assert causes[task].count(Cause.DONE) == 1 and causes[task][-1] == Cause.DONE, causes
        assert never_overlap(tried)
        assert record_of(clone, "packed", task)["attempts"] == len(tried)
        assert record_of(clone, "packed", task)["continued"]
    said = log.read_text(encoding="utf-8")
    last_words = said[said.rindex("Tables: ") :]
    both = "|".join(CELL.format(task=task) for task in (CANCELLED, NOT_BEGUN))
    assert re.search(f"FAILED ({both}) and 1 more: cancelled by make cancel", last_words)
    assert re.search(f"FAILED {CELL.format(task=DAMAGED)}: .* has changed since it was staged", last_words)
    assert last_words.count("FAILED") == 2
    assert "4 of 7" in table_of(clone, "packed")


def test_refused_packs_killed_heads_and_several_heads_at_once(clone, cluster, tmp_path):
    """Whoever calls again waits in the queue for the pack that a killed head has left, and uses its results."""
    pack_everything(clone)
    tasks = ("rte", "cola", "wnli")
    clone.write_experiment("heads", {"rte": {"num_train_epochs": 40}, **{task: TASKS[task] for task in tasks[1:]}})
    account = ("slurm_account=nobody", "mem_mb=4000", "runtime=60")
    refused = clone.snakemake(*ONE_PACK, "--default-resources", *account)
    assert refused.returncode == 1
    last = refused.stdout[refused.stdout.rindex("Tables: ") :]
    cells = "|".join(CELL.format(task=task) for task in tasks)
    why = "SLURM took no job for it: sbatch: error: .*Invalid account"
    assert re.search(f"FAILED ({cells}) and 2 more: {why}", last), last
    assert not jobs_of_packs(cluster, clone, "_3_cells")

    logs = [tmp_path / f"head-{number}.log" for number in range(3)]
    killed = start_head(clone, logs[0], *ONE_PACK)
    with pause_at_checkpoint(clone, "heads", "rte", logs[0]):
        killed.kill()
        killed.wait()
        last, interrupted = (start_head(clone, log, *ONE_PACK) for log in logs[1:])
        wait(lambda: sum("afterany" in line for line in in_queue(cluster, "--format=%E")) == 2, logs[1])
        interrupted.send_signal(signal.SIGINT)
        assert ended(interrupted, logs[2]) == 1
        said = logs[2].read_text(encoding="utf-8")
        assert said.rstrip().splitlines()[-1] == "Stopped, goes on with the next call (0 of 3 cells are done)"
        assert said.count("FAILED") == 1 and "rte/base/seed-42: killed, or still running" in said, said
        assert wait_until(lambda: len(in_queue(cluster)) == 2)
    assert ended(last, logs[1]) == 0
    assert "3 of 3" in table_of(clone, "heads")
    trained_by = {attempts_of(clone, "heads", task)[0]["slurm_job_id"] for task in tasks}
    assert [reasons_of(clone, "heads", task) for task in tasks] == [["done"]] * 3
    assert len(trained_by) == 1
