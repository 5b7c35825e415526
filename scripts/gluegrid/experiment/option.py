"""What can be declared of a training option."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

InWords = Callable[[Mapping], str]  # of all values of a run in which the option's is not the default


class Conflict(NamedTuple):
    """The other options whose values do not go with one, and what to do."""

    others: tuple[str, ...]
    advice: str


@dataclass(frozen=True)
class Option:
    """What is declared of a training option: all that is known of it besides what it does."""

    default: object  # what runs did before there was the option
    schema: dict  # of one value; its description is what error messages say
    docs: str  # what docs/config.md says
    docs_default: str | None = None  # what it says of the default, if not the value
    key: str | None = None  # in an experiment file, if not the field's name
    in_recipe: bool = True  # else every run.json has its value written out, but for None
    is_swept: bool = True  # whether a list of values makes a variant of each
    for_prediction: bool = False  # whether it decides a cell that is not trained; else such a run.json leaves it out
    conflict: Callable[[Mapping], Conflict | None] | None = None  # of all values of a run in which it is not None
    beside: InWords | None = None  # what stands beside a number, since the option makes it another number
    note: InWords | None = None  # what stands below the tables, with the cells that were trained so


def option(default: object, schema: dict, description: str, docs: str = "", **more: Any) -> Any:
    """Declare a field of `Options`. A run must have its value, but where it is no part of the recipe and None."""
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
    """Return the schema of one of these texts."""
    return {"enum": [*choices]}
