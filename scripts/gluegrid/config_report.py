"""What is wrong with a YAML file, as lines: file and line, key, value, what is allowed, and the nearest match."""

import difflib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import jsonschema

from gluegrid.errors import ConfigError
from gluegrid.strict_yaml import Position

LONGEST_VALUE = 60

_CheckedTypes = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
    # JSON Schema counts 32.0 as an integer; Python would then train with a float as batch size.
    "integer",
    lambda _, value: isinstance(value, int) and not isinstance(value, bool),
)
_Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=_CheckedTypes)


class Report:
    """Collects the mistakes of one file. Raises ConfigError when asked and there are any."""

    def __init__(self, path: Path, lines: dict[Position, int]):
        self.path = path
        self.lines = lines
        self.problems: dict[str, int] = {}  # message -> line, 0 for none

    def add(self, position: Position, problem: str) -> None:
        """Note a mistake at a key; its line is that of the key, or of the nearest parent that has one."""
        parents = (position[:end] for end in range(len(position), 0, -1))
        line = next((self.lines[parent] for parent in parents if parent in self.lines), 0)
        where = f"{self.path}:{line}" if line else str(self.path)
        self.problems[f"{where}: {dotted(position)}: {problem}" if position else f"{where}: {problem}"] = line

    def check_schema(self, content: object, schema: dict) -> None:
        """Note everything in `content` that the closed schema does not allow."""
        for error in _Validator(schema).iter_errors(content):
            for position, problem in _explain(error):
                self.add(position, problem)

    def raise_problems(self) -> None:
        """Raise ConfigError if a mistake was noted, with the mistakes in the order of the file."""
        if self.problems:
            raise ConfigError(sorted(self.problems, key=self.problems.get))


def quoted(value: object) -> str:
    """Return a value as it would be written, shortened if it is long."""
    return _shortened(json.dumps(value) if value is None or isinstance(value, bool) else repr(value))


def dotted(position: Position) -> str:
    """Return a key with its parents, such as models.bert.revision."""
    return ".".join(_shortened(str(part) if str(part).isprintable() else repr(part)) for part in position)


def suggest(name: object, known: Iterable[str]) -> str:
    """Return the nearest match of a name, and all that are known."""
    known = sorted(known)
    matches = difflib.get_close_matches(str(name), known, n=1)
    hint = f" Did you mean {matches[0]!r}?" if matches else ""
    return f"{hint} Known: {', '.join(known)}"


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def _explain(error: jsonschema.ValidationError) -> Iterator[tuple[Position, str]]:
    """Yield position and problem of each mistake behind one error of the schema."""
    position = tuple(error.absolute_path)
    if error.validator == "additionalProperties":
        allowed = error.schema["properties"]
        for name in error.instance:
            if name not in allowed:
                value = quoted(error.instance[name])
                yield (*position, name), f"unknown key (its value is {value}).{suggest(name, allowed)}"
    elif error.validator == "required":
        for name in error.validator_value:
            if name not in error.instance:
                yield position, f"the key {name!r} is missing"
    elif "propertyNames" in error.absolute_schema_path:
        name = error.instance
        yield (*position, name), f"the name {quoted(name)} is not allowed; allowed: {_allowed(error)}"
    else:
        yield position, f"{quoted(error.instance)} is not allowed; allowed: {_allowed(error)}"


def _allowed(error: jsonschema.ValidationError) -> str:
    """Describe in words what the schema takes at this place."""
    schema = error.schema
    parts = [_choices(error.instance, schema["enum"])] if "enum" in schema else []
    parts += _range_in_words(schema) + _list_in_words(schema)
    if schema.get("type") == "string" and isinstance(error.instance, int | float):
        parts.append("text, so put quotes around it")
    if "description" in schema:
        parts.append(schema["description"])
    return "; ".join(parts)


def _choices(value: object, choices: list[str]) -> str:
    matches = difflib.get_close_matches(str(value), choices, n=1)
    nearest = f" (did you mean {matches[0]!r}?)" if matches else ""
    return f"one of {', '.join(choices)}{nearest}"


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
    return [f"{words}, or null" if "null" in types else words]


def _list_in_words(schema: dict) -> list[str]:
    if schema.get("type") != "array":
        return []
    least = f" of at least {schema['minItems']}" if "minItems" in schema else ""
    most = f", at most {schema['maxItems']}" if "maxItems" in schema else ""
    return [f"a list{least}{most}, without repetition"]
