"""`make status` on a real SLURM: what it says while cells run, wait, fail and are killed, with and without a head."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from clones import Clone
from slurm_grid import CELL, LONG_ENOUGH, MINE, drain, folder_of_cell, in_queue, start_head
from waiting import wait_until

pytestmark = pytest.mark.cluster


def status(clone: Clone) -> str:
    """Return what the status of all experiments says, on one line."""
    command = [sys.executable, "scripts/commands.py", "status"]
    done = subprocess.run(command, cwd=clone.root, env=clone.full_environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return " ".join(done.stdout.split())


def wait_for(clone: Clone, *patterns: str) -> str:
    """Wait until the status has all of these regular expressions; return it."""
    said = ""

    def is_said() -> bool:
        nonlocal said
        said = status(clone)
        return all(re.search(pattern, said) for pattern in patterns)

    assert wait_until(is_said), said
    return said


def test_cells_that_run_wait_fail_and_are_killed(clone, cluster, tmp_path):
    drain(cluster, "gpu4")
    clone.write_experiment(
        "watched", {"rte": {"num_train_epochs": LONG_ENOUGH}, "mrpc": {"nodes": 4}, "wnli": {"num_train_epochs": 1}}
    )
    with next(clone.root.glob("resources/tasks/*wnli*/**/train-*.parquet")).open("ab") as stream:
        stream.write(b"damage")
    head = start_head(clone, tmp_path / "head.log", *MINE)
    try:
        assert wait_until(lambda: any(clone.root.glob("results/*/heads/*.json")))
        said = wait_for(
            clone, "rte running [0-9]+ %, loss [0-9.]+, .* left", "mrpc queued Nodes required", "wnli failed "
        )
    finally:
        head.send_signal(signal.SIGKILL)
        head.wait()
    assert f"Snakemake is running: process {head.pid} since " in said
    assert "Cells: 0 done, 1 running, 1 queued, 1 failed, 0 not begun." in said
    assert re.search(f"FAILED {CELL.format(task='wnli')}: .*has changed since it was staged.* log: results/", said)
    # Its jobs run on without it.
    said = status(clone)
    assert "Snakemake is not running; run the same command to continue (3 cells left)." in said
    assert "Cells: 0 done, 1 running, 1 queued, 1 failed, 0 not begun." in said
    # Nothing is left of the process but its lock and its progress.
    lock = folder_of_cell(clone, "state", "watched", "rte") / "lock"
    os.kill(json.loads(lock.read_text(encoding="utf-8"))["pid"], signal.SIGKILL)
    wait_for(clone, "rte stopped at [0-9]+ %, goes on with the next call")
    assert lock.exists()
    cluster.run("scancel", "--user=root")
    assert wait_until(lambda: in_queue(cluster) == [""])
    assert "Cells: 0 done, 0 running, 0 queued, 1 stopped, 1 failed, 1 not begun." in status(clone)
