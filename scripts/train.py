"""Train one cell: fine-tune a staged model as its run.json says, score it, and publish the results.

Started by `accelerate launch`; works by hand too.
"""

import argparse
import logging
from pathlib import Path

from gluegrid import attempts, logs
from gluegrid.cell import (
    CellFiles,
    attempt,
    has_result_of_this_call,
    identity_of_inputs,
    only_one,
    publish,
    stop_if_in_vain,
)
from gluegrid.errors import run_script
from gluegrid.isolation import isolate
from gluegrid.leaving import Leaving, end_of_job, follow_launcher
from gluegrid.manifests import check_files
from gluegrid.run import read_run

logger = logging.getLogger(__name__)


def main() -> None:
    """Train the cell, unless another job of it finished meanwhile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True, type=Path, help="run.json of the cell")
    parser.add_argument("--model", required=True, type=Path, help="manifest of the staged model")
    parser.add_argument("--task", required=True, type=Path, help="manifest of the staged data")
    parser.add_argument("--tokens", required=True, type=Path, help="manifest of the tokens")
    parser.add_argument("--results", required=True, type=Path, help="all_results.json to write")
    parser.add_argument("--record", required=True, type=Path, help="run_record.json to write")
    arguments = parser.parse_args()
    logs.setup()
    files = CellFiles(arguments.run)
    stop_if_in_vain(files)
    leaving = Leaving(end_of_job())
    leaving.listen()
    follow_launcher()
    with only_one(files):
        inputs = identity_of_inputs(arguments.run, arguments.model, arguments.task, arguments.tokens)
        if has_result_of_this_call(files, inputs):
            logger.info("another job of this cell has finished it; its result is used")
            publish(files, arguments.record, arguments.results)
            attempts.published(files.state)
        else:
            train_cell(arguments, files, inputs, leaving)


def train_cell(arguments: argparse.Namespace, files: CellFiles, inputs: dict, leaving: Leaving) -> None:
    """Train and publish as a new attempt. Torch and transformers are imported only here."""
    with attempt(files):
        for manifest in (arguments.model, arguments.task, arguments.tokens):
            check_files(manifest)
        isolate()
        from gluegrid.data import Tokens
        from gluegrid.finetuning import finetune

        run = read_run(arguments.run)
        tokens = Tokens(run, arguments.tokens, tokenizer_of(run, arguments), arguments.task)
        finetune(run, files, arguments.model, tokens, inputs, leaving)
        publish(files, arguments.record, arguments.results)


def tokenizer_of(run, arguments: argparse.Namespace) -> Path:
    """Return the manifest of the model whose tokenizer made the tokens."""
    from gluegrid.paths import resource_key

    borrowed = run.model.get("tokenizer")
    if borrowed is None:
        return arguments.model
    key = resource_key(borrowed["source"], borrowed["revision"])
    return arguments.model.parents[1] / key / "manifest.json"


if __name__ == "__main__":
    run_script(main)
