"""The document's grid, with shorter times, on the test cluster: with gluegrid's priorities, and with equal ones.

Simulated trainings sleep; Snakemake, the profile, the submission and SLURM are real.
"""

import re
import shutil
import statistics
from collections.abc import Mapping
from contextlib import chdir
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import yaml
from pretended_trainings import (
    CONFIG,
    Clone,
    Cluster,
    Job,
    call_snakemake,
    grid,
    running_cluster,
    set_seconds,
    staged_clone,
    train_jobs,
)

from gluegrid.experiment.loading import load_experiment
from gluegrid.operations.estimates import Estimates
from gluegrid.operations.makespan import lower_bound

# Epochs are set so that gluegrid's estimate of a training is this share of the document's time: long compared with the
# start that it adds to each, with few enough epochs.
SHARE_OF_DOCUMENT = 0.1
GPUS_OF_CLUSTER = 8
NAMES = ("by priorities", "all equal")


@dataclass(frozen=True)
class Measured:
    """The jobs of one run of the grid, with the seconds that each training was to take."""

    jobs: list[Job]
    trainings: list[float]
    gpus: int

    @property
    def makespan(self) -> float:
        """Seconds from the first job's start to the last one's end."""
        return max(job.ended for job in self.jobs) - min(job.started for job in self.jobs)

    @property
    def of_jobs(self) -> list[float]:
        """The seconds that each job took, including its start."""
        return [job.ended - job.started for job in self.jobs]

    @property
    def overhead(self) -> float:
        """The median of a job's seconds beyond its training."""
        pairs = zip(self.of_jobs, self.trainings, strict=True)
        return statistics.median(taken - training for taken, training in pairs)

    @property
    def pairs_out_of_order(self) -> int:
        """How often a shorter training was submitted before a longer one."""
        return sum(before < after for before, after in combinations(self.trainings, 2))

    @property
    def place_of_longest(self) -> int:
        """The position, from 1, at which the longest training was submitted."""
        return 1 + self.trainings.index(max(self.trainings))


def measure(folder: Path, times: Mapping[tuple[str, str], float], gpus: int, longest: float) -> str:
    """Run the grid twice and return a Markdown table. `times` are seconds by model source and task.

    Another user's jobs occupy the cluster's other GPUs.
    """
    lengths = {f"{source.rpartition('/')[2]}/{task}": seconds for (source, task), seconds in times.items()}
    seconds = {kind: length * longest / max(lengths.values()) for kind, length in lengths.items()}
    with running_cluster(folder) as cluster:
        for _ in range(GPUS_OF_CLUSTER - gpus):
            cluster.run("sbatch", "--gpus=1", "--mem=100", "--output=/dev/null", "--wrap=sleep infinity")
        clone = staged_clone(folder, cluster, config(list(lengths)))
        set_seconds(clone.root, seconds)
        tell_lengths(clone.root, lengths)
        measured = [run(clone, cluster, seconds, gpus)]
        make_priorities_equal(clone.root)
        measured.append(run(clone, cluster, seconds, gpus))
    return table(dict(zip(NAMES, measured, strict=True)))


def config(kinds: list[str]) -> dict:
    """Return an experiment of models and tasks with these names; all models are the demo's."""
    names = [kind.split("/") for kind in kinds]
    of_demo = grid("makespan")
    (model,) = of_demo["models"].values()
    models = {name: dict(model) for name, _ in names}
    return of_demo | {"models": models, "tasks": {task: None for _, task in names}}


def tell_lengths(clone: Path, lengths: Mapping[str, float]) -> None:
    """Set each cell's epochs so that gluegrid's estimate is SHARE_OF_DOCUMENT of its length."""
    path = clone / CONFIG
    content = yaml.safe_load(path.read_text(encoding="utf-8")) | {"num_train_epochs": 1}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with chdir(clone):
        experiment = load_experiment(Path(CONFIG))
        estimates = Estimates(experiment, [])
        cells: dict[str, dict] = {}
        for cell in experiment.cells.values():
            length = SHARE_OF_DOCUMENT * lengths[f"{cell.model}/{cell.task}"]
            epochs = length / estimates.of(cell).train_seconds
            cells.setdefault(cell.model, {})[cell.task] = {"num_train_epochs": round(epochs, 3)}
    path.write_text(yaml.safe_dump(content | {"cells": cells}), encoding="utf-8")


def make_priorities_equal(clone: Path) -> None:
    """Remove the priorities from a clone's rules, and its results."""
    for rules in (clone / "rules").glob("*.smk"):
        text = rules.read_text(encoding="utf-8")
        rules.write_text(re.sub(r"^ +priority: .*\n", "", text, flags=re.MULTILINE), encoding="utf-8")
    shutil.rmtree(clone / "results")


def run(clone: Clone, cluster: Cluster, seconds: Mapping[str, float], gpus: int) -> Measured:
    """Run the grid and return its jobs in order of submission."""
    last = max((job.number for job in train_jobs(cluster)), default=0)
    call = call_snakemake(clone, "--profile", "slurm")
    if call.exit_code != 0:
        raise SystemExit(call.output)
    jobs = train_jobs(cluster, since=last)
    return Measured(jobs, [seconds["/".join(job.cell.split("/")[:2])] for job in jobs], gpus)


def table(runs: Mapping[str, Measured]) -> str:
    """Return both runs side by side as Markdown."""
    rows = {
        "jobs": lambda run: len(run.jobs),
        "GPUs": lambda run: run.gpus,
        "first start to last end, s": lambda run: f"{run.makespan:.0f}",
        "lower bound of the trainings, s": lambda run: f"{lower_bound(run.trainings, run.gpus):.0f}",
        "ratio": lambda run: f"{run.makespan / lower_bound(run.trainings, run.gpus):.2f}",
        "lower bound of the jobs as they were, s": lambda run: f"{lower_bound(run.of_jobs, run.gpus):.0f}",
        "ratio to that": lambda run: f"{run.makespan / lower_bound(run.of_jobs, run.gpus):.2f}",
        "a job beside its training, median, s": lambda run: f"{run.overhead:.1f}",
        "the longest was submitted as number": lambda run: run.place_of_longest,
        f"pairs out of order, of {18 * 17 // 2}": lambda run: run.pairs_out_of_order,
    }
    lines = [f"| {name} | {' | '.join(str(value(run)) for run in runs.values())} |" for name, value in rows.items()]
    submitted = [
        f"Submitted {name}: {', '.join(f'{seconds:.1f}' for seconds in run.trainings)} s." for name, run in runs.items()
    ]
    return "\n".join([f"| | {' | '.join(runs)} |", "| --- | ---: | ---: |", *lines, "", *submitted])
