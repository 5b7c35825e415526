"""Find conflicts between options, at whichever levels they are set, and missing packages."""

import itertools
import json
from collections.abc import Iterator
from importlib.util import find_spec

from gluegrid.common.escaping import shortened
from gluegrid.experiment.config_errors import Problems, dotted, quoted_name
from gluegrid.experiment.levels import Given, all_levels, given_values
from gluegrid.experiment.options import ALL_LINEAR, OPTIONS
from gluegrid.experiment.variants import plain_value, swept
from gluegrid.experiment.yaml_loader import Position

# For each value that needs a package: the modules of which one must be installed, and the package to install.
PACKAGES = {
    "tensorboard": (("tensorboard", "tensorboardX"), "tensorboard"),
    "wandb": (("wandb",), "wandb"),
    "mlflow": (("mlflow",), "mlflow"),
    "flash_attention_2": (("flash_attn",), "flash-attn"),
}
DEFAULTS = {key: option.default for key, option in OPTIONS.items()}
CONFLICTS = {key: option.conflict for key, option in OPTIONS.items() if option.conflict}


def check_options(problems: Problems, config: dict) -> None:
    """Check the options of every cell. Raises ConfigError with a line for each mistake."""
    _check_adapters(problems, dict(_adapters_of(config)))
    _check_repetition(problems, config)
    for model in config["models"]:
        for task in config["tasks"]:
            for given in _points(given_values(config, model, task)):
                _check_cell(problems, given)
    _warn_of_unused(problems, config)
    for index, tracker in enumerate(config.get("report_to", [])):
        _check_package(problems, ("report_to", index), tracker)
    problems.raise_any()


def _points(given: dict[str, Given]) -> Iterator[dict[str, Given]]:
    """Yield the values of each variant, with the positions where they are set."""
    lists = swept({key: value for key, (value, _) in given.items()})
    for point in itertools.product(*lists.values()):
        chosen = zip(lists, point, strict=True)
        yield given | {key: given[key]._replace(value=value) for key, value in chosen}


def _adapters_of(config: dict) -> Iterator[tuple[Position, dict | None]]:
    for position, level in all_levels(config):
        if isinstance(level.get("lora"), list):
            yield from (((*position, "lora", index), lora) for index, lora in enumerate(level["lora"]))
        elif "lora" in level:
            yield (*position, "lora"), level["lora"]


def _check_adapters(problems: Problems, given: dict[Position, dict | None]) -> None:
    none_to_lift = all(lora is None for lora in given.values())
    for position, lora in given.items():
        if lora is not None:
            _check_target_modules(problems, (*position, "target_modules"), lora)
        elif none_to_lift:
            problems.warn(position, "is empty, so all weights are trained; for adapters, write lora: {}")


def _check_repetition(problems: Problems, config: dict) -> None:
    """Find repeated values with different spellings, such as 3 and 3.0; the schema finds the others."""
    for position, level in all_levels(config):
        for key, values in swept(level).items():
            plain = [json.dumps(value, sort_keys=True) for value in plain_value(key, values)]
            if twice := [value for place, value in enumerate(plain) if value in plain[:place]]:
                problems.add((*position, key), f"has {shortened(twice[0])} twice; keep one of them")


def _warn_of_unused(problems: Problems, config: dict) -> None:
    """Warn about a model's option that applies to no cell, since one may expect it to win over a task's."""
    used = {
        given.position
        for model in config["models"]
        for task in config["tasks"]
        for given in given_values(config, model, task).values()
    }
    for model, values in config["models"].items():
        for key in values:
            position = ("models", model, key)
            if key in OPTIONS and position not in used:
                problems.warn(
                    position, "applies to no cell, since a task's options win over a model's; set it under cells"
                )


def _check_target_modules(problems: Problems, position: Position, lora: dict) -> None:
    modules = lora.get("target_modules", ALL_LINEAR)
    if isinstance(modules, str) and modules != ALL_LINEAR:
        advice = f"write {ALL_LINEAR}, or a list of layer names, such as [query, value]"
        problems.add(position, f"{quoted_name(modules)} is not allowed; {advice}")
    elif isinstance(modules, list) and ALL_LINEAR in modules:
        problems.add(position, f"{ALL_LINEAR} cannot be mixed with layer names; write it alone, without brackets")


def _check_cell(problems: Problems, given: dict[str, Given]) -> None:
    values = DEFAULTS | {key: value for key, (value, _) in given.items()}
    for key, conflict_of in CONFLICTS.items():
        if values[key] is not None and (conflict := conflict_of(values)):
            _add_conflict(problems, (key, *conflict.others), conflict.advice, values, given)
    if values["attn_implementation"] == "flash_attention_2":
        _check_package(problems, given["attn_implementation"].position, "flash_attention_2")
    if values["lr_scheduler_type"] == "constant_with_warmup" and values["warmup_ratio"] == 0:
        problem = "does not warm up, since warmup_ratio is 0 (the default); set warmup_ratio, or write constant"
        problems.warn(given["lr_scheduler_type"].position, f"constant_with_warmup {problem}")


def _add_conflict(
    problems: Problems, keys: tuple[str, ...], advice: str, values: dict, given: dict[str, Given]
) -> None:
    """Note a conflict at the most specific of its keys, since a more general value may suit other cells."""
    at = max(keys, key=lambda key: given[key].depth if key in given else 0)
    others = " and ".join(f"{key}: {values[key]}{_elsewhere(given.get(key), given[at])}" for key in keys if key != at)
    problems.add(given[at].position, f"{values[at]} conflicts with {others}; {advice}")


def _elsewhere(given: Given | None, beside: Given) -> str:
    """Return where a value is set, for the end of a message; '' for the same level as the other one."""
    if given is None:
        return " (the default)"
    level = given.position[:-1]
    return "" if level == beside.position[:-1] else f" (from {dotted(level) or 'the top level'})"


def _check_package(problems: Problems, position: Position, what: str) -> None:
    modules, package = PACKAGES[what]
    if not any(map(_is_installed, modules)):
        advice = f"run pip install {package}, or leave {what} out"
        problems.add(position, f"{what} needs the package {package}, which is not installed; {advice}")


def _is_installed(module: str) -> bool:
    # Without an origin it is only a folder of that name, such as wandb creates in the working folder.
    spec = find_spec(module)
    return spec is not None and spec.origin is not None
