"""The cost of a dry run per job, against a minimal Snakefile's, and how soon the first of thousands of cells trains.

The minimal one has, for each cell, an output, a log and two resources, but no inputs; both are called with the same
profile. CPU seconds and peak memory count, since on a busy machine they say more than the clock, which is shown, too.
With --beside, another commit of gluegrid is measured in alternation with this one.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parents[1]
SNAKEMAKE = [sys.executable, "-m", "snakemake"]
TASKS = ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte"]
MODELS = 25
SMALLEST = 200  # cells: those of one seed
MINIMAL = """
rule all:
    input: expand("results/{m}/{t}/{s}.json", m=range(%d), t=%r, s=range(%d))
rule train:
    output: "results/{m}/{t}/{s}.json"
    log: "logs/{m}/{t}/{s}.log"
    resources: gpu=1, runtime=60
    shell: "touch {output}"
"""
HEADER = "| cells | planned by | processor, s | clock, s | memory, MB |"


def main() -> None:
    """Print a table of dry runs and, with --cold-start, the seconds until the first training starts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cells", type=int, nargs="+", default=[1000, 10000], help=f"numbers of cells, multiples of {SMALLEST}"
    )
    parser.add_argument("--repeats", type=int, default=3, help="alternating calls of each, whose medians count")
    parser.add_argument("--beside", metavar="COMMIT", help="another commit of gluegrid to measure as well")
    parser.add_argument(
        "--cold-start", type=int, help="number of ready cells, a multiple of 18, to start on this machine"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clones = {name: clone_of(name, Path(folder)) for name in filter(None, (arguments.beside, "HEAD"))}
        if arguments.cold_start:
            seconds = cold_start(clones["HEAD"], arguments.cold_start)
            print(f"{seconds:.1f} s until the first of {arguments.cold_start} trains")
        else:
            print_table(clones, arguments.cells, arguments.repeats)


def clone_of(commit: str, folder: Path) -> Path:
    """Return a clone of the project at this commit in a folder."""
    clone = folder / commit
    subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(clone)], check=True)
    subprocess.run(["git", "checkout", "--quiet", commit], cwd=clone, check=True)
    return clone


def print_table(clones: dict[str, Path], sizes: list[int], repeats: int) -> None:
    """Print the costs of dry runs of grids of these sizes."""
    print(HEADER, "| ---: | --- | ---: | ---: | ---: |", sep="\n")
    for cells in sizes:
        calls = {"a minimal Snakefile": (minimal(clones["HEAD"], cells), clones["HEAD"])}
        calls |= {f"gluegrid, {name}": (gluegrid(clone, cells), clone) for name, clone in clones.items()}
        costs: dict[str, list[tuple[float, ...]]] = {name: [] for name in calls}
        for _ in range(repeats):
            for name, call in calls.items():
                costs[name].append(measure(*call))
        for name, of_call in costs.items():
            processor, clock, memory = (statistics.median(values) for values in zip(*of_call, strict=True))
            print(f"| {cells:,} | {name} | {processor:.1f} | {clock:.1f} | {memory:.0f} |", flush=True)


def minimal(clone: Path, cells: int) -> list[str]:
    """Return a dry run of the minimal Snakefile."""
    path = clone / "minimal.smk"
    path.write_text(MINIMAL % (MODELS, TASKS, cells // SMALLEST), encoding="utf-8")
    return [*SNAKEMAKE, "-n", "--snakefile", path.name]


def gluegrid(clone: Path, cells: int) -> list[str]:
    """Return a dry run of gluegrid before anything is staged."""
    content = {
        "experiment": "scale",
        "models": {f"model-{number}": {"source": f"org/model-{number}", "revision": "v1"} for number in range(MODELS)},
        "tasks": TASKS,
        "seeds": list(range(cells // SMALLEST)),
    }
    (clone / "scale.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return [*SNAKEMAKE, "-n", "--configfile", "scale.yaml"]


def measure(command: list[str], folder: Path) -> tuple[float, float, float]:
    """Return a command's CPU seconds, wall-clock seconds and peak memory in MB; it must succeed."""
    begun = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return used.ru_utime + used.ru_stime, time.monotonic() - begun, used.ru_maxrss / 1000


def cold_start(clone: Path, cells: int) -> float:
    """Return the seconds from calling snakemake to a cell's first attempt, with all staged but no run.json written."""
    command = [*SNAKEMAKE, "--profile", "profiles/local", "--configfile", "demo/config.yaml", "--cores", "2"]
    subprocess.run([sys.executable, "demo/generate.py"], cwd=clone, check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*command, "stage"], cwd=clone, check=True, capture_output=True)
    config = yaml.safe_load((clone / "demo/config.yaml").read_text(encoding="utf-8"))
    many = config | {"experiment": "many", "seeds": list(range(cells // 18))}
    (clone / "many.yaml").write_text(yaml.safe_dump(many), encoding="utf-8")
    began = time.monotonic()
    many_cells = ["many.yaml" if word == "demo/config.yaml" else word for word in command]
    head = subprocess.Popen(
        many_cells, cwd=clone, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0
    )
    while head.poll() is None and not any((clone / "results/many").glob("state/*/*/*/*/attempts.jsonl")):
        time.sleep(0.1)
    seconds = time.monotonic() - began
    if head.poll() is not None:
        raise SystemExit(f"snakemake ended with {head.returncode} before any cell was trained")
    os.killpg(head.pid, signal.SIGINT)
    head.wait()
    return seconds


if __name__ == "__main__":
    main()
