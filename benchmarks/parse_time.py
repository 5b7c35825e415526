"""How much longer a dry run of the demo's grid takes than `snakemake --version`: medians of alternating calls."""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
SNAKEMAKE = [sys.executable, "-m", "snakemake"]
CALLS = {
    "snakemake --version": [*SNAKEMAKE, "--version"],
    "snakemake -n (18 cells)": [*SNAKEMAKE, "-n", "--quiet", "all"],
}


def main() -> None:
    """Print the medians and their difference in seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7, help="calls of each")
    repeats = parser.parse_args().repeats
    seconds: dict[str, list[float]] = {name: [] for name in CALLS}
    for _ in range(repeats):
        for name, command in CALLS.items():
            seconds[name].append(timed(command))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        print(f"{median:6.2f} s  {name}")
    baseline, ours = medians.values()
    print(f"{ours - baseline:6.2f} s  difference")


def timed(command: list[str]) -> float:
    """Return the seconds that a command takes; it must succeed."""
    started = time.perf_counter()
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
