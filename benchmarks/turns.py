"""The arms' turns, and the record that is needed to repeat them."""

import argparse
import gc
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path

import datasets
import floor
import in_process
import processes
import report
import torch
import transformers
from arms import ARMS
from cells import BATCH_SIZE, MAX_SEQ_LENGTH, Cell, make_cell, stage_model
from sizes import random_model

from gluegrid.common.provenance import git_state, now, versions
from gluegrid.experiment.run import read_run
from gluegrid.training.device import describe_device

# A turn: its name in the progress output, and a function that returns its measurements.
Turn = tuple[str, Callable[[], list[dict]]]
PARTS_IN_PROCESS = ("training", "evaluation", "tokenising")
EXAMPLES_OF_A_PROCESS = {"process": 128, "startup": 1}
BUSY = 0.2  # load of each processor
ARMS_OF_FEW = ("a", "d")  # only these are timed in the other parts


def measure_all(options: argparse.Namespace, folder: Path) -> dict:
    """Measure what the options ask for; return tables, measurements, machine, versions and settings."""
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    started = now()
    load = os.getloadavg()[0]
    if load > BUSY * os.cpu_count():
        print(f"the machine is busy (load {load:.1f}): figures will be unreliable", file=sys.stderr)
    cells = Cells(options, folder)
    turns = list(_turns(options, folder, cells))
    measurements = list(_taken(turns))
    run = read_run(cells.any.run_json)
    return {
        "started": started,
        "finished": now(),
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "machine": {
            "platform": platform.platform(),
            "processors": os.cpu_count(),
            "load_before": load,
            "torch_threads": torch.get_num_threads(),
            **{name: describe_device(run)[name] for name in ("device", "driver", "precision")},
        },
        "versions": versions(),
        "git": git_state(),
        "settings": {
            "arms": {arm: ARMS[arm] for arm in options.arms},
            "model": options.random_model or str(options.model),
            "per_device_train_batch_size": BATCH_SIZE,
            "max_seq_length": MAX_SEQ_LENGTH,
            "repeats": options.repeats,
        },
        "tables": report.summary(measurements),
        "measurements": measurements,
    }


class Cells:
    """The cells that the parts need, staged in advance."""

    def __init__(self, options: argparse.Namespace, folder: Path):
        self.options = options
        self.folder = folder
        source = options.model
        if options.random_model:
            source = random_model(folder / "random", options.random_model, options.tokenizer)
        self.model = stage_model(source, folder / "model")
        few = max(EXAMPLES_OF_A_PROCESS.values())
        self.in_process = self._staged(PARTS_IN_PROCESS, options.tasks, options.examples, options.eval_examples)
        self.launched = self._staged(EXAMPLES_OF_A_PROCESS, options.process_tasks, few, few)
        sizes = options.step_sizes if "steps" in options.parts else []
        self.of_steps = {size: self._cell_of_steps(size) for size in sizes}

    @property
    def any(self) -> Cell:
        """One of the cells."""
        return [*self.in_process, *self.launched, *self.of_steps.values()][0]

    def _staged(self, parts: Iterable[str], tasks: list[str], *rows: int) -> list[Cell]:
        """Return a cell of each task if any of the parts is requested."""
        if not {*parts} & {*self.options.parts}:
            return []
        return [self._cell(task, "-".join(parts), rows, self.model) for task in tasks]

    def _cell_of_steps(self, size: str) -> Cell:
        source = random_model(self.folder / f"random-{size}", size, self.options.tokenizer)
        model = stage_model(source, self.folder / f"model-{size}")
        return self._cell("mnli", f"steps-{size}", (self.options.examples, 1), model)

    def _cell(self, task: str, place: str, rows: tuple[int, int], model: Path) -> Cell:
        source = self.options.data / task
        folder = self.folder / place / task
        return make_cell(folder, task, source, model, rows, self.options.threads, self.options.device)


def _turns(options: argparse.Namespace, folder: Path, cells: Cells) -> Iterator[Turn]:
    """Yield all turns: in each repeat, the arms of each task, every time starting with another one."""
    for repeat in range(options.repeats):
        first = repeat % len(options.arms)
        order = [*options.arms[first:], *options.arms[:first]]
        of_few = [arm for arm in order if arm in ARMS_OF_FEW]
        for cell in cells.in_process:
            if {"training", "evaluation"} & {*options.parts}:
                for arm in order:
                    yield _turn(arm, cell, repeat, in_process.measure, arm, cell, options.examples, options.parts)
            for arm in of_few if "tokenising" in options.parts else ():
                place = folder / "tokenised" / f"{cell.task.name}-{repeat}"
                yield _turn(arm, cell, repeat, _only, "tokenising", in_process.measure_tokenising, arm, cell, place)
        for part in [part for part in EXAMPLES_OF_A_PROCESS if part in options.parts]:
            for cell, arm in product(cells.launched, of_few):
                place = folder / f"{part}-{repeat}" / f"{cell.task.name}-{arm}"
                values = (arm, cell, EXAMPLES_OF_A_PROCESS[part], place, options.device, options.threads)
                yield _turn(arm, cell, repeat, _only, part, processes.measure, *values)
        for size, cell in cells.of_steps.items():
            yield _turn(size, cell, repeat, _only, "steps", floor.measure, cell)


def _turn(arm: str, cell: Cell, repeat: int, measure: Callable[..., dict[str, dict]], *values: object) -> Turn:
    """Return a turn whose measurements, by part, name task, arm and repeat."""

    def measured() -> list[dict]:
        of = {"task": cell.task.name, "arm": arm, "repeat": repeat}
        return [{"part": part, **of, **measurement} for part, measurement in measure(*values).items()]

    return f"{cell.task.name}, {arm}, repeat {repeat + 1}", measured


def _only(part: str, measure: Callable[..., dict], *values: object) -> dict[str, dict]:
    return {part: measure(*values)}


def _taken(turns: list[Turn]) -> Iterator[dict]:
    """Take the turns; yield the measurements, and print the progress to stderr."""
    started = time.perf_counter()
    for number, (name, measure) in enumerate(turns, start=1):
        measured = measure()
        gc.collect()
        torch.cuda.empty_cache()
        yield from measured
        left = (time.perf_counter() - started) / number * (len(turns) - number)
        print(f"{number} of {len(turns)}: {name}; about {left:.0f} s left", file=sys.stderr, flush=True)
