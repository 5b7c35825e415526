"""Variants of a cell: one for each combination of swept values, named after the values that differ from `base`.

`base` has the values that were trained first, so that values can be added or become lists without renaming any cell.
"""

import hashlib
import itertools
import json
import re
from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json
from gluegrid.common.paths import ExperimentPaths
from gluegrid.experiment.options import LORA, RECIPES, SWEPT_KEYS

BASE = "base"
LONGEST_NAME = 150  # characters; file systems allow names of 255 bytes, and suffixes may follow
LONGEST_VALUE = 40


def swept(values: dict) -> dict[str, list]:
    """Return the options that are lists of values to sweep, with their keys in alphabetical order."""
    return {key: values[key] for key in sorted(values) if key in SWEPT_KEYS and isinstance(values[key], list)}


def all_variants(values: dict, base: dict) -> list[tuple[str, dict]]:
    """Return the name and values of each variant, `base` first. `base` has the values of that variant."""
    lists = swept(values)
    named = []
    for point in itertools.product(*lists.values()):
        chosen = dict(zip(lists, point, strict=True))
        different = {key: value for key, value in chosen.items() if value != base[key]}
        named.append((variant_name(different), values | chosen))
    return sorted(named, key=lambda variant: variant[0] != BASE)


def plain_value(key: str, value: object) -> object:
    """Write 3.0 as 3 and complete adapters, so that all spellings mean the same run; in lists, for each value."""
    if key in SWEPT_KEYS and isinstance(value, list):
        return [plain_value(key, one) for one in value]
    if key == "lora" and value is not None:
        return {name: _plain_number(number) for name, number in (LORA | value).items()}
    return _plain_number(value)


def variant_name(different: dict) -> str:
    """Return the name of a variant, such as `learning_rate-3e-05`, from the values that differ from `base`."""
    name = "_".join(f"{key}-{_value_name(different[key])}" for key in sorted(different))
    if len(name) > LONGEST_NAME:
        return f"{name[: LONGEST_NAME - 9]}-{_digest(different)}"
    return name or BASE


def base_values(paths: ExperimentPaths, model: str, task: str, seeds: list[int], lists: dict[str, list]) -> dict:
    """Return the value that `base` has for each swept key: from its run.json on disk, else the first of the list.

    So existing cells keep their names, in whatever order the values are listed.
    """
    first = {key: values[0] for key, values in lists.items()}
    run = _run_of_base(paths, model, task, seeds) if lists else None
    if run is None:
        return first
    known = RECIPES.get(run.get("recipe"), {}) | run
    return {key: known.get(key, value) for key, value in first.items()}


def _run_of_base(paths: ExperimentPaths, model: str, task: str, seeds: list[int]) -> dict | None:
    """Return the run.json of the variant `base` for the first seed that has one."""
    where = {"model": model, "task": task, "variant": BASE}
    wanted = [Path(paths.run.format(**where, seed=seed)) for seed in seeds]
    others = sorted(wanted[0].parents[1].glob(f"seed-*/{wanted[0].name}"))
    for path in (*wanted, *others):
        try:
            return read_json(path)
        except DataError:
            continue
    return None


def _value_name(value: object) -> str:
    """Return a value as part of a path; a hash replaces unusual characters and the rest of long values."""
    text = _text_of(value)
    plain = re.sub(r"[^A-Za-z0-9.+_-]", "-", text)
    return plain if plain == text and len(plain) <= LONGEST_VALUE else f"{plain[:LONGEST_VALUE]}-{_digest(value)}"


def _text_of(value: object) -> str:
    if isinstance(value, dict):  # adapters: only what differs from the default
        different = {key: value[key] for key in sorted(value) if value[key] != LORA.get(key)}
        return "_".join(f"{key}-{_text_of(other)}" for key, other in different.items()) or "default"
    if isinstance(value, list):
        return "+".join(map(_text_of, value))
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def _plain_number(value: object) -> object:
    """Write 3.0 as 3, so that both spellings mean the same run."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
