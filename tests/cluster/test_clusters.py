"""Two clusters of one site, reached by `--clusters`: each with a controller and numbers of its own, on this machine."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from clones import Clone
from cluster import Cluster, start_beside
from slurm_grid import (
    CELL,
    MINE,
    attempts_of,
    ended,
    folder_of_cell,
    in_queue,
    pause_at_checkpoint,
    record_of,
    start_head,
    wait,
)
from waiting import wait_until

from gluegrid.common.files import read_json

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def other(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The other cluster: the head's is the first."""
    other = start_beside(cluster, tmp_path_factory.mktemp("other") / "cluster")
    yield other
    other.stop()


def command(clone: Clone, *arguments: str) -> str:
    """Return, on one line, what a command behind `make` says."""
    done = subprocess.run(
        [sys.executable, "scripts/commands.py", *arguments],
        cwd=clone.root, env=clone.full_environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return " ".join(done.stdout.split())


def job_of(clone: Clone, experiment: str, task: str) -> str:
    return read_json(folder_of_cell(clone, "state", experiment, task) / "slurm_job.json")["slurm_job_id"]


def in_clusters(value: str) -> tuple[str, str]:
    return "--set-resources", f"train:clusters={value}"


def test_each_cell_is_trained_in_the_cluster_that_was_asked_for_from_copies_there(clone, cluster, other):
    """And what it reads is copied: SLURM_TMPDIR is known to the job alone, and dropped on the way to the cell."""
    clone.write_experiment("apart", {"rte": {"num_train_epochs": 1}, "wnli": {"num_train_epochs": 1}})
    disk = clone.root / "disk-of-the-node"
    disk.mkdir()
    clone.environment["SLURM_TMPDIR"] = str(disk)
    choice = f"'{other.name}' if wildcards.task == 'rte' else '{cluster.name}'"
    done = clone.snakemake(*MINE, *in_clusters(choice), "train:scratch=$SLURM_TMPDIR")
    assert done.returncode == 0, done.stdout
    for task, where in (("rte", other), ("wnli", cluster)):
        number, _, name = job_of(clone, "apart", task).partition(";")
        assert name == where.name
        assert record_of(clone, "apart", task)["job"]["slurm_job_id"] == f"{number};{name}"
        asked = ("--allocations", "--starttime=now-1day", "--noheader", "--format=State%20", f"--jobs={number}")
        # Its slurmctld may not have told the accounting yet.
        assert wait_until(
            lambda asked=asked, name=name: cluster.run("sacct", *asked, f"--clusters={name}") == "COMPLETED"
        )
        log = (clone.root / "results/apart/logs/train" / f"{CELL.format(task=task)}.log").read_text(encoding="utf-8")
        # The model's copy, the other cell may have made.
        assert re.search(f"scratch: copied resources/tokens/.*{task}.* to {disk}/", log), log
        assert "read in place" not in log
    assert not [path for path in disk.rglob("*") if path.is_file()]


def test_a_job_in_another_cluster_is_waited_for_shown_and_cancelled(clone, cluster, other, tmp_path):
    clone.write_experiment("away", {"wnli": {"num_train_epochs": 60}})
    log = tmp_path / "head.log"
    # As a site may set it for all that its users do.
    clone.environment["SLURM_CLUSTERS"] = other.name
    head = start_head(clone, log, *MINE)
    with pause_at_checkpoint(clone, "away", "wnli", log):
        follow_it_elsewhere(clone, cluster, other, head, log)


def follow_it_elsewhere(clone: Clone, cluster: Cluster, other: Cluster, head: subprocess.Popen, log: Path) -> None:
    """Kill the call whose job trains in the other cluster; let the next one wait for that job, and cancel it."""
    head.send_signal(signal.SIGKILL)
    head.wait()
    first = job_of(clone, "away", "wnli")
    del clone.environment["SLURM_CLUSTERS"]
    assert "wnli running" in command(clone, "status")
    # The next call may choose between both, and waits where the first job is.
    head = start_head(clone, log, *MINE, *in_clusters(f"{cluster.name},{other.name}"))
    wait(lambda: job_of(clone, "away", "wnli") != first, log)
    second = job_of(clone, "away", "wnli")
    assert second.partition(";")[2] == other.name
    numbers = {number: f"{number};{other.name}" for number in in_queue(other)}
    assert {*numbers.values()} == {first, second}
    assert in_queue(other, "--states=pending", "--format=%E")[0].startswith(f"afterany:{first.partition(';')[0]}(")
    head.send_signal(signal.SIGINT)
    ended(head, log)
    assert f"{in_queue(other)[0]};{other.name}" == first
    said = command(clone, "cancel", CELL.format(task="wnli"))
    assert f"SLURM job {first} was cancelled" in said
    wait(lambda: in_queue(other) == [""], log)
    assert attempts_of(clone, "away", "wnli")[-1]["slurm_job_id"] == first
