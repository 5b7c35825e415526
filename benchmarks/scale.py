"""What a dry run costs for each job, beside a minimal Snakefile's, and how soon the first of thousands of cells trains.

The minimal one has, for each cell, an output, a log and two resources, and no inputs; both are called with the same
profile. Processor seconds of the process and its peak memory count: on a busy machine they say more than the clock.
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
TASKS = ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"]
MODELS = 25
SMALLEST = 225  # cells: one seed; what it costs is taken for what does not grow
MINIMAL = """
rule all:
    input: expand("results/{m}/{t}/{s}.json", m=range(%d), t=%r, s=range(%d))
rule train:
    output: "results/{m}/{t}/{s}.json"
    log: "logs/{m}/{t}/{s}.log"
    resources: gpu=1, runtime=60
    shell: "touch {output}"
"""
HEADER = "| cells | minimal: s | MB | gluegrid: s | MB | time | time of each more cell | memory of each more cell |"


def main() -> None:
    """Print a table of dry runs, and with --cold-start the seconds until the first training begins."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, nargs="+", default=[900, 9000, 22500], help=f"multiples of {SMALLEST}")
    parser.add_argument("--repeats", type=int, default=3, help="calls of each; the median counts")
    parser.add_argument("--cold-start", type=int, help="so many ready cells, a multiple of 18, on this machine")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(clone)], check=True)
        if arguments.cold_start:
            print(f"{cold_start(clone, arguments.cold_start):.1f} s until the first of {arguments.cold_start} trains")
        else:
            print_table(clone, arguments.cells, arguments.repeats)


def print_table(clone: Path, sizes: list[int], repeats: int) -> None:
    """Print what dry runs of grids of these sizes cost."""
    print(HEADER, "| ---: " * HEADER.count(" | ") + "| ---: |", sep="\n")
    least = [measure(call(clone, SMALLEST), clone, repeats) for call in (minimal, gluegrid)]
    for cells in sizes:
        costs = [measure(call(clone, cells), clone, repeats) for call in (minimal, gluegrid)]
        (seconds, memory), (our_seconds, our_memory) = costs
        more = [
            [(value - start) for value, start in zip(cost, few, strict=True)]
            for cost, few in zip(costs, least, strict=True)
        ]
        print(
            f"| {cells:,} | {seconds:.1f} | {memory:.0f} | {our_seconds:.1f} | {our_memory:.0f}"
            f" | {our_seconds / seconds:.2f}x | {more[1][0] / more[0][0]:.2f}x | {more[1][1] / more[0][1]:.2f}x |",
            flush=True,
        )


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


def measure(command: list[str], folder: Path, repeats: int) -> tuple[float, float]:
    """Return the medians of a command's processor seconds and of its peak memory in MB; it must succeed."""
    costs = [_measure_once(command, folder) for _ in range(repeats)]
    seconds, memory = (statistics.median(values) for values in zip(*costs, strict=True))
    return seconds, memory


def _measure_once(command: list[str], folder: Path) -> tuple[float, float]:
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1000


def cold_start(clone: Path, cells: int) -> float:
    """Return the seconds from the call of snakemake until a cell's first attempt, all staged and no run.json there."""
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
