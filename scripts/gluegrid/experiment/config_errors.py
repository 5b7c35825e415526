"""The mistakes in a YAML file, one line each: file and line, key, value, what is allowed, and the nearest match."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import jsonschema

from gluegrid.common.errors import ConfigError
from gluegrid.common.escaping import character_at, lookalike, nearest, quoted, shortened
from gluegrid.experiment.yaml_loader import MOST_PROBLEMS, Position, first_problems

LONGEST_PROBLEM = 600  # characters
LONGEST_LIST = 400  # characters of known names
LONGEST_CHECKED = 300  # characters; no text of a config may be longer

_CheckedTypes = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
    # JSON Schema accepts 32.0 as an integer; the batch size would then be a float.
    "integer",
    lambda _, value: isinstance(value, int) and not isinstance(value, bool),
)


def _unique_items(validator: object, unique: bool, instance: object, _schema: dict) -> Iterator:
    """Check a list for repetition in linear time; jsonschema's own check compares every pair of items."""
    if isinstance(instance, list) and len({json.dumps(item, sort_keys=True) for item in instance}) < len(instance):
        yield jsonschema.ValidationError("repeated")


_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator, {"uniqueItems": _unique_items}, type_checker=_CheckedTypes
)


class Problems:
    """The mistakes and warnings found in one file; `raise_any` raises ConfigError if there are mistakes."""

    def __init__(self, path: Path, lines: dict[Position, int]):
        self.path = path
        self.lines = lines
        self.elsewhere: dict[Position, str] = {}  # what is set outside the file -> where
        self.mistakes: dict[str, int] = {}  # message -> line, 0 for none
        self.warnings: dict[str, None] = {}  # an ordered set

    def add(self, position: Position, problem: str) -> None:
        """Note a mistake at a key. Raises ConfigError once there are more than anyone would read."""
        self.mistakes[self._message(position, problem)] = self._line(position)
        if len(self.mistakes) > MOST_PROBLEMS:
            self.raise_any()

    def warn(self, position: Position, warning: str) -> None:
        """Note a warning at a key; repetitions count once."""
        self.warnings[self._message(position, warning)] = None

    def check_schema(self, content: object, schema: dict) -> None:
        """Note everything in `content` that the closed schema does not allow."""
        for error in _Validator(schema).iter_errors(content):
            for position, problem in _explain(error):
                self.add(position, problem)

    def raise_any(self) -> None:
        """Raise ConfigError with all mistakes in the order of the file, if there are any."""
        if self.mistakes:
            raise ConfigError(first_problems(self.path, sorted(self.mistakes, key=self.mistakes.get)))

    def _message(self, position: Position, text: str) -> str:
        line = self._line(position)
        where = self.elsewhere.get(position) or (f"{self.path}:{line}" if line else str(self.path))
        return f"{where}: {shortened(f'{dotted(position)}: {text}' if position else text, LONGEST_PROBLEM)}"

    def _line(self, position: Position) -> int:
        """Return the line of a key, or of the nearest parent that has one."""
        parents = (position[:end] for end in range(len(position), 0, -1))
        return next((self.lines[parent] for parent in parents if parent in self.lines), 0)


def dotted(position: Position) -> str:
    """Return a key with its parents, such as models.bert.revision."""
    return ".".join(shortened(str(part) if str(part).isprintable() else repr(part)) for part in position)


def quoted_name(name: object) -> str:
    """Return a name in quotes, with its first look-alike character if it has one."""
    odd = lookalike(name)
    return f"{quoted(name)} ({odd})" if odd else quoted(name)


def suggest(name: object, known: Iterable[str]) -> str:
    """Return the nearest match of a name, and all known names."""
    known = sorted(known)
    meant = nearest(name, known)
    return f"{f' Did you mean {meant!r}?' if meant else ''} Known: {shortened(', '.join(known), LONGEST_LIST)}"


def _explain(error: jsonschema.ValidationError) -> Iterator[tuple[Position, str]]:
    """Yield the position and the description of each mistake behind one schema error."""
    position = tuple(error.absolute_path)
    if error.validator == "additionalProperties":
        allowed = error.schema["properties"]
        for name in error.instance:
            if name not in allowed:
                odd = f"{lookalike(name)}; " if lookalike(name) else ""
                value = quoted(error.instance[name])
                yield (*position, name), f"unknown key ({odd}its value is {value}).{suggest(name, allowed)}"
    elif error.validator == "required":
        for name in error.validator_value:
            if name not in error.instance:
                yield position, f"the key {name!r} is missing"
    elif "propertyNames" in error.absolute_schema_path:
        yield (*position, error.instance), f"the name {_not_allowed(error)}"
    else:
        yield position, _not_allowed(error)


def _not_allowed(error: jsonschema.ValidationError) -> str:
    odd = _odd_character(error.instance, error.schema.get("pattern"))
    return f"{quoted(error.instance)} is not allowed{f' ({odd})' if odd else ''}; allowed: {_allowed(error)}"


def _odd_character(value: object, pattern: str | None) -> str:
    """Describe the first character at which a text stops matching a pattern; '' if there is none."""
    if not isinstance(value, str) or pattern is None or not _can_begin("", pattern):
        return lookalike(value)
    if re.search(pattern, value):
        return ""
    checked = range(min(len(value), LONGEST_CHECKED))
    place = next((place for place in checked if not _can_begin(value[: place + 1], pattern)), None)
    return "" if place is None else character_at(value, place)


def _can_begin(text: str, pattern: str) -> bool:
    """Tell whether a text that matches the pattern can begin like this; a letter may follow, except in hashes."""
    return any(re.search(pattern, text + rest) for rest in ("", "a", "/a"))


def _allowed(error: jsonschema.ValidationError) -> str:
    """Describe in words what the schema accepts here."""
    schema = error.schema
    parts = [_choices(error.instance, schema["enum"])] if "enum" in schema else []
    parts += _range_in_words(schema) + _list_in_words(schema)
    if schema.get("type") == "string" and isinstance(error.instance, int | float):
        parts.append("text, so put it in quotes")
    if "description" in schema:
        parts.append(schema["description"])
    return "; ".join(parts)


def _choices(value: object, choices: list[str]) -> str:
    meant = nearest(value, choices)
    return f"one of {', '.join(choices)}{f' (did you mean {meant!r}?)' if meant else ''}"


def _range_in_words(schema: dict) -> list[str]:
    kinds = {"integer": "a whole number", "number": "a number"}
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    words = "".join(kinds[kind] for kind in types if kind in kinds)
    if not words:
        return []
    if "exclusiveMinimum" in schema:
        words += f" above {schema['exclusiveMinimum']}"
    if "minimum" in schema:
        words += f" of at least {schema['minimum']}"
    if "maximum" in schema:
        words += f", at most {schema['maximum']}"
    if "exclusiveMaximum" in schema:
        words += f", below {schema['exclusiveMaximum']}"
    return [f"{words}, or null" if "null" in types else words]


def _list_in_words(schema: dict) -> list[str]:
    if schema.get("type") != "array":
        return []
    least = f" of at least {schema['minItems']}" if "minItems" in schema else ""
    most = f", at most {schema['maxItems']}" if "maxItems" in schema else ""
    return [f"a list{least}{most}, without repetition"]
