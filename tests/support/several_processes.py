"""Trainings for one process or two, and their results. As a script: one of the processes of a launch."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import wraps
from itertools import count
from pathlib import Path
from unittest import mock

# As a script, it has a cell's environment, without PYTHONPATH.
sys.path += [str(Path(__file__).resolve().parents[2] / folder) for folder in ("scripts", "benchmarks")]

import builders
import torch
from accelerate import Accelerator
from pretended_graphs import PretendedGraphs
from transformers import BertForSequenceClassification

from gluegrid.common.errors import TrainingError, TransientError
from gluegrid.experiment.options import LORA
from gluegrid.experiment.run import Run
from gluegrid.experiment.task import Task
from gluegrid.training.cell_trainer import CellTraining
from gluegrid.training.dataset import Tokens
from gluegrid.training.device import prepare_device
from gluegrid.training.distributed import Processes

PAIR = builders.task(text_columns=["first", "second"], labels=builders.NLI_LABELS, test=["test"])
PAIR.validation["more"] = "_mm"
NUMBER = builders.task(labels=None, metrics=["pearson", "spearmanr"])
# All counts are odd; the last updates have fewer rows than there are processes, and so does a split.
ROWS = {"train": 41, "validation": 23, "more": 5, "test": 1}
TASKS = {"pair": PAIR, "number": NUMBER}
# What two processes train: the task, the options, and the options with which one process does the same.
RUNS: dict[str, tuple[str, dict, dict]] = {
    "epochs": ("pair", {"global_batch_size": 8, "eval_strategy": "epoch"}, {}),
    "accumulated": (
        "number",
        {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2, "max_grad_norm": 0.5},
        {"global_batch_size": 12},
    ),
    "by length": ("pair", {"global_batch_size": 8, "train_sampling_strategy": "group_by_length"}, {}),
    "adapters": ("pair", {"global_batch_size": 8, "lora": LORA, "learning_rate": 1e-2}, {}),
    "short of memory": ("pair", {"global_batch_size": 8, "eval_strategy": "epoch"}, {}),
    "graphs": ("pair", {"global_batch_size": 8}, {}),
}
GRAPHS = "graphs"  # the run that two processes do with simulated graphs, and one does without
SHORT = "short of memory"  # the run in which the second of two processes runs out of memory, by injected errors


def make_resources(folder: Path) -> None:
    """Stage a model without dropout and the tasks, and make the tokens."""
    model = builders.write_model(folder / "source")
    for name, task in TASKS.items():
        splits = {split: builders.rows(ROWS[split], task) for split in task.splits}
        builders.cell_files(folder / name, task, model, **splits)


def run_of(name: str, processes: int) -> Run:
    """Return a run for this number of processes."""
    of_task, values, in_one = RUNS[name]
    return builders.run(TASKS[of_task], **values, **(in_one if processes == 1 else {}), gpus=processes)


def train(folder: Path, processes: int) -> dict:
    """Train every run; return the losses, metrics and predictions of each."""
    outcomes = {}
    for name, (of_task, _, _) in RUNS.items():
        with memory_that_gives_out() if name == SHORT and os.environ.get("RANK") == "1" else nullcontext():
            capture = PretendedGraphs() if name == GRAPHS and processes > 1 else None
            outcomes[name] = _outcome(folder / of_task, run_of(name, processes), capture)
    return outcomes


@contextmanager
def memory_that_gives_out() -> Iterator[None]:
    """Let a device hold two rows of a batch, and nothing at all the first time."""
    with ExitStack() as stack:

        def fail(owner: object, name: str, is_time: Callable[[int], bool]) -> None:
            function = getattr(owner, name)
            calls = count(1)

            def failing(*arguments: object, **options: object) -> object:
                if is_time(next(calls), **options):
                    raise torch.OutOfMemoryError("CUDA out of memory.")
                return function(*arguments, **options)

            stack.enter_context(mock.patch.object(owner, name, wraps(function)(failing)))

        def is_large(call: int, input_ids: torch.Tensor, labels: torch.Tensor | None = None, **_: object) -> bool:
            return labels is not None and len(input_ids) > 2

        fail(BertForSequenceClassification, "forward", is_large)
        for owner, name in (
            (torch.distributed, "all_reduce"),
            (Accelerator, "clip_grad_norm_"),
            (torch.optim.AdamW, "step"),
        ):
            fail(owner, name, lambda call, **_: call == 1)
        yield


def _outcome(folder: Path, run: Run, capture: PretendedGraphs | None) -> dict:
    manifests = [folder / part / "manifest.json" for part in ("tokens", "model", "task/task")]
    cell = CellTraining(run, folder / "model", Tokens(run, *manifests), capture=capture)
    metrics = cell.train() | cell.evaluate()
    tables = {split: cell.predict(split)[0].to_pydict() for split in _predicted(run.task)}
    # Only the state gives access to the losses of all updates.
    state = cell.training.state()
    return {
        "losses": state["losses"].tolist(),
        "metrics": metrics,
        "predictions": tables,
        "curve": cell.epochs and cell.epochs.curve,
        "micro_batch_rows": cell.micro_batch_rows,
        "kept_rows": state["micro_batch_rows_of_all"],
        "paths": cell.compute_paths,
        "graphs": capture and (capture.captured, capture.replayed),
    }


def _predicted(task: Task) -> list[str]:
    return [*task.validation, *task.test]


def refusal(processes: int) -> str:
    """Return why a run for this number of processes does not start."""
    try:
        prepare_device(run_of("epochs", processes))
    except TrainingError as error:
        return str(error)
    return "begun"


def answers(processes: Processes) -> list[int]:
    """Return the answers to the questions that the two processes ask one after the other."""
    wishes = ([0, 1, 0, 0, 0, 0], [0, 0, 0, 2, 2, 0])[processes.rank]
    return [processes.largest(wish) for wish in wishes]


def inequality(processes: Processes) -> list[str]:
    """Return what is reported for equal tensors, and for one differing bit."""
    said = []
    for last in (1.0, 1.0 + processes.rank * 2**-23):
        try:
            processes.check_equal([torch.zeros(3, 2), torch.tensor([0.5, last])], "the weights")
            said.append("equal")
        except TransientError as error:
            said.append(str(error))
    return said


def main() -> None:
    """Train, and write the results."""
    from accelerate import PartialState

    folder, processes = Path(sys.argv[1]), int(sys.argv[2])
    outcome = train(folder, processes)
    together = Processes(prepare_device(run_of("epochs", processes)))
    outcome |= {"answers": answers(together), "inequality": inequality(together), "refusal": refusal(processes + 1)}
    state = PartialState()
    (folder / f"outcome-{state.process_index}.json").write_text(json.dumps(outcome), encoding="utf-8")
    state.destroy_process_group()


if __name__ == "__main__":
    main()
