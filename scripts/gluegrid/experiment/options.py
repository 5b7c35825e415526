"""The training values a run has when its experiment does not set them.

A recipe is frozen once released: run.json stores only what differs from it, so changing one would change what old runs
mean. New defaults are a new number.
"""

from collections.abc import Iterator
from typing import NamedTuple

from gluegrid.experiment.yaml_loader import Position

RECIPE = 1

RECIPES: dict[int, dict[str, object]] = {
    # Batch, rate and length of the BERT paper's appendix A.3 as most often used with run_glue.py.
    1: {
        "learning_rate": 2e-5,
        "per_device_train_batch_size": 32,
        "per_device_eval_batch_size": 32,
        "num_train_epochs": 3,
        "max_seq_length": 128,
        "max_train_samples": None,
        "max_eval_samples": None,
        "device": "cuda",
        # Options of later releases: these values are what runs did before there were the options.
        "precision": "fp32",
        "train_sampling_strategy": "random",
        "lr_scheduler_type": "linear",
        "warmup_ratio": 0,
        "weight_decay": 0,
        "max_grad_norm": 1,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": False,
        "attn_implementation": "auto",
        "lora": None,
        "eval_strategy": "no",
        "save_model": "none",
        "gpus": 1,
        "nodes": 1,
        "do_train": True,
        "init_from": None,
        "selection": "validation",
    },
}

# What decides a cell that is not trained; all else is left out of its run.json.
KEYS_OF_PREDICTION = (
    "per_device_eval_batch_size",
    "max_seq_length",
    "max_eval_samples",
    "device",
    "precision",
    "attn_implementation",
    "gpus",
    "nodes",
    "do_train",
    "init_from",
)

# What `lora` means where it does not say; run.json has these written out.
LORA = {"r": 8, "lora_alpha": 16, "lora_dropout": 0, "target_modules": "all-linear"}

# Not part of a recipe: both are written into every run.json.
DEFAULT_SEEDS = [42]
DEFAULT_THREADS = 4


BATCH_KEYS = ("per_device_train_batch_size", "global_batch_size")
TRAINING_KEYS = {*RECIPES[RECIPE], *BATCH_KEYS, "seeds", "threads"}
# A list of values for any other training key makes a variant of each.
NOT_SWEPT = {"seeds", "threads", "device", "do_train", "init_from", "selection"}
SWEPT_KEYS = TRAINING_KEYS - NOT_SWEPT


class Given(NamedTuple):
    """A training value and the key that it stands at."""

    value: object
    position: Position


def given_values(config: dict, model: str, task: str) -> dict[str, Given]:
    """Return the training values that a file gives for a model on a task; the more specific level wins."""
    values: dict[str, Given] = {}
    for position, level in _levels_of_cell(config, model, task):
        given = {key: Given(value, (*position, key)) for key, value in level.items() if key in TRAINING_KEYS}
        if any(key in given for key in BATCH_KEYS):
            values = {key: value for key, value in values.items() if key not in BATCH_KEYS}
        values |= given
    return values


def all_levels(config: dict) -> Iterator[tuple[Position, dict]]:
    """Yield each place where training values may stand, with what stands there."""
    yield (), config
    for part in ("models", "tasks"):
        for name, values in config[part].items():
            yield (part, name), values
    for model, tasks in config["cells"].items():
        for task, values in tasks.items():
            yield ("cells", model, task), values


def _levels_of_cell(config: dict, model: str, task: str) -> Iterator[tuple[Position, dict]]:
    yield (), config
    yield ("models", model), config["models"][model]
    yield ("tasks", task), config["tasks"][task]
    yield ("cells", model, task), config.get("cells", {}).get(model, {}).get(task, {})
