"""Grids with simulated trainings (pretended_training.py); Snakemake, the profile and SLURM are real."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[1] / folder) for folder in ("tests/support", "tests/cluster"))

import yaml
from clones import Clone, clone_into
from cluster import Cluster, environment_of, name_of, processes_and_parents, start

PROJECT = Path(__file__).resolve().parents[1]
MODEL = "bert-demo-small"
CONFIG = "benchmark.yaml"
FIELDS = ("JobID", "State", "Submit", "Start", "End", "Comment%200")


@dataclass(frozen=True)
class Job:
    """A job as sacct lists it. Times are seconds since 1970; `cell` is <model>/<task>/<variant>/seed-<seed>."""

    number: int
    state: str
    submitted: float
    started: float
    ended: float
    cell: str


@dataclass(frozen=True)
class Call:
    """A call of snakemake: exit code, output, wall-clock seconds, and the CPU time and memory of its processes."""

    exit_code: int
    output: str
    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int

    def errors(self) -> list[str]:
        """Return the lines of the output that report an error or a failed cell."""
        marks = ("error", "failed", "traceback")
        return [line for line in self.output.splitlines() if any(mark in line.lower() for mark in marks)]


@contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """Start the test cluster (as root), and stop it afterwards."""
    cluster = start(folder / "cluster")
    try:
        yield cluster
    finally:
        cluster.stop()


def processor_seconds_of_controller(cluster: Cluster) -> Callable[[], float]:
    """Return a function that returns the CPU seconds of slurmctld since this call."""
    marks = {"GLUEGRID_DAEMON=slurmctld", f"SLURM_CLUSTER_NAME={cluster.name}"}
    (pid,) = (pid for pid in processes_and_parents() if name_of(pid) == "slurmctld" and marks <= environment_of(pid))

    def seconds() -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before = seconds()
    return lambda: seconds() - before


def staged_clone(folder: Path, cluster: Cluster, config: Mapping) -> Clone:
    """Return a clone on the cluster with the demo's inputs staged and trainings simulated."""
    clone = clone_into(folder / "clone")
    clone.environment.update(cluster.environment)
    subprocess.run([sys.executable, "demo/generate.py"], cwd=clone.root, check=True, capture_output=True)
    (clone.root / CONFIG).write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
    done = clone.snakemake("stage", "--profile", "profiles/local", "--configfile", CONFIG)
    if done.returncode != 0:
        sys.exit(done.stdout)
    pretend_trainings(clone.root)
    return clone


def pretend_trainings(clone: Path) -> None:
    """Let scripts/launch.sh of a clone start the simulated training instead of a real one."""
    shutil.copy(PROJECT / "benchmarks/pretended_training.py", clone / "scripts")
    launch = '#!/usr/bin/env bash\nexec python "${BASH_SOURCE[0]%/*}/pretended_training.py" "$@"\n'
    (clone / "scripts/launch.sh").write_text(launch, encoding="utf-8")


def set_seconds(clone: Path, seconds: Mapping[str, float]) -> None:
    """Let the cells of <model>/<task> take this many seconds."""
    (clone / "pretended_seconds.json").write_text(json.dumps(dict(seconds)), encoding="utf-8")


def grid(experiment: str, **values: object) -> dict:
    """Return the experiment file of an experiment with the demo's model on the CPU."""
    return {
        "experiment": experiment,
        "models": {MODEL: {"source": f"./demo/generated/models/{MODEL}"}},
        "task_defaults": {"source": "./demo/generated/glue"},
        "per_device_train_batch_size": 16,
        "max_seq_length": 32,
        "device": "cpu",
        "threads": 1,
    } | values


def call_snakemake(clone: Clone, *arguments: str) -> Call:
    """Call snakemake in a clone and measure it; simulated trainings are not packed."""
    log = clone.root / "head.log"
    began = time.monotonic()
    with log.open("w", encoding="utf-8") as stream:
        head = subprocess.Popen(
            clone.command("--configfile", CONFIG, "--set-resources", "train:pack_minutes=0", *arguments),
            cwd=clone.root,
            env=clone.full_environment(),
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    _, status, used = os.wait4(head.pid, 0)
    head.returncode = os.waitstatus_to_exitcode(status)
    return Call(
        exit_code=head.returncode,
        output=log.read_text(encoding="utf-8", errors="replace"),
        seconds=time.monotonic() - began,
        cpu_seconds=used.ru_utime + used.ru_stime,
        peak_memory_bytes=1024 * used.ru_maxrss,
    )


def train_jobs(cluster: Cluster, since: int = 0) -> list[Job]:
    """Return the jobs that trained cells, in order of submission, with numbers above `since`."""
    jobs = [_job(*row) for row in cluster.accounting(*FIELDS) if row[-1].startswith("rule_train_wildcards_")]
    return sorted((job for job in jobs if job.number > since), key=lambda job: job.number)


def _job(number: str, state: str, submitted: str, started: str, ended: str, comment: str) -> Job:
    model, task, variant, seed = comment.removeprefix("rule_train_wildcards_").split("_")
    times = (datetime.fromisoformat(text).timestamp() for text in (submitted, started, ended))
    return Job(int(number), state, *times, f"{model}/{task}/{variant}/seed-{seed}")
