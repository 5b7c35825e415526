"""Training values that do not go together, whichever levels they stand at, and packages that they need."""

import itertools
import json
from collections.abc import Iterable, Iterator
from importlib.util import find_spec

from gluegrid.common.escaping import shortened
from gluegrid.experiment.config_errors import Report, dotted, quoted_name
from gluegrid.experiment.options import RECIPE, RECIPES, TRAINING_KEYS, Given, all_levels, given_values
from gluegrid.experiment.variants import plain_value, swept
from gluegrid.experiment.yaml_loader import Position

ALL_LINEAR = "all-linear"
LEVELS = ("models", "tasks", "cells")  # below the top, the more specific later
# The modules of which one must be there, and the package that brings it.
TRACKERS = {
    "tensorboard": (("tensorboard", "tensorboardX"), "tensorboard"),
    "wandb": (("wandb",), "wandb"),
    "mlflow": (("mlflow",), "mlflow"),
}
FLASH_ATTENTION = (("flash_attn",), "flash-attn")
LEAST_RATE = 1e-7  # with which transformers' polynomial schedule ends

# The keys that do not go together, the one that is to blame first, and what to do.
Conflict = tuple[tuple[str, ...], str]


def check_options(report: Report, config: dict) -> None:
    """Check the training values of every cell; ConfigError has a line for each mistake, warnings go to the report."""
    _check_adapters(report, dict(_adapters_of(config)))
    _check_repetition(report, config)
    for model in config["models"]:
        for task in config["tasks"]:
            for given in _points(given_values(config, model, task)):
                _check_cell(report, given)
    _warn_of_unused(report, config)
    for index, tracker in enumerate(config.get("report_to", [])):
        _check_package(report, ("report_to", index), tracker, *TRACKERS[tracker])
    report.raise_problems()


def _points(given: dict[str, Given]) -> Iterator[dict[str, Given]]:
    """Yield the values of each variant, with where they stand."""
    lists = swept({key: value for key, (value, _) in given.items()})
    for point in itertools.product(*lists.values()):
        chosen = zip(lists, point, strict=True)
        yield given | {key: given[key]._replace(value=value) for key, value in chosen}


def _adapters_of(config: dict) -> Iterator[tuple[Position, dict | None]]:
    for position, level in all_levels(config):
        if "lora" in level:
            lora = level["lora"]
            listed = enumerate(lora) if isinstance(lora, list) else []
            yield from (((*position, "lora", index), one) for index, one in listed)
            if not isinstance(lora, list):
                yield (*position, "lora"), lora


def _check_adapters(report: Report, given: dict[Position, dict | None]) -> None:
    none_to_lift = all(lora is None for lora in given.values())
    for position, lora in given.items():
        if lora is not None:
            _check_target_modules(report, (*position, "target_modules"), lora)
        elif none_to_lift:
            report.warn(position, "has nothing below it, so all weights are trained; for adapters write lora: {}")


def _check_repetition(report: Report, config: dict) -> None:
    """Find values that are the same in two spellings, such as 3 and 3.0: the schema has found the others."""
    for position, level in all_levels(config):
        for key, values in swept(level).items():
            plain = [json.dumps(value, sort_keys=True) for value in plain_value(key, values)]
            if twice := [value for place, value in enumerate(plain) if value in plain[:place]]:
                report.add((*position, key), f"has {shortened(twice[0])} twice; keep one of them")


def _warn_of_unused(report: Report, config: dict) -> None:
    """Warn of what is given for a model and holds for none of its cells: it is easily taken to win over a task's."""
    used = {
        given.position
        for model in config["models"]
        for task in config["tasks"]
        for given in given_values(config, model, task).values()
    }
    for model, values in config["models"].items():
        for key in values:
            position = ("models", model, key)
            if key in TRAINING_KEYS and position not in used:
                report.warn(
                    position, "holds for no cell, since a task's own values win over a model's; give it in cells"
                )


def _check_target_modules(report: Report, position: Position, lora: dict) -> None:
    modules = lora.get("target_modules", ALL_LINEAR)
    if isinstance(modules, str) and modules != ALL_LINEAR:
        advice = f"write {ALL_LINEAR}, or names of layers in brackets, such as [query, value]"
        report.add(position, f"{quoted_name(modules)} is not allowed; {advice}")
    elif isinstance(modules, list) and ALL_LINEAR in modules:
        report.add(position, f"{ALL_LINEAR} stands among names of layers; write it alone and without brackets")


def _check_cell(report: Report, given: dict[str, Given]) -> None:
    values = RECIPES[RECIPE] | {key: value for key, (value, _) in given.items()}
    for keys, advice in (*_of_batches(values), *_of_arithmetic(values), *_of_schedule(values), *_of_epochs(values)):
        _add_conflict(report, keys, advice, values, given)
    if values["attn_implementation"] == "flash_attention_2":
        _check_package(report, given["attn_implementation"].position, "flash_attention_2", *FLASH_ATTENTION)
    if values["lr_scheduler_type"] == "constant_with_warmup" and values["warmup_ratio"] == 0:
        problem = "has no warm-up where warmup_ratio is 0, which is the default; give one, or write constant"
        report.warn(given["lr_scheduler_type"].position, f"constant_with_warmup {problem}")


def _of_batches(values: dict) -> Iterator[Conflict]:
    batch = values.get("global_batch_size")
    if batch is None:
        return
    devices = values["gpus"] * values["nodes"]
    parts = devices * values["gradient_accumulation_steps"]
    several = [key for key in ("gpus", "nodes", "gradient_accumulation_steps") if values[key] > 1]
    if batch % devices:
        keys = [key for key in several if key != "gradient_accumulation_steps"]
        yield (
            ("global_batch_size", *keys),
            f"each device takes an equal part, so choose a batch that is a multiple of {devices}",
        )
    elif batch < parts:
        yield ("global_batch_size", *several), f"it is computed in {parts} parts, so choose a batch of at least {parts}"


def _of_arithmetic(values: dict) -> Iterator[Conflict]:
    on_cpu = values["device"] == "cpu"
    if values["precision"] == "fp16" and on_cpu:
        yield ("precision", "device"), "fp16 is for GPUs, so choose bf16 or fp32"
    if values["attn_implementation"] != "flash_attention_2":
        return
    if on_cpu:
        yield ("attn_implementation", "device"), "it is for GPUs, so choose auto, sdpa or eager"
    elif values["precision"] == "fp32":
        yield ("attn_implementation", "precision"), "it computes in 16 bits, so choose precision auto, bf16 or fp16"


def _of_schedule(values: dict) -> Iterator[Conflict]:
    schedule, warmup, rate = values["lr_scheduler_type"], values["warmup_ratio"], values["learning_rate"]
    if schedule == "constant" and warmup > 0:
        yield ("warmup_ratio", "lr_scheduler_type"), "constant has no warm-up, so choose constant_with_warmup"
    if schedule == "polynomial" and warmup == 1:
        yield ("warmup_ratio", "lr_scheduler_type"), "polynomial needs updates after the warm-up, so choose less than 1"
    if schedule == "polynomial" and rate <= LEAST_RATE:
        advice = f"polynomial ends with a rate of {LEAST_RATE:g}, so choose a higher learning_rate or linear"
        yield ("learning_rate", "lr_scheduler_type"), advice


def _of_epochs(values: dict) -> Iterator[Conflict]:
    if values["save_model"] == "best" and values["eval_strategy"] != "epoch":
        advice = "the best is chosen by the score after each epoch, so choose eval_strategy epoch"
        yield ("save_model", "eval_strategy"), advice


def _add_conflict(report: Report, keys: tuple[str, ...], advice: str, values: dict, given: dict[str, Given]) -> None:
    """Note a conflict at the most specific of its keys: what is more general may suit other cells."""
    at = max(keys, key=lambda key: _depth(given.get(key)))
    others = " and ".join(f"{key}: {values[key]}{_elsewhere(given.get(key), given[at])}" for key in keys if key != at)
    report.add(given[at].position, f"{values[at]} does not go with {others}; {advice}")


def _depth(given: Given | None) -> int:
    """Return how specific the level of a value is: 0 for a default, 1 for the top."""
    if given is None:
        return 0
    return 1 if len(given.position) == 1 else 2 + LEVELS.index(given.position[0])


def _elsewhere(given: Given | None, beside: Given) -> str:
    """Return where a value stands, '' for the level of the other one."""
    if given is None:
        return " (the default)"
    level = given.position[:-1]
    return "" if level == beside.position[:-1] else f" (of {dotted(level) or 'the top'})"


def _check_package(report: Report, position: Position, what: str, modules: Iterable[str], package: str) -> None:
    if not any(map(_is_installed, modules)):
        advice = f"pip install {package}, or leave {what} out"
        report.add(position, f"{what} needs the package {package}, which is not installed; {advice}")


def _is_installed(module: str) -> bool:
    # Without an origin it is but a folder of that name, as wandb makes one where it runs.
    spec = find_spec(module)
    return spec is not None and spec.origin is not None
