"""A run, read from its run.json: which model is trained, on which task, with which options."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json, sha256
from gluegrid.common.paths import cell_beside
from gluegrid.experiment.options import RECIPES, Options
from gluegrid.experiment.task import Task

HOLDOUT = "holdout"  # the name of the part set aside from the training split, in files and metrics
HOLDOUT_SUFFIX = f"_{HOLDOUT}"


@dataclass(frozen=True, kw_only=True)
class Run(Options):
    """One training: its options, model, task and variant."""

    experiment: str
    model: dict
    task: Task
    variant: str

    @property
    def holds_out(self) -> bool:
        """Whether a part of the training split is set aside, so that variants can be chosen by its scores."""
        return self.do_train and self.selection == "holdout"

    def selection_keys(self) -> list[str]:
        """Return the metrics whose mean selects the best epoch and the best variant."""
        if self.holds_out:
            return self.task.holdout_keys()
        return self.task.metric_keys()

    @property
    def processes(self) -> int:
        """The number of processes that train together, one per device."""
        return self.gpus * self.nodes

    @property
    def examples_per_update(self) -> int:
        """The number of examples per optimizer step, over all devices and accumulated batches."""
        return examples_per_update(vars(self))

    @property
    def rows_at_once(self) -> int:
        """The number of examples in one device's batch, of which `gradient_accumulation_steps` make an update.

        A `global_batch_size` is split over devices and accumulated batches, the last of which may be smaller.
        """
        return rows_at_once(vars(self))


def updates_by_graphs(values: Mapping) -> bool:
    """Tell whether a GPU may replay the updates of a run with these options as CUDA graphs: no adapters,
    checkpointing or accumulation.
    """
    is_plain = values["lora"] is None and not values["gradient_checkpointing"]
    return is_plain and values["gradient_accumulation_steps"] == 1


def examples_per_update(values: Mapping) -> int:
    """Return the number of examples per optimizer step of a run with these options."""
    per_device = values["per_device_train_batch_size"] * values["gradient_accumulation_steps"]
    return values.get("global_batch_size") or per_device * values["gpus"] * values["nodes"]


def rows_at_once(values: Mapping) -> int:
    """Return the number of examples in one device's batch in a run with these options."""
    batches = values["gpus"] * values["nodes"] * values["gradient_accumulation_steps"]
    return math.ceil(examples_per_update(values) / batches)


def read_run(path: Path) -> Run:
    """Read a run.json and fill in its recipe. Raises DataError for content that this release does not know."""
    content = read_json(path)
    recipe = content.pop("recipe", None)
    if recipe not in RECIPES:
        raise DataError(f"{path}: recipe {recipe!r} is unknown; known: {sorted(RECIPES)}; is it from a later release?")
    task = Task(**content.pop("task"))
    try:
        return Run(task=task, **(RECIPES[recipe] | content))
    except TypeError as error:
        raise DataError(f"{path}: {error}; was it written by a later release?") from error


MODEL = "model"  # the folder of a saved model


def weights_to_start_from(run: Run, path: Path, model: Path) -> Path:
    """Return the folder of the weights that a run starts from. `path` is its run.json, `model` the staged manifest."""
    return model.parent if run.init_from is None else _result(run, path) / MODEL


def identity_of_start(run: Run, path: Path) -> dict:
    """Return the hashes of the trained model that a run starts from; nothing if it starts from the model's checkpoint.

    Raises DataError if that model is missing, damaged, or from another run than run.json says.
    """
    if run.init_from is None:
        return {}
    result = _result(run, path)
    record = read_json(result / "run_record.json")
    if record.get("run_sha256") != run.init_from["run_sha256"]:
        raise DataError(f"{result}: is from another run than the one this cell starts from; call snakemake again")
    again = f"delete {result / 'all_results.json'} and call snakemake again"
    files = record.get("saved_model", {}).get("files", {})
    for name, digest in files.items():
        if not (result / MODEL / name).exists() or sha256(result / MODEL / name) != digest:
            raise DataError(f"{result / MODEL / name}: is missing, or differs from its record; {again}")
    if not files:
        raise DataError(f"{result}: has no saved model to start from; {again}")
    return {"start_files": files}


def _result(run: Run, path: Path) -> Path:
    return cell_beside(path, run.init_from["task"], run.init_from["variant"])


SCHEMA_VERSION = 1
# The ways to compute a run that `compute_paths` in run_record.json may name, as tables call them; the fastest last.
COMPUTE_PATHS = {
    "padded": "padded batches",
    "packed": "packed batches",
    "static": "packed batches of few lengths",
    "cuda_graphs": "CUDA graphs",
}
