"""A YAML loader without YAML 1.1's surprises, which also remembers the line of each key.

PyYAML reads `2e-5` as text, `no` as false, `1:30` as 90, and lets the last of two equal keys win. Here numbers are read
as people write them, only `true` and `false` are booleans, and a repeated key is an error (as in YAML 1.2). Whatever
could take unbounded time or memory (deep nesting, aliases of aliases, endless numbers) is an error.
"""

import codecs
import re
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import ClassVar

import yaml

from gluegrid.common.errors import ConfigError
from gluegrid.common.escaping import named, quoted, shortened

Position = tuple[str | int, ...]
OTHER_KINDS = (None, *(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map")))

LARGEST_FILE = 250_000  # bytes; PyYAML takes up to 10 seconds for a million
DEEPEST = 30  # levels
MOST_REPEATED = 100_000  # characters and values that aliases expand to
LONGEST_NUMBER = 100  # characters
LONGEST_REASON = 300  # characters
MOST_PROBLEMS = 100

# Control characters, which YAML forbids except for tab and line ends, and what some programs treat as a line end.
FORBIDDEN = re.compile("[^\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _Loader(yaml.SafeLoader):
    """SafeLoader with bounds, and with only the types of YAML 1.2's core schema."""

    yaml_implicit_resolvers: ClassVar[dict] = {}
    yaml_constructors: ClassVar[dict] = {kind: yaml.SafeLoader.yaml_constructors[kind] for kind in OTHER_KINDS}

    def __init__(self, text: str):
        super().__init__(text)
        self._extents: dict[yaml.Node, tuple[int, int]] = {}  # size and levels of each complete node
        self._level = 0
        self._repeated = 0

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node:
        """Compose the next node as PyYAML does, within the bounds on levels and aliases."""
        event = self.peek_event()
        self._check_levels(0, event.start_mark)
        self._level += 1
        node = super().compose_node(parent, index)
        self._level -= 1
        if isinstance(event, yaml.AliasEvent):
            self._check_alias(node, event.start_mark)
        else:
            self._extents[node] = self._extent(node)
        return node

    def _check_alias(self, node: yaml.Node, mark: yaml.Mark) -> None:
        if node not in self._extents:
            raise yaml.MarkedYAMLError(problem="this alias refers to a value that contains it", problem_mark=mark)
        size, levels = self._extents[node]
        self._check_levels(levels, mark)
        self._repeated += size
        if self._repeated > MOST_REPEATED:
            problem = f"aliases up to here expand to more than {MOST_REPEATED} characters"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)

    def _check_levels(self, below: int, mark: yaml.Mark) -> None:
        if self._level + below >= DEEPEST:
            raise yaml.MarkedYAMLError(problem=f"nested more than {DEEPEST} levels deep", problem_mark=mark)

    def _extent(self, node: yaml.Node) -> tuple[int, int]:
        """Return the size of a complete node, with its aliases expanded, and the number of levels below it."""
        if isinstance(node, yaml.ScalarNode):
            return 1 + len(node.value), 0
        children = chain.from_iterable(node.value) if isinstance(node, yaml.MappingNode) else node.value
        extents = [self._extents[child] for child in children]
        return 1 + sum(size for size, _ in extents), 1 + max((levels for _, levels in extents), default=0)


def _scalar(read: Callable[[str], object]) -> Callable:
    """Return a constructor of plain values that rejects values with a wrong explicit tag, such as `!!float nan`."""

    def construct(loader: _Loader, node: yaml.ScalarNode) -> object:
        text = loader.construct_scalar(node)
        problem = ""
        if loader.resolve(yaml.ScalarNode, text, (True, False)) != node.tag:
            problem = f"{text[:40]!r} does not match the tag {node.tag!r}"
        elif len(text) > LONGEST_NUMBER:
            problem = f"a number of {len(text)} characters"
        if problem:
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
_Loader.add_constructor("tag:yaml.org,2002:null", _scalar(lambda _: None))
_Loader.add_constructor("tag:yaml.org,2002:bool", _scalar(lambda text: text == "true"))
_Loader.add_constructor("tag:yaml.org,2002:int", _scalar(int))
_Loader.add_constructor("tag:yaml.org,2002:float", _scalar(float))


def load(path: Path) -> tuple[object, dict[Position, int]]:
    """Return a file's content and the line of each key. Raises ConfigError for what is not strict YAML."""
    loader = _Loader(_text_of(path))
    lines: dict[Position, int] = {}
    problems: list[str] = []
    try:
        node = loader.get_single_node()
        if node is not None:
            _inspect(node, (), lines, problems, path)
        if problems:
            raise ConfigError(first_problems(path, problems))
        content = loader.construct_document(node) if node is not None else None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ConfigError([_explain(path, error, loader)]) from error
    return content, lines


def as_texts(text: str) -> object:
    """Return YAML from elsewhere with every key and value as its text. Raises yaml.YAMLError, ValueError."""

    def read(node: yaml.Node) -> object:
        if isinstance(node, yaml.MappingNode):
            return {key.value: read(value) for key, value in node.value if isinstance(key, yaml.ScalarNode)}
        return [read(item) for item in node.value] if isinstance(node, yaml.SequenceNode) else node.value

    node = _Loader(text).get_single_node()
    return None if node is None else read(node)


def first_problems(path: Path, problems: list[str]) -> list[str]:
    """Return as many problems as anyone would read at once; a last line says if there are more."""
    more = [f"{path}: has more mistakes; these are the first {MOST_PROBLEMS}"]
    return problems if len(problems) <= MOST_PROBLEMS else problems[:MOST_PROBLEMS] + more


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    if len(content) > LARGEST_FILE:
        raise ConfigError([f"{path}: is larger than {LARGEST_FILE:,} bytes; is it an experiment file?"])
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        reason = "it is UTF-16" if is_utf16 else f"{error.reason} at byte {error.start}"
        raise ConfigError([f"{path}:{line}: is not UTF-8 text ({reason}); save it as UTF-8"]) from error
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if odd := FORBIDDEN.search(text):
        line, place = text.count("\n", 0, odd.start()) + 1, odd.start() - text.rfind("\n", 0, odd.start())
        problem = f"character {place} of this line is {named(odd.group())}, which is not allowed; remove it"
        raise ConfigError([f"{path}:{line}: {problem}"])
    return text


def _inspect(node: yaml.Node, position: Position, lines: dict, problems: list[str], path: Path) -> None:
    """Note the line of every key and item below `node`, and the keys that are repeated or not text."""
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
        here = (*position, key.value)
        first = lines.get(here)
        if first:
            problems.append(
                f"{path}:{line}: key {quoted(key.value)} appears twice (first on line {first}); keep one of them"
            )
        lines[here] = first or line
        if key.tag == "tag:yaml.org,2002:merge":
            _inspect(value, position, {}, problems, path)
        else:
            key.tag = "tag:yaml.org,2002:str"
            _inspect(value, here, lines, problems, path)


def _explain(path: Path, error: Exception, loader: _Loader) -> str:
    """Return one line for an error of PyYAML, or of Python for an escape or version number out of range."""
    mark = getattr(error, "problem_mark", None) or loader.get_mark()
    parts = [getattr(error, "context", None), getattr(error, "problem", None)]
    reason = ", ".join(part for part in parts if part) or "an escape or a version number is out of range"
    is_valid = type(error) is yaml.MarkedYAMLError
    return f"{path}:{mark.line + 1}: {'' if is_valid else 'not valid YAML: '}{shortened(reason, LONGEST_REASON)}"
