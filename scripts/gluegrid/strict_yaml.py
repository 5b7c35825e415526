"""A YAML loader without YAML 1.1's surprises, which also remembers where each key stands.

PyYAML reads `2e-5` as text, `no` as false, `1:30` as 90, and lets the last of two equal keys win. Here numbers are read
as people write them, only `true` and `false` are booleans, and a repeated key is an error (as YAML 1.2 says).
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import yaml

from gluegrid.errors import ConfigError

Position = tuple[str | int, ...]
OTHER_KINDS = (None, *(f"tag:yaml.org,2002:{kind}" for kind in ("null", "str", "seq", "map")))


class _Loader(yaml.SafeLoader):
    """SafeLoader with the types of YAML 1.2's core schema, and no others."""

    yaml_implicit_resolvers: ClassVar[dict] = {}
    yaml_constructors: ClassVar[dict] = {kind: yaml.SafeLoader.yaml_constructors[kind] for kind in OTHER_KINDS}


def _scalar(read: Callable[[str], object]) -> Callable:
    """Return a constructor of plain values that refuses what an explicit tag forces into them, as `!!float nan`."""

    def construct(loader: _Loader, node: yaml.ScalarNode) -> object:
        text = loader.construct_scalar(node)
        if loader.resolve(yaml.ScalarNode, text, (True, False)) != node.tag:
            problem = f"{text[:40]!r} does not suit the tag {node.tag!r}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return read(text)

    return construct


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|false)$"), list("tf"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(null|~|)$"), ["n", "~", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])
_Loader.add_constructor("tag:yaml.org,2002:bool", _scalar(lambda text: text == "true"))
_Loader.add_constructor("tag:yaml.org,2002:int", _scalar(int))
_Loader.add_constructor("tag:yaml.org,2002:float", _scalar(float))


def load(path: Path) -> tuple[object, dict[Position, int]]:
    """Return a file's content and the line of each key in it; ConfigError for what is not strict YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 text: {error.reason} at byte {error.start}"]) from error
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        lines: dict[Position, int] = {}
        problems: list[str] = []
        if node is not None:
            _inspect(node, (), lines, problems, path)
        if problems:
            raise ConfigError(problems)
        content = loader.construct_document(node) if node is not None else None
    except RecursionError as error:
        raise ConfigError([f"{path}: nested too deeply, or an alias stands inside what it names"]) from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError([_explain(path, error)]) from error
    return content, lines


def _inspect(node: yaml.Node, position: Position, lines: dict, problems: list[str], path: Path) -> None:
    """Note the line of every key and item below `node`, and the keys that are repeated or no text."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*position, index)] = item.start_mark.line + 1
            _inspect(item, (*position, index), lines, problems, path)
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            problems.append(f"{path}:{line}: a key must be text")
            continue
        if key.tag == "tag:yaml.org,2002:merge":
            _inspect(value, position, {}, problems, path)
            continue
        key.tag = "tag:yaml.org,2002:str"
        here = (*position, key.value)
        if here in lines:
            problems.append(
                f"{path}:{line}: key {key.value!r} stands twice (first on line {lines[here]}); keep one of them"
            )
        lines[here] = line
        _inspect(value, here, lines, problems, path)


def _explain(path: Path, error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"{path}:{mark.line + 1}" if mark else str(path)
    parts = [getattr(error, "context", None), getattr(error, "problem", None)]
    reason = ", ".join(part for part in parts if part) or str(error).splitlines()[0]
    return f"{where}: not valid YAML: {reason}"
