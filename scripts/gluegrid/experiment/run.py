"""A run, read from its run.json: what is trained, on what, with which values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json, sha256
from gluegrid.common.paths import cell_beside
from gluegrid.experiment.options import RECIPES, Options
from gluegrid.experiment.task import Task

HOLDOUT = "holdout"  # what the part of the training split is called, in files as in metrics
HOLDOUT_SUFFIX = f"_{HOLDOUT}"


@dataclass(frozen=True, kw_only=True)
class Run(Options):
    """One training: its options, and what is trained on what."""

    experiment: str
    model: dict
    task: Task
    variant: str

    @property
    def holds_out(self) -> bool:
        """Whether a part of the training split is not trained on, so that variants can be chosen by its scores."""
        return self.do_train and self.selection == "holdout"

    def selection_keys(self) -> list[str]:
        """Return the metrics by whose mean the best is chosen, among epochs as among variants."""
        if self.holds_out:
            return self.task.holdout_keys()
        return self.task.metric_keys()

    @property
    def processes(self) -> int:
        """The processes that train together, one on each device."""
        return self.gpus * self.nodes

    @property
    def examples_per_update(self) -> int:
        """The examples of one optimizer step, over all devices and accumulated batches."""
        return examples_per_update(vars(self))

    @property
    def rows_at_once(self) -> int:
        """The examples that one device computes at once: a batch, of which `gradient_accumulation_steps` are an update.

        A `global_batch_size` is split over devices and accumulated batches, the last of which may be smaller.
        """
        return rows_at_once(vars(self))


def updates_by_graphs(values: Mapping) -> bool:
    """Tell whether a GPU may replay the updates of a run with these values: they compute whole batches, plainly."""
    is_plain = values["lora"] is None and not values["gradient_checkpointing"]
    return is_plain and values["gradient_accumulation_steps"] == 1


def examples_per_update(values: Mapping) -> int:
    """Return the examples of one optimizer step of a run with these training values."""
    per_device = values["per_device_train_batch_size"] * values["gradient_accumulation_steps"]
    return values.get("global_batch_size") or per_device * values["gpus"] * values["nodes"]


def rows_at_once(values: Mapping) -> int:
    """Return the examples that one device computes at once in a run with these training values."""
    batches = values["gpus"] * values["nodes"] * values["gradient_accumulation_steps"]
    return math.ceil(examples_per_update(values) / batches)


def read_run(path: Path) -> Run:
    """Read a run.json and fill in its recipe. Raises DataError for what this release cannot mean."""
    content = read_json(path)
    recipe = content.pop("recipe", None)
    if recipe not in RECIPES:
        raise DataError(f"{path}: recipe {recipe!r} is unknown; known: {sorted(RECIPES)}")
    task = Task(**content.pop("task"))
    try:
        return Run(task=task, **(RECIPES[recipe] | content))
    except TypeError as error:
        raise DataError(f"{path}: {error}; was it written by a later release?") from error


MODEL = "model"  # the folder of a trained model that is kept


def weights_to_start_from(run: Run, path: Path, model: Path) -> Path:
    """Return the folder of the weights that a run starts from. `path` is its run.json, `model` the staged manifest."""
    return model.parent if run.init_from is None else _result(run, path) / MODEL


def identity_of_start(run: Run, path: Path) -> dict:
    """Return the hashes of the trained model that a run starts from; nothing where it starts from its checkpoint.

    Raises DataError where that model is missing, damaged, or of another run than run.json says.
    """
    if run.init_from is None:
        return {}
    result = _result(run, path)
    record = read_json(result / "run_record.json")
    if record.get("run_sha256") != run.init_from["run_sha256"]:
        raise DataError(f"{result}: is of another run than this cell starts from; call snakemake again")
    files = record.get("saved_model", {}).get("files", {})
    for name, digest in files.items():
        if not (result / MODEL / name).exists() or sha256(result / MODEL / name) != digest:
            again = f"delete {result / 'all_results.json'} and call snakemake again"
            raise DataError(f"{result / MODEL / name}: is missing or not as its record says; {again}")
    if not files:
        raise DataError(f"{result}: has kept no model to start from")
    return {"start_files": files}


def _result(run: Run, path: Path) -> Path:
    return cell_beside(path, run.init_from["task"], run.init_from["variant"])


SCHEMA_VERSION = 1
# The ways to compute a run's numbers that `compute_paths` of run_record.json may name, in the words of tables; the
# fastest last.
COMPUTE_PATHS = {
    "padded": "padded batches",
    "packed": "packed batches",
    "static": "packed batches of few lengths",
    "cuda_graphs": "CUDA graphs",
}
