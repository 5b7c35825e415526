"""The declaration of a training option."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

InWords = Callable[[Mapping], str]  # called with all values of a run in which the option is not at its default


class Conflict(NamedTuple):
    """The other options whose values conflict with an option, and what to do about it."""

    others: tuple[str, ...]
    advice: str


@dataclass(frozen=True)
class Option:
    """Everything that is declared about a training option, except for what it does."""

    default: object  # what runs did before the option existed
    schema: dict  # of one value; error messages quote its description
    docs: str  # the text in docs/config.md
    docs_default: str | None = None  # the default as docs/config.md describes it, if not by its value
    key: str | None = None  # the key in an experiment file, if it is not the field's name
    in_recipe: bool = True  # if false, every run.json states the value, unless it is None
    is_swept: bool = True  # whether a list of values makes one variant per value
    for_prediction: bool = False  # whether it affects cells that are not trained; if not, their run.json omits it
    conflict: Callable[[Mapping], Conflict | None] | None = None  # called with all values of a run if it is not None
    beside: InWords | None = None  # shown beside a score, where the option changes what the score means
    note: InWords | None = None  # shown below the tables, with the cells that it applies to


def option(default: object, schema: dict, description: str, docs: str = "", **more: Any) -> Any:
    """Declare a field of `Options`. A run must have a value for it, unless it is None and not part of the recipe."""
    declared = Option(default, {**schema, "description": description}, docs or description, **more)
    may_be_absent = {} if declared.in_recipe or default is not None else {"default": None}
    return field(metadata={"option": declared}, **may_be_absent)


def integer(least: int, most: int) -> dict:
    """Return the schema of a whole number."""
    return {"type": "integer", "minimum": least, "maximum": most}


def number(least: float, most: float) -> dict:
    """Return the schema of a number."""
    return {"type": "number", "minimum": least, "maximum": most}


def positive(most: float) -> dict:
    """Return the schema of a number above 0."""
    return {"type": "number", "exclusiveMinimum": 0, "maximum": most}


def one_of(*choices: str) -> dict:
    """Return the schema of a choice among these texts."""
    return {"enum": [*choices]}
