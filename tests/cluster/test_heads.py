"""What users do to heads and cells, on a real SLURM (tests/cluster): what it costs, and what not."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from clones import Clone
from slurm_grid import (
    ALONE,
    CELL,
    MINE,
    SLURM,
    attempts_of,
    drain,
    ended,
    folder_of_cell,
    has_checkpoint,
    in_queue,
    is_running,
    jobs_of,
    never_overlap,
    pause_all_at_checkpoints,
    paused,
    reasons_of,
    record_of,
    start_head,
    table_of,
    undrain,
    wait,
)
from waiting import wait_until

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

from pretended_trainings import pretend_trainings, set_seconds

pytestmark = pytest.mark.cluster


# A training in its place, that waits until it may go on, and is killed where it is to be.
HELD_LAUNCH = """\
#!/usr/bin/env bash
cell=$(grep --only-matching 'seed-[0-9]*' <<<"$*" | head -n 1)
echo "$cell" >> launches
until [[ -e let-go/$cell ]]; do sleep 0.1; done
if [[ -e doomed/$cell ]]; then kill -KILL $$; fi
exec bash "${BASH_SOURCE[0]%/*}/pretended_launch.sh" "$@"
"""


def hold_trainings(clone: Clone) -> None:
    """Let the trainings of a clone be pretended, and end when `let_go` says so."""
    pretend_trainings(clone.root)
    launch = clone.root / "scripts/launch.sh"
    launch.rename(launch.with_name("pretended_launch.sh"))
    launch.write_text(HELD_LAUNCH, encoding="utf-8")
    set_seconds(clone.root, {"bert-demo-small/rte": 0})
    for folder in ("let-go", "doomed"):
        (clone.root / folder).mkdir()


def let_go(clone: Clone, *cells: str) -> None:
    """Let the trainings of these cells end, each named seed-<seed>."""
    for cell in cells:
        (clone.root / "let-go" / cell).touch()


def test_cancelled_cells_and_interrupted_heads(clone, cluster, tmp_path):
    log = tmp_path / "head.log"
    clone.write_experiment("stopped", {"wnli": {"num_train_epochs": 100}, "rte": {"num_train_epochs": 30}})
    head = start_head(clone, log, *MINE)
    with contextlib.ExitStack() as pauses:
        pause_all_at_checkpoints(pauses, clone, "stopped", ("wnli", "rte"), log)
        # scancel: noticed, and tried again; make cancel: not tried again.
        cluster.run("scancel", attempts_of(clone, "stopped", "wnli")[0]["slurm_job_id"])
        make = ["make", "--old-file=.venv/installed", "cancel", f"CELL={CELL.format(task='rte')}"]
        (clone.root / ".venv").unlink(missing_ok=True)
        (clone.root / ".venv").symlink_to(sys.prefix)
        done = subprocess.run(make, cwd=clone.root, env=clone.full_environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "of stopped: SLURM job " in done.stdout
    wait(lambda: len(attempts_of(clone, "stopped", "wnli")) == 2, log)
    # A site's warning before the time limit: the work is saved, and the next attempt goes on.
    wait(lambda: is_running(clone, "stopped", "wnli") and has_checkpoint(clone, "stopped", "wnli"), log)
    cluster.run("scancel", "--signal=USR1", attempts_of(clone, "stopped", "wnli")[1]["slurm_job_id"])
    wait(lambda: len(attempts_of(clone, "stopped", "wnli")) == 3, log)
    assert reasons_of(clone, "stopped", "wnli")[1].startswith("stopped by SIGUSR1")
    # A signal to the head alone, and once more: no job is left, and the tables say what became of each.
    head.send_signal(signal.SIGINT)
    wait(lambda: "Stopping; running cells" in log.read_text(encoding="utf-8"), log)
    head.send_signal(signal.SIGINT)
    assert ended(head, log) != 0
    assert wait_until(lambda: in_queue(cluster) == [""]), in_queue(cluster)
    said = log.read_text(encoding="utf-8")
    assert f"FAILED {CELL.format(task='rte')}: cancelled by make cancel" in said
    assert f"STOPPED {CELL.format(task='wnli')}: " in said
    assert said.rstrip().splitlines()[-1] == "Stopped, goes on with the next call (0 of 2 cells are done)"
    assert "Traceback" not in said[said.index("Stopping; running cells") :]
    assert reasons_of(clone, "stopped", "wnli")[-1] != "done"
    assert len(attempts_of(clone, "stopped", "rte")) == 1
    # The same command finishes both, also twice at once: each cell is trained by one, and the other's job waits for it.
    beside = start_head(clone, tmp_path / "beside.log", *MINE)
    done = clone.snakemake(*MINE)
    assert done.returncode == 0, done.stdout
    assert ended(beside, tmp_path / "beside.log") == 0
    assert "2 of 2" in table_of(clone, "stopped")
    for task in ("wnli", "rte"):
        tried = attempts_of(clone, "stopped", task)
        assert [attempt["reason"] for attempt in tried].index("done") == len(tried) - 1
        assert never_overlap(tried)
        assert record_of(clone, "stopped", task)["continued"]


def test_after_the_head_was_killed_the_same_command_waits_for_what_it_left(clone, cluster, tmp_path):
    """On two GPUs: one cell at least is done, some run and some are queued when the head dies."""
    log = tmp_path / "head.log"
    drain(cluster, "gpu2", "gpu3", "gpu4")
    tasks = ("wnli", "rte", "stsb", "mrpc")
    longer = {"num_train_epochs": 30}
    clone.write_experiment("killed", {task: {"num_train_epochs": 1} if task == "wnli" else longer for task in tasks})
    head = start_head(clone, log, *MINE, *ALONE)

    def are_done() -> set[str]:
        return {task for task in tasks if reasons_of(clone, "killed", task) == ["done"]}

    def is_in_the_midst() -> bool:
        pending = in_queue(cluster, "--states=pending", "--format=%i")
        return bool(are_done() and any(pending) and any(is_running(clone, "killed", task) for task in tasks))

    longer_ones = tasks[1:]
    wait(lambda: any(has_checkpoint(clone, "killed", task) for task in longer_ones), log)
    held = next(task for task in longer_ones if has_checkpoint(clone, "killed", task))
    with paused(clone, "killed", held):
        drain(cluster, "gpu1")  # whoever waits now goes on waiting
        wait(is_in_the_midst, log)
        head.send_signal(signal.SIGKILL)
        head.wait()
        left, done = in_queue(cluster), are_done()
        second = start_head(clone, log, *MINE, *ALONE)
        wait(lambda: "\n".join(in_queue(cluster, "--format=%E")).count("afterany") >= 1, log)
        undrain(cluster, "gpu1", "gpu2", "gpu3", "gpu4")
    assert ended(second, log) == 0, log.read_text()
    assert "4 of 4" in table_of(clone, "killed")
    jobs = {task: len(jobs_of(cluster, clone, task)) for task in tasks}
    for task in tasks:
        assert reasons_of(clone, "killed", task) == ["done"], task
        # One that ended between the kill and the second head's plan has one job, too.
        assert jobs[task] in ({1} if task in done else {1, 2}), jobs
    assert 2 in jobs.values()
    trained_by = {attempts_of(clone, "killed", task)[0]["slurm_job_id"] for task in tasks if task not in done}
    assert trained_by <= set(left)


def test_what_is_edited_while_jobs_are_queued_changes_none_of_them(clone, cluster, tmp_path):
    """Two experiments, two heads, started at once with nothing staged; then all that a user may edit is broken."""
    drain(cluster, "gpu1", "gpu2", "gpu3", "gpu4")
    shutil.rmtree(clone.root / "resources")
    heads, logs = {}, {}
    for name, tasks in (("first", ("wnli", "rte")), ("second", ("wnli", "stsb"))):
        clone.write_experiment(name, {task: {"num_train_epochs": 1} for task in tasks})
        (clone.root / "mine.yaml").rename(clone.root / f"{name}.yaml")
        logs[name] = tmp_path / f"{name}.log"
        heads[name] = start_head(clone, logs[name], *SLURM, *ALONE, "--configfile", f"{name}.yaml")
    wait(lambda: len(in_queue(cluster)) == 4, logs["first"])
    (clone.root / "first.yaml").write_text("experiment: [broken", encoding="utf-8")
    clone.replace("second.yaml", "  stsb:", "  qqp:")
    clone.replace("Snakefile", "rule all:", "rule all rules")
    clone.replace("rules/train.smk", "rule train:", "rule train(:")
    clone.replace("scripts/train.py", "def main()", "def main(")
    shutil.rmtree(clone.root / "schemas")
    undrain(cluster, "gpu1", "gpu2", "gpu3", "gpu4")
    for name in heads:
        assert ended(heads[name], logs[name]) == 0, logs[name].read_text()
        assert "2 of 2" in table_of(clone, name)
    fetched = [path.read_text() for path in clone.root.glob("results/*/logs/fetch_*/*.log")]
    # One whose plan was late has found what the other had staged.
    assert sum("1 of " in text for text in fetched) == 4, fetched


def test_each_task_of_an_array_job_ends_as_its_own_cell_does(clone, cluster, tmp_path):
    """Of 14 equal cells the first ends last but one, then one is killed, at each attempt; one job is cancelled."""
    log = tmp_path / "head.log"
    hold_trainings(clone)
    clone.write_experiment("array", {"rte": {"num_train_epochs": 1}})
    with (clone.root / "mine.yaml").open("a", encoding="utf-8") as stream:
        stream.write(f"seeds: {[*range(1, 15)]}\n")
    array = ("--slurm-array-jobs", "train", "--max-jobs-per-timespan", "100/1s")
    head = start_head(clone, log, *MINE, *ALONE, *array)
    states = folder_of_cell(clone, "state", "array", "rte").parent
    wait(lambda: len([*states.glob("*/slurm_job.json")]) == 14, log)
    noted = {path.parent.name: json.loads(path.read_text()) for path in states.glob("*/slurm_job.json")}
    tasks = {cell: content["slurm_job_id"] for cell, content in noted.items()}
    cells = {int(number.partition("_")[2]): cell for cell, number in tasks.items()}
    assert sorted(cells) == [*range(1, 15)]
    first, cancelled, killed = cells[1], cells[2], cells[14]

    def launches() -> Counter[str]:
        path = clone.root / "launches"
        return Counter(path.read_text(encoding="utf-8").split() if path.exists() else ())

    def queued() -> set[str]:
        return {*in_queue(cluster, "--array", "--format=%i")}

    def ended_jobs() -> Counter[str]:
        return Counter(state for (state,) in jobs_of(cluster, clone, "rte", "State") if state != "RUNNING")

    (clone.root / "doomed" / killed).touch()
    wait(lambda: cancelled in launches(), log)
    cluster.run("scancel", tasks[cancelled])
    let_go(clone, *tasks.keys() - {first, killed})
    wait(lambda: launches()[cancelled] == 2 and queued() == {tasks[first], tasks[killed]}, log)
    # All that may end has ended as it should, though the first of them has no result yet.
    wait(lambda: ended_jobs() == {"COMPLETED": 12, "CANCELLED by 0": 1}, log)
    let_go(clone, first)
    wait(lambda: queued() == {tasks[killed]}, log)
    let_go(clone, killed)
    assert ended(head, log) == 1
    # What was killed has deleted nothing of the others, and is tried again by itself, with more time each time.
    assert "13 of 14" in table_of(clone, "array")
    assert launches() == {cell: {cancelled: 2, killed: 3}.get(cell, 1) for cell in tasks}
    wait(lambda: ended_jobs() == {"COMPLETED": 13, "CANCELLED by 0": 1, "FAILED": 3}, log)
    jobs = jobs_of(cluster, clone, "rte", "State", "TimelimitRaw")
    limits = [int(limit) for state, limit in jobs if state == "FAILED"]
    assert limits == sorted({*limits}), limits
