"""The names that data give to their class numbers, as `datasets` and the hub write them.

The names of classes 0, 1, ... stand in the metadata of a parquet file or in the dataset's card: the YAML header of its
README.md, or the older dataset_infos.json.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import yaml

from gluegrid.common.errors import DataError, StagingError
from gluegrid.common.escaping import listed
from gluegrid.experiment import yaml_loader
from gluegrid.models.model_config import read_untrusted_json

logger = logging.getLogger(__name__)

CARD, OLD_CARD = "README.md", "dataset_infos.json"
CARDS = (CARD, OLD_CARD)
MOST_COMPARED = 1000  # names, compared pairwise
LARGEST_HEAD = 1_000_000  # characters of a card, for which PyYAML takes 10 seconds
HEAD = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*$", re.DOTALL | re.MULTILINE)
MERE_NUMBER = re.compile(r"(?:label|class)?[ _-]?(\d+)", re.IGNORECASE | re.ASCII)

ByColumn = Mapping[str, list[str]]


@dataclass(frozen=True)
class LabelNames:
    """The names of classes 0, 1, ... of a column of labels, and where they stand."""

    names: list[str]
    where: str

    def classes(self, labels: list[str]) -> dict[int, int]:
        """Return the class of each number that has a label's name; case matters only if names differ in nothing else.

        If both names and labels are left over, names may abbreviate labels, or labels names.
        """
        has_equals = any(len({name.lower() for name in names}) < len(names) for names in (self.names, labels))
        plain = str if has_equals else str.lower
        said, wanted = list(map(plain, self.names)), list(map(plain, labels))
        numbers = {label: number for number, label in enumerate(wanted)}
        classes = {number: numbers[name] for number, name in enumerate(said) if name in numbers}
        is_all = len(classes) == min(len(said), len(wanted))
        return classes if is_all else _classes_of_abbreviations(said, wanted) or classes

    def contradict(self, labels: list[str]) -> bool:
        """Tell whether a name is that of a label at another position."""
        return any(number != place for number, place in self.classes(labels).items())

    def are_strange_to(self, labels: list[str]) -> bool:
        """Tell whether some names match no label and some labels no name, so that nobody knows which is which.

        Labels that are mere numbers match any names.
        """
        return len(self.classes(labels)) < min(len(self.names), len(labels)) and not are_mere_numbers(labels)

    def difference(self, labels: list[str]) -> str:
        """Say in one line what the names and the labels are."""
        return (
            f"{self.where} numbers its labels [{listed(self.names)}] from 0, but the task's `labels` are"
            f" [{listed(labels)}]"
        )


def names_to_go_by(
    shown: str, column: str, own: ByColumn, of_card: ByColumn, card: str = "the dataset's card"
) -> LabelNames | None:
    """Return the names of a column's classes from the file's own metadata or the card; None if neither has any.

    `shown` and `card` name the two in messages. Raise DataError if they contradict each other.
    """
    said = [LabelNames(own[column], "its own metadata")] if column in own else []
    said += [LabelNames(of_card[column], card)] if column in of_card else []
    said = [each for each in said if not are_mere_numbers(each.names)]
    if len(said) > 1 and said[0].contradict(said[1].names):
        raise DataError(
            f"{shown}: column {column!r}: its own metadata numbers its labels [{listed(said[0].names)}] from 0, but"
            f" {card} [{listed(said[1].names)}]; correct one of them"
        )
    return said[0] if said else None


def are_mere_numbers(names: list[str]) -> bool:
    """Tell whether names say no more than their numbers, such as 0 and 1 or LABEL_0 and LABEL_1."""
    matches = map(MERE_NUMBER.fullmatch, names)
    return all(match and int(match[1]) == number for number, match in enumerate(matches))


def _classes_of_abbreviations(names: list[str], labels: list[str]) -> dict[int, int]:
    """Return the label that each name abbreviates, or that abbreviates it, if the match is one to one; else {}."""
    if not len(names) == len(labels) <= MOST_COMPARED:
        return {}
    meant = [
        [number for number, label in enumerate(labels) if label.startswith(name) or name.startswith(label)]
        for name in names
    ]
    numbers = [of_name[0] for of_name in meant if len(of_name) == 1]
    return dict(enumerate(numbers)) if len(set(numbers)) == len(labels) else {}


def names_in_features(features: object) -> dict[str, list[str]]:
    """Return the class names of each ClassLabel column in the features that `datasets` writes as JSON."""
    kinds = dict(_flattened(features if isinstance(features, dict) else {}))
    return _named({column: kind for column, kind in kinds.items() if _get(kind, "_type") == "ClassLabel"})


def _flattened(features: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield columns, and those in structs as `a.b`; a struct is a mapping without a type."""
    for name, kind in features.items():
        if isinstance(kind, dict) and not isinstance(kind.get("_type"), str):
            yield from _flattened(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, kind


def _named(kinds: Mapping[str, object]) -> dict[str, list[str]]:
    """Return the class names under `names` of each column that has any: a list, or in cards a mapping from numbers."""
    named = {}
    for column, kind in kinds.items():
        names = _get(kind, "names")
        if isinstance(names, dict):
            names = [names.get(str(number)) for number in range(len(names))]
        if names and isinstance(names, list) and all(isinstance(name, str) for name in names):
            named[column] = names
    return named


def _get(mapping: object, key: str) -> object:
    return mapping.get(key) if isinstance(mapping, dict) else None


def _mappings(values: object) -> list[dict]:
    """Return the mappings in a list of a card, whose content may be anything."""
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def names_in_cards(folder: Path, files: Iterable[str], configuration: str = "") -> dict[str, dict[str, list[str]]]:
    """Return the class names of each file's columns according to the dataset's cards in `folder`, if these have any.

    A card may have many configurations. Use those that a file belongs to, else the one named `configuration`, else all
    of them; if they differ on a column, nothing is known about it. Log a card that cannot be read.
    """
    head = _head_of_card(folder / CARD)
    named = [*_named_in_head(head), *_named_in_old_card(folder / OLD_CARD)]
    patterns = _patterns_in(head)
    names = {}
    for file in files:
        places = {name for name, of_it in patterns if any(fnmatchcase(file, pattern) for pattern in of_it)}
        for meant in (places, {configuration}, {*PurePosixPath(file).parts[:-1]}):
            if asked := [columns for name, columns in named if name in meant]:
                break
        names[file] = _agreed(asked or [columns for _, columns in named])
    return {file: columns for file, columns in names.items() if columns}


def _agreed(asked: list[dict[str, list[str]]]) -> dict[str, list[str]]:
    said: dict[str, list[list[str]]] = {}
    for columns in asked:
        for column, names in columns.items():
            said.setdefault(column, []).append(names)
    return {column: names[0] for column, names in said.items() if all(each == names[0] for each in names)}


def _head_of_card(path: Path) -> dict:
    """Return the YAML header of a README.md with all values as text; {} if there is none."""
    if not path.is_file():
        return {}
    match = HEAD.match(path.read_text(encoding="utf-8", errors="replace"))
    if not match:
        return {}
    try:
        if len(match[1]) > LARGEST_HEAD:
            raise ValueError(f"its YAML header is longer than {LARGEST_HEAD:,} characters")
        head = yaml_loader.as_texts(match[1])
    except (yaml.YAMLError, ValueError) as error:
        problem = " ".join(str(error).split())
        logger.warning("%s: its names of labels, if any, are ignored: %s", path.name, problem)
        return {}
    return head if isinstance(head, dict) else {}


def _named_in_head(head: dict) -> list[tuple[str, dict[str, list[str]]]]:
    """Return the name and the named columns of each configuration under `dataset_info`."""
    infos = head.get("dataset_info")
    named = []
    for info in _mappings(infos if isinstance(infos, list) else [infos]):
        kinds = {str(column.get("name")): column.get("dtype") for column in _mappings(info.get("features"))}
        columns = _named({name: _get(kind, "class_label") for name, kind in kinds.items()})
        named.append((str(info.get("config_name", "default")), columns))
    return named


def _named_in_old_card(path: Path) -> list[tuple[str, dict[str, list[str]]]]:
    """Return the name and the named columns of each configuration in a dataset_infos.json."""
    if not path.is_file():
        return []
    try:
        infos = read_untrusted_json(path)
    except StagingError as error:
        logger.warning("names of labels, if any, are ignored: %s", error)
        return []
    return [(name, names_in_features(info.get("features"))) for name, info in infos.items() if isinstance(info, dict)]


def _patterns_in(head: dict) -> list[tuple[str, list[str]]]:
    """Return the name and the file patterns of each configuration under `configs`."""
    patterns = []
    for entry in _mappings(head.get("configs")):
        folder = entry.get("data_dir")
        prefix = f"{folder.strip('/')}/" if isinstance(folder, str) else ""
        paths = _paths_in(entry.get("data_files", "*" if prefix else None))
        names = [prefix + path.removeprefix("./") for path in paths]
        patterns.append((str(entry.get("config_name", "default")), names))
    return patterns


def _paths_in(files: object) -> list[str]:
    """Return the paths in `data_files`: a path, a list of paths or of splits with a `path`, or a mapping of splits."""
    if isinstance(files, str):
        return [files]
    if isinstance(files, dict):
        files = [files["path"]] if "path" in files else [*files.values()]
    return [path for each in files for path in _paths_in(each)] if isinstance(files, list) else []
