"""Packs against one job per cell: the demo's grid, and one of 90 cells, with the same profile in the same run.

Trainings, Snakemake, profile, submission and SLURM are real; the cluster's 8 GPUs are simulated and share this
machine's CPUs. Needs root and Debian's SLURM (tests/cluster) except with `--places local`.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[1] / folder) for folder in ("tests/support", "tests/cluster"))

import yaml
from clones import Clone, clone_into
from cluster import Cluster, start

GRIDS = {"demo": [42], "90 cells": [1, 2, 3, 4, 5]}  # their seeds; 18 cells each
ARMS = {"alone": "0", "packed": "15"}  # pack_minutes
PROFILES = {
    "cluster": ("--profile", "slurm", "--jobs", "100"),
    "local": ("--profile", "profiles/local", "--cores", "2"),
}


@dataclass(frozen=True)
class Measured:
    """One call: seconds to the table, jobs and their allocated GPU-seconds (on a cluster), and the predictions."""

    seconds: float
    jobs: int | None
    card_seconds: int | None
    predictions: dict[str, str]


def main() -> None:
    """Run the requested grids, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--places", nargs="+", choices=PROFILES, default=list(PROFILES))
    parser.add_argument("--grids", nargs="+", choices=GRIDS, default=list(GRIDS))
    options = parser.parse_args()
    rows = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gluegrid-benchmark-")))
        clone = clone_into(folder / "clone")
        subprocess.run([sys.executable, "demo/generate.py"], cwd=clone.root, check=True, capture_output=True)
        cluster = start(folder / "cluster") if "cluster" in options.places else None
        if cluster:
            stack.callback(cluster.stop)
            clone.environment.update(cluster.environment)
        for grid in options.grids:
            write_grid(clone, GRIDS[grid])
            call(clone, "--profile", "profiles/local", "--", "stage")
            for place in options.places:
                arms = {name: measure(clone, cluster, place, minutes) for name, minutes in ARMS.items()}
                rows.append(row(grid, place, **arms))
                print(rows[-1], file=sys.stderr, flush=True)
    print(line_of(COLUMNS), "|---" * len(COLUMNS) + "|", *rows, sep="\n")


def write_grid(clone: Clone, seeds: list[int]) -> None:
    """Write the demo's experiment with these seeds."""
    demo = yaml.safe_load((clone.root / "demo/config.yaml").read_text(encoding="utf-8"))
    # As a user writes it: PyYAML reads 1e-3 as text, and so does gluegrid.
    grid = demo | {"experiment": "packs", "seeds": seeds}
    (clone.root / "packs.yaml").write_text(yaml.safe_dump(grid).replace("'1e-3'", "1e-3"), encoding="utf-8")


def measure(clone: Clone, cluster: Cluster | None, place: str, pack_minutes: str) -> Measured:
    """Run the grid from scratch, with only its inputs staged."""
    shutil.rmtree(clone.root / "results", ignore_errors=True)
    before = numbers_of_jobs(cluster) if cluster else {}
    began = time.monotonic()
    call(clone, *PROFILES[place], "--set-resources", f"train:pack_minutes={pack_minutes}")
    seconds = time.monotonic() - began
    predictions = {
        str(path.relative_to(clone.root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (clone.root / "results/packs/runs").rglob("predictions_*.parquet")
    }
    if place != "cluster":
        return Measured(seconds, None, None, predictions)
    jobs = {number: taken for number, taken in numbers_of_jobs(cluster).items() if number not in before}
    return Measured(seconds, len(jobs), sum(jobs.values()), predictions)


def call(clone: Clone, *arguments: str) -> None:
    """Call snakemake, which must succeed."""
    done = clone.snakemake("--configfile", "packs.yaml", *arguments, timeout=7200)
    if done.returncode != 0:
        sys.exit(done.stdout)


def numbers_of_jobs(cluster: Cluster) -> dict[str, int]:
    """Return how many seconds each job had its GPU, by job number."""
    rows = cluster.accounting("JobID", "ElapsedRaw", "AllocTRES%100")
    return {number: int(seconds) for number, seconds, allocated in rows if "gres/gpu=1" in allocated.split(",")}


COLUMNS = (
    *("Grid", "Where", "Jobs alone", "Jobs packed", "Card-seconds alone", "Card-seconds packed", "Ratio"),
    *("Seconds to the table alone", "Seconds packed", "Ratio", "Predictions of the same bits"),
)


def row(grid: str, place: str, alone: Measured, packed: Measured) -> str:
    """Return a line of the table."""
    equal = sum(packed.predictions.get(name) == digest for name, digest in alone.predictions.items())
    cards = ratio_of(alone, packed, lambda measured: measured.card_seconds)
    seconds = ratio_of(alone, packed, lambda measured: measured.seconds)
    jobs = [str(measured.jobs or "") for measured in (alone, packed)]
    return line_of([grid, place, *jobs, *cards, *seconds, f"{equal} of {len(alone.predictions)}"])


def line_of(cells: Iterable[str]) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def ratio_of(alone: Measured, packed: Measured, of: Callable[[Measured], float | None]) -> list[str]:
    """Return both values and their ratio, the second by the first."""
    first, second = of(alone), of(packed)
    return ["", "", ""] if first is None else [f"{first:.0f}", f"{second:.0f}", f"{second / first:.2f}"]


if __name__ == "__main__":
    main()
