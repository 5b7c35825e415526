"""The data that all arms train on: a sample of a task's examples, staged by gluegrid, and the cell's run.json."""

from dataclasses import dataclass
from pathlib import Path

import fetch_model
import fetch_task
import numpy
import pyarrow
import pyarrow.parquet

from gluegrid.common.errors import DataError
from gluegrid.common.files import canonical_json
from gluegrid.common.paths import ExperimentPaths
from gluegrid.experiment import sources
from gluegrid.experiment.config import TASK_DEFAULTS, load_registry
from gluegrid.experiment.options import RECIPE
from gluegrid.experiment.run import read_run
from gluegrid.experiment.task import Task, definition
from gluegrid.staging.model_check import describe_checkpoint
from gluegrid.staging.repositories import Source
from gluegrid.staging.stage import stage
from gluegrid.staging.tokenization import tokenize_task
from gluegrid.training.dataset import Tokens

BATCH_SIZE = 32
MAX_SEQ_LENGTH = 128  # run_glue.py's default, as is its padding to it
SEED = 42


@dataclass(frozen=True)
class Cell:
    """A staged model and a staged sample of a task, with tokens, in `folder`."""

    folder: Path
    model: Path  # manifests
    data: Path
    tokens: Path
    task: Task
    run_json: Path
    rows: int  # of the training split's sample, a multiple of the batch size
    rows_of_the_task: int  # of its whole training split

    @property
    def validation(self) -> str:
        """The split that is evaluated: the first validation split."""
        return next(iter(self.task.validation))

    def parquet(self, split: str) -> Path:
        """Return the file of a split's sample."""
        return self.data.parent / f"{split}-00000-of-00001.parquet"

    def read_tokens(self) -> Tokens:
        """Return the tokens, checked to be the run's."""
        return Tokens(read_run(self.run_json), self.tokens, self.model, self.data)


def stage_model(source: Path, folder: Path) -> Path:
    """Stage a model's folder as the rule `fetch_model` does; return the manifest."""

    def wanted(names: list[str]) -> list[str]:
        return fetch_model.checked_model_files(str(source), names)

    manifest = folder / "manifest.json"
    content = Source("model", str(source.resolve()), "1")
    stage(content, manifest, wanted, lambda staged: describe_checkpoint(staged, False))
    return manifest


def make_cell(
    folder: Path, name: str, source: Path, model: Path, rows: tuple[int, int], threads: int, device: str
) -> Cell:
    """Stage up to so many random training and validation rows of a task, and make tokens and run.json.

    Training rows are a multiple of the batch size, so that all steps of all arms have the same size. Raise DataError if
    there are too few.
    """
    task = _task(name)
    splits = dict(zip((task.train, *task.validation), rows, strict=True))
    drawn, all_rows = _draw(source, folder / "sample", splits, task.train)
    data = folder / "task" / "manifest.json"
    stage(
        Source("dataset", str((folder / "sample").resolve()), "1"),
        data,
        lambda names: sources.wanted_task_files(names, ""),
        lambda staged: {"rows": fetch_task.count_rows(staged)},
    )
    tokens = folder / "tokens" / "manifest.json"
    tokenize_task(model, data, task, MAX_SEQ_LENGTH, tokens)
    run_json = write_run(folder, task, threads, device)
    return Cell(folder, model, data, tokens, task, run_json, drawn, all_rows)


def write_run(folder: Path, task: Task, threads: int, device: str, **values: object) -> Path:
    """Write a cell's run.json below a folder; return its path."""
    cell = {"model": "benchmarked", "task": task.name, "variant": "base", "seed": SEED}
    content = {
        "recipe": RECIPE,
        "experiment": "benchmark",
        "model": {"name": "benchmarked", "source": "./benchmarked", "revision": "1"},
        "task": vars(task),
        "variant": "base",
        "seed": SEED,
        "threads": threads,
        "device": device,
        "precision": "auto",
        "num_train_epochs": 1,
        "per_device_train_batch_size": BATCH_SIZE,
        "per_device_eval_batch_size": BATCH_SIZE,
        "max_seq_length": MAX_SEQ_LENGTH,
    }
    path = folder / ExperimentPaths("benchmark").run.format(**cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(canonical_json(content | values), encoding="utf-8")
    return path


def _task(name: str) -> Task:
    """Return a task of the registry with one validation split and no test split."""
    entry = TASK_DEFAULTS | load_registry()[name] | {"source": "./sample", "folder": "", "revision": "1", "test": []}
    first, suffix = next(iter(entry["validation"].items()))
    return Task(name=name, **definition(entry | {"validation": {first: suffix}}))


def _draw(source: Path, target: Path, splits: dict[str, int], train: str) -> tuple[int, int]:
    """Write a sample of each split; return its training rows and the task's. Raise DataError if data are missing."""
    target.mkdir(parents=True, exist_ok=True)
    drawn = all_rows = 0
    for split, count in splits.items():
        files = sorted(source.glob(f"{split}-*.parquet"))
        if not files:
            raise DataError(f"{source}: has no {split}-00000-of-00001.parquet; --data must name a folder of tasks")
        table = pyarrow.concat_tables([pyarrow.parquet.read_table(file) for file in files])
        if split == train:
            all_rows = len(table)
            drawn = count = min(all_rows, count) // BATCH_SIZE * BATCH_SIZE
            if drawn == 0:
                raise DataError(f"{source}: {split} has {all_rows} rows, fewer than a batch of {BATCH_SIZE}")
        numbers = numpy.random.default_rng(SEED).permutation(len(table))[:count]
        pyarrow.parquet.write_table(table.take(numbers), target / f"{split}-00000-of-00001.parquet")
    return drawn, all_rows
