"""Timings within one process: training, evaluation and tokenization."""

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from arms import Ours, Theirs, Trainee, tokenized
from cells import BATCH_SIZE, MAX_SEQ_LENGTH, Cell
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import AutoTokenizer

from gluegrid.common.errors import DataError
from gluegrid.experiment.run import read_run
from gluegrid.staging.tokenization import tokenize_task
from gluegrid.training.device import set_precision

WARM_UP_STEPS = 3
MOST_CALLS = 4  # until one compiles nothing


def measure(arm: str, cell: Cell, examples: int, parts: list[str]) -> dict[str, dict]:
    """Train and evaluate a cell by an arm, if these are among the parts; return the measurements of each.

    Train for as many epochs of the cell's sample as it takes to see so many examples.
    """
    forget_earlier_settings()
    make = Ours if arm == "d" else partial(Theirs, arm)
    on_gpu = read_run(cell.run_json).device == "cuda"
    trainee, measured = None, {}
    if "training" in parts:
        trainee = _warmed_up(make, cell, math.ceil(examples / cell.rows), on_gpu)
        measured["training"] = _compiled_before(partial(_train, trainee))
    if "evaluation" in parts:
        trainee = trainee or make(cell, cell.rows, 1)
        if on_gpu:
            trainee.evaluate()
        measured["evaluation"] = _compiled_before(partial(_evaluate, trainee))
    return measured


def forget_earlier_settings() -> None:
    """Undo the settings that an arm leaves behind in its process.

    Trainer leaves its precision (TF32 with torch.compile) and torch.compile; ours leaves deterministic kernels.
    """
    for name in [name for name in os.environ if name.startswith("ACCELERATE_")]:
        del os.environ[name]
    os.environ.pop("TORCHINDUCTOR_DETERMINISTIC", None)
    AcceleratorState._reset_state(reset_partial_state=True)
    set_precision("fp32")
    torch.use_deterministic_algorithms(False)
    torch.backends.cuda.enable_cudnn_sdp(True)


def measure_tokenising(arm: str, cell: Cell, folder: Path) -> dict:
    """Return the seconds of tokenizing a cell's rows: (a) as run_glue.py does, (d) as we do, to files."""
    tokenizer = AutoTokenizer.from_pretrained(cell.model.parent, local_files_only=True)
    splits = (cell.task.train, cell.validation)
    started = time.perf_counter()
    if arm == "d":
        tokenize_task(cell.model, cell.data, cell.task, MAX_SEQ_LENGTH, folder / "manifest.json")
    else:
        for split in splits:
            tokenized(cell, split, tokenizer, padded=True)
    seconds = time.perf_counter() - started
    tokens = cell.read_tokens()
    return {"seconds": seconds, "examples": sum(len(tokens.split(split)) for split in splits)}


def _warmed_up(make: Callable[..., Trainee], cell: Cell, epochs: int, on_gpu: bool) -> Trainee:
    """Return the training to time, after an untimed one.

    On a GPU both are the same training, so that kernels are compiled for all its shapes. On a CPU some steps of another
    copy of the model are enough.
    """
    if on_gpu:
        trainee = make(cell, cell.rows, epochs)
        trainee.train()
        return trainee
    make(cell, min(WARM_UP_STEPS * BATCH_SIZE, cell.rows), 1).train()
    return make(cell, cell.rows, epochs)


def _compiled_before(measure: Callable[[], dict]) -> dict:
    """Return the measurements of a call that compiles nothing: one that compiles counts as a further warm-up.

    Raise DataError if every call compiles.
    """
    for _ in range(MOST_CALLS):
        before = frames_compiled()
        measured = measure()
        if frames_compiled() == before:
            return measured
    raise DataError(f"torch.compile still compiles in call {MOST_CALLS} with the same examples")


def frames_compiled() -> int:
    """Return how often torch.compile has compiled a function in this process."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return 0 if dynamo is None else dynamo.counters["frames"]["total"]


def _train(trainee: Trainee) -> dict:
    """Return the seconds of the training loop (and of the whole call), steps, examples and tokens."""
    with _counted_steps() as steps:
        started = time.perf_counter()
        metrics = trainee.train()
        wait_for_device()
        seconds = time.perf_counter() - started
    return {
        "seconds": metrics["train_runtime"],
        "seconds_of_the_call": seconds,
        "steps": len(steps),
        "examples": metrics["train_samples"] * trainee.epochs,
        "tokens": trainee.tokens * trainee.epochs,
    }


def _evaluate(trainee: Trainee) -> dict:
    started = time.perf_counter()
    examples = trainee.evaluate()
    wait_for_device()
    return {"seconds": time.perf_counter() - started, "examples": examples}


@dataclass
class SteadySteps:
    """The steps in the second half of a training: how many, their seconds, and whether anything was compiled meanwhile.

    By then an arm has chosen its path, and compiled or captured what it can.
    """

    steps: int
    seconds: float = 0.0
    have_compiled: bool = False


@contextmanager
def steady_steps(steps: int) -> Iterator[SteadySteps]:
    """Measure the second half of a training of so many steps inside the context. Raise DataError if they differ."""
    first, done, begun = steps // 2, 0, (time.perf_counter(), frames_compiled())
    measured = SteadySteps(steps - first)

    def after_step(*_: object) -> None:
        nonlocal done, begun
        done += 1
        if done == first:
            wait_for_device()
            begun = time.perf_counter(), frames_compiled()
        elif done == steps:
            wait_for_device()
            measured.seconds = time.perf_counter() - begun[0]
            measured.have_compiled = frames_compiled() > begun[1]

    hook = register_optimizer_step_post_hook(after_step)
    try:
        yield measured
    finally:
        hook.remove()
    if done != steps:
        raise DataError(f"{done} steps were done instead of {steps}")


@contextmanager
def _counted_steps() -> Iterator[list]:
    """Yield a list that grows with each step of any torch optimizer."""
    steps: list[None] = []
    hook = register_optimizer_step_post_hook(lambda *_: steps.append(None))
    try:
        yield steps
    finally:
        hook.remove()


def wait_for_device() -> None:
    """Wait until a GPU, if there is one, has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
