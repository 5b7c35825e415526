"""A simulated training of a cell, which a benchmark puts into its clone: it sleeps, and writes a valid result.

It takes the arguments of scripts/launch.sh, and sleeps as long as pretended_seconds.json in the clone's folder says.
"""

import argparse
import sys
import time
from pathlib import Path

from gluegrid.common.cli import run_script
from gluegrid.common.files import read_json, write_json
from gluegrid.common.provenance import now
from gluegrid.experiment.cell import run_hash
from gluegrid.experiment.run import SCHEMA_VERSION
from gluegrid.experiment.task import Task
from gluegrid.results.official_data import sample_keys

SECONDS = Path("pretended_seconds.json")


def main() -> None:
    """Sleep, and write the cell's results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True, type=Path, help="run.json of the cell")
    parser.add_argument("--results", required=True, type=Path, help="all_results.json to write")
    parser.add_argument("--record", required=True, type=Path, help="run_record.json to write")
    arguments, _ = parser.parse_known_args()
    text = arguments.run.read_text(encoding="utf-8")
    run = read_json(arguments.run)
    started, task = now(), Task(**run["task"])
    seconds = read_json(SECONDS)[f"{run['model']['name']}/{task.name}"]
    time.sleep(seconds)
    versions = dict.fromkeys(("python", "torch", "transformers", "accelerate", "tokenizers"), "none")
    record = {
        "schema_version": SCHEMA_VERSION,
        "run_sha256": run_hash(text),
        "started": started,
        "finished": now(),
        "attempts": 1,
        "train_rows": 1,
        "device": "CPU (pretended)",
        "driver": None,
        "precision": "fp32",
        "peak_memory_bytes": {"host": 0, "gpu": None},
        "versions": versions,
        "git": {"commit": "0" * 40, "dirty": False},
    }
    results = {
        **dict.fromkeys(task.metric_keys(), 0.5),
        **dict.fromkeys(sample_keys(task, is_trained=True).values(), 1),
        "train_runtime": seconds,
        "epoch": 1,
    }
    write_json(arguments.record, record)
    write_json(arguments.results, results)


if __name__ == "__main__":
    del sys.argv[1:4]  # nodes, processes and the script that launch.sh would start
    run_script(main)
