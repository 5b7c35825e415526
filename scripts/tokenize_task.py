"""Tokenize the splits of a staged task with a staged model's tokenizer."""

import argparse
import json
from pathlib import Path

from gluegrid.common import cli
from gluegrid.common.cli import run_script
from gluegrid.experiment.task import Task
from gluegrid.staging.tokenization import tokenize_task


def main() -> None:
    """Write the tokens and their manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", required=True, type=Path, help="manifest of the model")
    parser.add_argument("--task", required=True, type=Path, help="manifest of the task's data")
    parser.add_argument("--definition", required=True, help="columns, labels and splits, as JSON")
    parser.add_argument("--max-seq-length", required=True, type=int, help="longest input, in tokens")
    parser.add_argument("--manifest", required=True, type=Path, help="manifest.json to write")
    arguments = parser.parse_args()
    cli.setup()
    task = Task(**json.loads(arguments.definition))
    tokenize_task(arguments.tokenizer, arguments.task, task, arguments.max_seq_length, arguments.manifest)


if __name__ == "__main__":
    run_script(main)
