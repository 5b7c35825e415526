"""A clone on the login node of the test cluster; each test leaves the cluster as it found it."""

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from clones import Clone, copy_of
from cluster import Cluster
from slurm_configuration import NODES
from slurm_grid import in_queue, undrain
from waiting import wait_until


@pytest.fixture
def clone(demo: Clone, cluster: Cluster, tmp_path: Path) -> Iterator[Clone]:
    """The demo, staged and not trained; afterwards no controller or job is left, and all daemons and nodes are up."""
    clone = copy_of(demo, tmp_path / "clone")
    shutil.rmtree(clone.root / "results")
    clone.environment.update(cluster.environment)
    yield clone
    kill_heads_in(clone.root)
    mend(cluster)


def kill_heads_in(folder: Path) -> None:
    """Kill the calls of snakemake that a failed test left behind."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            is_ours = (process / "cwd").readlink() == folder
        except OSError:
            continue
        if is_ours and b"--profile" in command:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process.name), signal.SIGKILL)


def mend(cluster: Cluster) -> None:
    """Restart killed daemons, cancel queued jobs, and let jobs start on all nodes."""
    for daemon in ("slurmdbd", "slurmctld"):
        if not cluster._pids(daemon):
            cluster.launch(daemon)
    cluster.run("scontrol", "update", "partitionname=gpu", "state=up")
    cluster.run("scancel", "--user=root")
    assert wait_until(lambda: in_queue(cluster) == [""])
    for node in NODES:
        state = cluster.run("sinfo", "--noheader", f"--nodes={node}", "--partition=gpu", "--format=%T")
        if state.startswith(("down", "drain")):
            undrain(cluster, node)
