"""Train one cell: fine-tune a staged model according to its run.json, score it, and publish the results.

`accelerate launch` starts this script; it can also be started by hand.
"""

import argparse
import logging
import os
from pathlib import Path
from types import ModuleType

from gluegrid.common import cli
from gluegrid.common.cli import quick_imports, run_script
from gluegrid.common.manifests import check_files
from gluegrid.common.paths import kernels_folder
from gluegrid.execution import attempts
from gluegrid.execution.attempts import attempting, stop_if_in_vain
from gluegrid.execution.cell_lock import only_one
from gluegrid.execution.cell_state import CellFiles, has_result_of_this_call, identity_of_inputs
from gluegrid.execution.isolation import isolate
from gluegrid.execution.preemption import Preemption, end_of_job, follow_launcher
from gluegrid.execution.scratch import copy_to_scratch
from gluegrid.execution.worker_failures import helped, helping
from gluegrid.experiment.run import Run, read_run

logger = logging.getLogger(__name__)


def main() -> None:
    """Train the cell, unless another job of it has finished in the meantime."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True, type=Path, help="run.json of the cell")
    parser.add_argument("--model", required=True, type=Path, help="manifest of the staged model")
    parser.add_argument("--task", required=True, type=Path, help="manifest of the staged data")
    parser.add_argument("--tokens", required=True, type=Path, help="manifest of the tokens")
    parser.add_argument("--results", required=True, type=Path, help="where to write all_results.json")
    parser.add_argument("--record", required=True, type=Path, help="where to write run_record.json")
    arguments = parser.parse_args()
    cli.setup()
    train(arguments)


def train(arguments: argparse.Namespace) -> None:
    """Train the cell in this process, which a pack has forked (train_pack.py) or a launcher has started."""
    files = CellFiles(arguments.run)
    preemption = Preemption(end_of_job())
    if rank() > 0:
        logging.getLogger().setLevel(logging.WARNING)  # the main process logs for all of them
        with helping(files.failure_of_helper, rank()):
            preemption.listen()
            follow_launcher()
            help_to_train(arguments, files, preemption)
    else:
        lead_training(arguments, files, preemption)
    preemption.stop_listening()


def lead_training(arguments: argparse.Namespace, files: CellFiles, preemption: Preemption) -> None:
    """Train the cell as its main process, or publish the result of another job."""
    stop_if_in_vain(files.state)
    preemption.listen()
    follow_launcher()
    with only_one(files.lock):
        # Signals end the training at once, but must not interrupt what notes how it began and ended.
        preemption.hold_back()
        stop_if_in_vain(files.state)  # once more, after what may have been a long wait
        inputs = inputs_of(arguments)
        if has_result_of_this_call(files, inputs):
            logger.info("another job has finished this cell; using its result")
            files.publish(arguments.record, arguments.results)
            attempts.published(files.state)
            with preemption.raised_at_once():  # it may wait long for the others
                let_helpers_go(read_run(arguments.run))
        else:
            train_cell(arguments, files, inputs, preemption)


def train_cell(arguments: argparse.Namespace, files: CellFiles, inputs: dict, preemption: Preemption) -> None:
    """Train and publish as a new attempt."""
    with attempting(files.state, files.run), preemption.raised_at_once(), helped(files.failure_of_helper):
        run = read_run(arguments.run)
        check_inputs(run, arguments)
        run_cell = load_training(kernels_for(run, arguments))
        run_cell.finetune(run, files, arguments.model, tokens_of(run, arguments), inputs, preemption)
        files.publish(arguments.record, arguments.results)


def help_to_train(arguments: argparse.Namespace, files: CellFiles, preemption: Preemption) -> None:
    """Help to train the cell, as one of several processes; only the process of rank 0 writes files."""
    run = read_run(arguments.run)
    for manifest in read_files(run, arguments):
        copy_to_scratch(manifest)
    run_cell = load_training(kernels_for(run, arguments))
    run_cell.help_to_finetune(run, files, arguments.model, tokens_of(run, arguments), inputs_of(arguments), preemption)


def check_inputs(run: Run, arguments: argparse.Namespace) -> None:
    """Check all files of the manifests against their hashes; those of the copies, if the site wants copies."""
    copied = [manifest for manifest in read_files(run, arguments) if copy_to_scratch(manifest)]
    for manifest in (arguments.model, arguments.task, arguments.tokens):
        if manifest not in copied:
            check_files(manifest)


def read_files(run: Run, arguments: argparse.Namespace) -> list[Path]:
    """Return the manifests whose files a training reads: the tokens, and the model unless it starts from a cell."""
    return [arguments.tokens] if run.init_from else [arguments.model, arguments.tokens]


def let_helpers_go(run: Run) -> None:
    """Let the other processes, if any, end, since nothing needs to be trained."""
    if run.processes > 1:
        load_training().dismiss_helpers(run)


def load_training(kernels: Path | None = None) -> ModuleType:
    """Return gluegrid.training.run_cell. Torch and transformers are imported only here.

    `kernels` is the folder for compiled GPU kernels, None for a cell that is trained without a GPU.
    """
    isolate(kernels)
    with quick_imports():
        from gluegrid.training import run_cell
    return run_cell


def kernels_for(run: Run, arguments: argparse.Namespace) -> Path | None:
    """Return the folder for compiled GPU kernels; None for a cell that is trained without a GPU."""
    return kernels_folder(arguments.model) if run.device == "cuda" else None


def rank() -> int:
    """Return this process's rank among those that the launcher has started."""
    return int(os.environ.get("RANK", "0"))


def inputs_of(arguments: argparse.Namespace) -> dict:
    """Return the hashes of the run's inputs."""
    return identity_of_inputs(arguments.run, arguments.model, arguments.task, arguments.tokens)


def tokens_of(run: Run, arguments: argparse.Namespace):
    """Return the tokens that the run uses."""
    from gluegrid.training.dataset import Tokens

    return Tokens(run, arguments.tokens, tokenizer_of(run, arguments), arguments.task)


def tokenizer_of(run: Run, arguments: argparse.Namespace) -> Path:
    """Return the manifest of the model whose tokenizer made the tokens."""
    if run.model.get("tokenizer") is None:
        return arguments.model
    # The folder of a tokenizer's tokens has the tokenizer's name.
    return arguments.model.parents[1] / arguments.tokens.parents[1].name / "manifest.json"


if __name__ == "__main__":
    run_script(main)
