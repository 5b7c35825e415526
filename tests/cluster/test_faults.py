"""Every fault that SLURM and its users have in store, on a real SLURM (tests/cluster): what it costs, and what not."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from clones import Clone
from cluster import Cluster, wait_until
from slurm_grid import (
    CELL,
    MINE,
    SLURM,
    attempts_of,
    folder_of_cell,
    has_checkpoint,
    in_queue,
    is_running,
    jobs_of,
    reasons_of,
    record_of,
    start_head,
    table_of,
)

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

from pretended_trainings import pretend_trainings, set_seconds

pytestmark = pytest.mark.cluster


@pytest.fixture
def clone(clone_on_cluster: Clone) -> Iterator[Clone]:
    """The demo with all staged and nothing trained; a head that a failed test has left behind is ended."""
    yield clone_on_cluster
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            is_ours = (process / "cwd").readlink() == clone_on_cluster.root
        except OSError:
            continue
        if is_ours and b"--profile" in command:
            os.kill(int(process.name), signal.SIGKILL)


@pytest.fixture(autouse=True)
def whole_cluster(cluster: Cluster) -> Iterator[None]:
    """Leave the cluster as it was: nothing queued, every daemon and node up."""
    yield
    for daemon in ("slurmdbd", "slurmctld"):
        if not cluster._pids(daemon):
            cluster.launch(daemon)
    cluster.run("scontrol", "update", "partitionname=gpu", "state=up")
    cluster.run("scancel", "--user=root")
    for node in ("gpu1", "gpu2", "gpu3", "gpu4"):
        if "idle" not in cluster.run("sinfo", "--noheader", f"--nodes={node}", "--partition=gpu", "--format=%T"):
            cluster._call("scontrol", "update", f"nodename={node}", "state=resume")
    assert wait_until(lambda: in_queue(cluster) == [""], 300)


def drain(cluster: Cluster, *nodes: str) -> None:
    """Let no job start on these nodes."""
    for node in nodes:
        cluster.run("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")


def undrain(cluster: Cluster, *nodes: str) -> None:
    """Let jobs start on these nodes again."""
    for node in nodes:
        cluster.run("scontrol", "update", f"nodename={node}", "state=resume")


@contextmanager
def full_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    """Let a folder lie on a disk of this size."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def wait(condition, seconds: float, log: Path) -> None:
    """Wait until something is so; else show what the head has said."""
    assert wait_until(condition, seconds), log.read_text(encoding="utf-8")[-5000:]


def ended(head: subprocess.Popen, seconds: float, log: Path) -> int:
    """Wait for the end of a head; else show what it has said."""
    wait(lambda: head.poll() is not None, seconds, log)
    return head.returncode


def refusals(log: Path) -> list[str]:
    """Return what a head has said of cells that SLURM took no job for, and that are tried again."""
    return [line for line in log.read_text(encoding="utf-8").splitlines() if "SLURM refuses a job of train" in line]


def never_overlap(attempts: list[dict]) -> bool:
    """Tell whether each attempt began after the one before had ended."""
    ends = [attempt["end"] or attempt["start"] for attempt in attempts]
    return all(end <= later["start"] for end, later in zip(ends, attempts[1:], strict=False))


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


def test_time_memory_and_disks_run_out(clone, cluster, tmp_path):
    """One head, since cells that fail wait for each other: time limit, memory, full disks, all attempts failed."""
    log = tmp_path / "head.log"
    # One minute for the first attempt, two for the second, three for the third.
    rule_inputs = "scripts/gluegrid/workflow/rule_inputs.py"
    clone.replace(rule_inputs, "limit_of_attempt(self._estimates.of(self._cell(wildcards)), attempt)", "attempt")
    clone.replace(
        rule_inputs,
        "self._estimates.of(self._cell(wildcards)).memory_in_mb * attempt",
        '300 * attempt**3 if wildcards.task == "rte" else 8000 * attempt',
    )
    one = {"num_train_epochs": 1}
    clone.write_experiment(
        "limits", {"wnli": {"num_train_epochs": 180}, "rte": one, "stsb": one, "mrpc": one, "cola": one}
    )
    state = folder_of_cell(clone, "state", "limits", "stsb")
    results = folder_of_cell(clone, "runs", "limits", "mrpc")
    with full_disk(state, 64), full_disk(results, 8):
        head = start_head(clone, log, *MINE)
        assert ended(head, 420, log) == 1
        said = log.read_text(encoding="utf-8")
        assert reasons_of(clone, "limits", "cola") == ["done"]
        # Time: each attempt gets more, and goes on where the one before was.
        limits = [row[0] for row in jobs_of(cluster, clone, "wnli", "TimelimitRaw")]
        assert limits in (["1", "2"], ["1", "2", "3"]), limits
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
    clone.write_experiment("lost", {task: {"num_train_epochs": 25} for task in tasks})
    preemptible = ("--default-resources", "slurm_partition=low", "mem_mb=4000", "runtime=60")
    head = start_head(clone, log, *MINE, *preemptible)
    wait(lambda: all(has_checkpoint(clone, "lost", task) for task in tasks), 300, log)
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
    assert ended(head, 300, log) == 0
    undrain(cluster, down)
    for task in tasks:
        tried = attempts_of(clone, "lost", task)
        assert [row[0] for row in jobs_of(cluster, clone, task, "JobIDRaw")] == [jobs[task]]
        assert {attempt["slurm_job_id"] for attempt in tried} == {jobs[task]}
        assert tried[-1]["reason"] == "done"
        assert never_overlap(tried), tried
        record = record_of(clone, "lost", task)
        assert record["attempts"] == len(tried)
        was_hit = task == hit or running[task]["slurm_node"] in (down, preempted)
        assert (len(tried) > 1) == was_hit, (task, tried)
        if was_hit:
            assert record["continued"], record
        if running[task]["slurm_node"] == down:
            assert tried[-1]["slurm_node"] != down


def test_cancelled_cells_and_interrupted_heads(clone, cluster, tmp_path):
    log = tmp_path / "head.log"
    clone.write_experiment("stopped", {"wnli": {"num_train_epochs": 100}, "rte": {"num_train_epochs": 30}})
    head = start_head(clone, log, *MINE)
    wait(lambda: all(has_checkpoint(clone, "stopped", task) for task in ("wnli", "rte")), 300, log)
    # scancel: noticed, and tried again; make cancel: not tried again.
    cluster.run("scancel", attempts_of(clone, "stopped", "wnli")[0]["slurm_job_id"])
    make = ["make", "--old-file=.venv/installed", "cancel", f"CELL={CELL.format(task='rte')}"]
    (clone.root / ".venv").unlink(missing_ok=True)
    (clone.root / ".venv").symlink_to(sys.prefix)
    done = subprocess.run(make, cwd=clone.root, env=clone.full_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "of stopped: SLURM job " in done.stdout
    wait(lambda: len(attempts_of(clone, "stopped", "wnli")) == 2, 300, log)
    # A site's warning before the time limit: the work is saved, and the next attempt goes on.
    wait(lambda: is_running(clone, "stopped", "wnli") and has_checkpoint(clone, "stopped", "wnli"), 300, log)
    cluster.run("scancel", "--signal=USR1", attempts_of(clone, "stopped", "wnli")[1]["slurm_job_id"])
    wait(lambda: len(attempts_of(clone, "stopped", "wnli")) == 3, 300, log)
    assert reasons_of(clone, "stopped", "wnli")[1].startswith("stopped by SIGUSR1")
    # A signal to the head alone, and once more: no job is left, and the tables say what became of each.
    for _ in range(2):
        head.send_signal(signal.SIGINT)
        time.sleep(0.2)
    assert ended(head, 300, log) != 0
    assert wait_until(lambda: in_queue(cluster) == [""], 300), in_queue(cluster)
    assert f"FAILED {CELL.format(task='rte')}: cancelled by make cancel" in log.read_text(encoding="utf-8")
    assert reasons_of(clone, "stopped", "wnli")[-1] != "done"
    assert len(attempts_of(clone, "stopped", "rte")) == 1
    assert wait_until(lambda: not is_running(clone, "stopped", "wnli"), 300)
    # The same command finishes both, also twice at once: each cell is trained by one, and the other's job waits for it.
    beside = start_head(clone, tmp_path / "beside.log", *MINE)
    done = clone.snakemake(*MINE)
    assert done.returncode == 0, done.stdout
    assert ended(beside, 120, tmp_path / "beside.log") == 0
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
    longer = {"num_train_epochs": 20}
    clone.write_experiment("killed", {task: {"num_train_epochs": 1} if task == "wnli" else longer for task in tasks})
    head = start_head(clone, log, *MINE)

    def are_done() -> set[str]:
        return {task for task in tasks if reasons_of(clone, "killed", task) == ["done"]}

    def is_in_the_midst() -> bool:
        pending = in_queue(cluster, "--states=pending", "--format=%i")
        return bool(are_done() and any(pending) and any(is_running(clone, "killed", task) for task in tasks))

    wait(is_in_the_midst, 300, log)
    head.send_signal(signal.SIGKILL)
    head.wait()
    left, done = in_queue(cluster), are_done()
    second = start_head(clone, log, *MINE)
    wait(lambda: "\n".join(in_queue(cluster, "--format=%E")).count("afterany") >= 1, 300, log)
    undrain(cluster, "gpu2", "gpu3", "gpu4")
    assert ended(second, 240, log) == 0, log.read_text()
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
        heads[name] = start_head(clone, logs[name], *SLURM, "--configfile", f"{name}.yaml")
    wait(lambda: len(in_queue(cluster)) == 4, 300, logs["first"])
    (clone.root / "first.yaml").write_text("experiment: [broken", encoding="utf-8")
    clone.replace("second.yaml", "  stsb:", "  qqp:")
    clone.replace("Snakefile", "rule all:", "rule all rules")
    clone.replace("rules/train.smk", "rule train:", "rule train(:")
    clone.replace("scripts/train.py", "def main()", "def main(")
    shutil.rmtree(clone.root / "schemas")
    undrain(cluster, "gpu1", "gpu2", "gpu3", "gpu4")
    for name in heads:
        assert ended(heads[name], 300, logs[name]) == 0, logs[name].read_text()
        assert "2 of 2" in table_of(clone, name)
    fetched = [path.read_text() for path in clone.root.glob("results/*/logs/fetch_*/*.log")]
    assert len(fetched) == 6
    assert sum("1 of " in text for text in fetched) == 4, fetched


def test_slurm_refuses_jobs_and_its_daemons_die(clone, cluster, tmp_path):
    log = tmp_path / "head.log"
    tasks = ("rte", "wnli")
    clone.write_experiment("silent", {task: {"num_train_epochs": 30} for task in tasks})
    # No partition is named, for which the plugin would ask the controller before it submits.
    cluster.kill("slurmctld")
    head = start_head(clone, log, *MINE, "--jobs", "1", "--default-resources", "mem_mb=4000", "runtime=60")
    wait(lambda: len(refusals(log)) >= 1, 300, log)
    assert "Unable to contact slurm controller" in refusals(log)[0]
    cluster.launch("slurmctld")
    wait(lambda: any(is_running(clone, "silent", task) for task in tasks), 300, log)
    first = len(refusals(log))
    cluster.run("scontrol", "update", "partitionname=gpu", "state=inactive")
    wait(lambda: len(refusals(log)) >= first + 2, 400, log)
    said = refusals(log)[first : first + 2]
    assert [line.rpartition(" in ")[2] for line in said] == ["5 s", "10 s"]
    assert "Required partition not available" in said[0]
    cluster.run("scontrol", "update", "partitionname=gpu", "state=up")
    wait(lambda: any(is_running(clone, "silent", task) for task in tasks), 300, log)
    # What a controller has not saved is another fault (tests/cluster/README.md); so the job is in its midst.
    time.sleep(7)
    assert any(is_running(clone, "silent", task) for task in tasks)
    for daemon in ("slurmdbd", "slurmctld"):
        cluster.kill(daemon)
    time.sleep(60)
    assert head.poll() is None, log.read_text()
    # In this order: a controller starts only with an accounting.
    cluster.launch("slurmdbd")
    cluster.launch("slurmctld")
    assert ended(head, 300, log) == 0, log.read_text()
    assert "SLURM does not answer" in log.read_text()
    assert "2 of 2" in table_of(clone, "silent")
    for task in tasks:
        assert reasons_of(clone, "silent", task) == ["done"]
        assert len(jobs_of(cluster, clone, task)) == 1


def test_each_task_of_an_array_job_ends_as_its_own_cell_does(clone, cluster, tmp_path):
    """Of 14 equal cells the first ends last but one, then one is killed, at each attempt; one job is cancelled."""
    log = tmp_path / "head.log"
    hold_trainings(clone)
    clone.write_experiment("array", {"rte": {"num_train_epochs": 1}})
    with (clone.root / "mine.yaml").open("a", encoding="utf-8") as stream:
        stream.write(f"seeds: {[*range(1, 15)]}\n")
    head = start_head(clone, log, *MINE, "--slurm-array-jobs", "train", "--max-jobs-per-timespan", "100/1s")
    states = folder_of_cell(clone, "state", "array", "rte").parent
    wait(lambda: len([*states.glob("*/slurm_job.json")]) == 14, 300, log)
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
    wait(lambda: cancelled in launches(), 300, log)
    cluster.run("scancel", tasks[cancelled])
    let_go(clone, *tasks.keys() - {first, killed})
    wait(lambda: launches()[cancelled] == 2 and queued() == {tasks[first], tasks[killed]}, 300, log)
    # All that may end has ended as it should, though the first of them has no result yet.
    wait(lambda: ended_jobs() == {"COMPLETED": 12, "CANCELLED by 0": 1}, 300, log)
    let_go(clone, first)
    wait(lambda: queued() == {tasks[killed]}, 300, log)
    let_go(clone, killed)
    assert ended(head, 300, log) == 1
    # What was killed has deleted nothing of the others, and is tried again by itself, with more time each time.
    assert "13 of 14" in table_of(clone, "array")
    assert launches() == {cell: {cancelled: 2, killed: 3}.get(cell, 1) for cell in tasks}
    wait(lambda: ended_jobs() == {"COMPLETED": 13, "CANCELLED by 0": 1, "FAILED": 3}, 300, log)
    jobs = jobs_of(cluster, clone, "rte", "State", "TimelimitRaw")
    limits = [int(limit) for state, limit in jobs if state == "FAILED"]
    assert limits == sorted({*limits}), limits
