"""Many short jobs on the test cluster: do all of them finish, how fast, and at what cost for the controller?

Simulated trainings sleep for a second; all else is real. Needs root and Debian's SLURM (tests/cluster).
"""

import argparse
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from pretended_trainings import (
    MODEL,
    Call,
    Cluster,
    call_snakemake,
    grid,
    processor_seconds_of_controller,
    running_cluster,
    set_seconds,
    staged_clone,
    train_jobs,
)

TASK = "wnli"
PROGRAMS = ("sbatch", "squeue", "sacct", "sacctmgr", "sshare", "scontrol", "sinfo", "scancel")


def main() -> None:
    """Run the grid, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=500, help="number of jobs")
    parser.add_argument("--seconds", type=float, default=1, help="duration of each training")
    parser.add_argument("snakemake", nargs="*", help="after --: further arguments of snakemake, such as --jobs 500")
    options = parser.parse_args()
    config = grid("many-jobs", tasks={TASK: None}, seeds=list(range(1, options.cells + 1)))
    with tempfile.TemporaryDirectory(prefix="gluegrid-benchmark-") as folder, running_cluster(Path(folder)) as cluster:
        clone = staged_clone(Path(folder), cluster, config)
        set_seconds(clone.root, {f"{MODEL}/{TASK}": options.seconds})
        calls = Path(folder) / "calls"
        clone.environment["PATH"] = counted_programs(Path(folder) / "counted", calls)
        controller_seconds = processor_seconds_of_controller(cluster)
        call = call_snakemake(clone, "--profile", "slurm", *options.snakemake)
        counts = Counter(calls.read_text(encoding="utf-8").splitlines())
        print(table(options.cells, call, cluster, counts, controller_seconds()))


def counted_programs(folder: Path, calls: Path) -> str:
    """Return a PATH with wrappers of SLURM's programs that log each call to a file."""
    folder.mkdir()
    for name in PROGRAMS:
        script = folder / name
        note = f'echo "{name}${{SLURM_JOB_ID:+ in jobs}}" >> "{calls}"'
        script.write_text(f'#!/bin/sh\n{note}\nexec {shutil.which(name)} "$@"\n', encoding="utf-8")
        script.chmod(0o755)
    return os.pathsep.join([str(folder), os.environ["PATH"]])


def table(cells: int, call: Call, cluster: Cluster, calls: Counter, controller_seconds: float) -> str:
    """Return the measurements as Markdown."""
    jobs = train_jobs(cluster)
    states = Counter(job.state for job in jobs)
    between = max(job.ended for job in jobs) - min(job.submitted for job in jobs)
    rows = {
        "cells": cells,
        "jobs in sacct, by state": ", ".join(f"{count} {state}" for state, count in states.most_common()),
        "exit code of snakemake": call.exit_code,
        "lines of errors in its output": len(call.errors()),
        "wall time of snakemake, s": f"{call.seconds:.0f}",
        "first submission to last end, s": f"{between:.0f}",
        "jobs per minute": f"{60 * len(jobs) / between:.1f}",
        "a job from start to end, median, s": sorted(job.ended - job.started for job in jobs)[len(jobs) // 2],
        "CPU of the head and all it calls, s": f"{call.cpu_seconds:.0f}",
        "the same for each job, s": f"{call.cpu_seconds / len(jobs):.2f}",
        "peak memory of the head, MB": f"{call.peak_memory_bytes / 1e6:.0f}",
        "CPU of slurmctld, s": f"{controller_seconds:.1f}",
        "calls of SLURM's programs": ", ".join(f"{count} {name}" for name, count in calls.most_common()),
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(["| what | value |", "| --- | --- |", *lines, *(f"\n    {line}" for line in call.errors()[:20])])


if __name__ == "__main__":
    main()
