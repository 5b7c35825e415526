"""What data call the numbers of their labels, where they say so, as `datasets` and the hub write it.

A column of class 0, 1, ... has its names in the metadata of a parquet file, or in the data set's card: the head of its
README.md, or the older dataset_infos.json.
"""

import logging
import re
from collections.abc import Iterable, Mapping
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
MOST_COMPARED = 1000  # names, each with each
LARGEST_HEAD = 1_000_000  # characters of a card; PyYAML takes 10 seconds for that many
HEAD = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*$", re.DOTALL | re.MULTILINE)
MERE_NUMBER = re.compile(r"(?:label|class)?[ _-]?(\d+)", re.IGNORECASE | re.ASCII)

ByColumn = Mapping[str, list[str]]


@dataclass(frozen=True)
class LabelNames:
    """The names of the numbers 0, 1, ... of a column of labels, and where they stand."""

    names: list[str]
    where: str

    def classes(self, labels: list[str]) -> dict[int, int]:
        """Return the class of each number that has a label's name; capitals count only where names else are equal.

        Where that leaves both names and labels over, names may be short for labels, or labels for names.
        """
        plain = str if _has_equals(map(str.lower, self.names)) or _has_equals(map(str.lower, labels)) else str.lower
        said, wanted = list(map(plain, self.names)), list(map(plain, labels))
        numbers = {label: number for number, label in enumerate(wanted)}
        classes = {number: numbers[name] for number, name in enumerate(said) if name in numbers}
        is_all = len(classes) == min(len(said), len(wanted))
        return classes if is_all else _classes_of_abbreviations(said, wanted) or classes

    def contradict(self, labels: list[str]) -> bool:
        """Tell whether a name is that of a label at another place."""
        return any(number != place for number, place in self.classes(labels).items())

    def are_strange_to(self, labels: list[str]) -> bool:
        """Tell whether there are names that no label has and labels that no name is: nobody knows which is which.

        Labels that are mere numbers may have any names.
        """
        return len(self.classes(labels)) < min(len(self.names), len(labels)) and not are_mere_numbers(labels)

    def difference(self, labels: list[str]) -> str:
        """Say in one line what they are and what the labels are."""
        return (
            f"{self.where} calls the numbers from 0 on [{listed(self.names)}], and the task's `labels` are"
            f" [{listed(labels)}]"
        )


def names_to_go_by(
    shown: str, column: str, own: ByColumn, of_card: ByColumn, card: str = "the data set's card"
) -> LabelNames | None:
    """Return the names of a column's numbers by the file's own metadata or the card; None where neither says anything.

    `shown` and `card` name them in messages. Raises DataError where the two contradict each other.
    """
    said = [LabelNames(own[column], "its own metadata")] if column in own else []
    said += [LabelNames(of_card[column], card)] if column in of_card else []
    said = [each for each in said if not are_mere_numbers(each.names)]
    if len(said) > 1 and said[0].contradict(said[1].names):
        raise DataError(
            f"{shown}: column {column!r}: its own metadata calls the numbers from 0 on [{listed(said[0].names)}],"
            f" {card} [{listed(said[1].names)}]; correct one of them"
        )
    return said[0] if said else None


def are_mere_numbers(names: list[str]) -> bool:
    """Tell whether names say no more than the numbers do, as 0 and 1 or LABEL_0 and LABEL_1 do."""
    found = [MERE_NUMBER.fullmatch(name) for name in names]
    return all(match and int(match[1]) == number for number, match in enumerate(found))


def _classes_of_abbreviations(names: list[str], labels: list[str]) -> dict[int, int]:
    """Return the label that each name is short for, or the other way round, if so each is of exactly one; else {}."""
    if not len(names) == len(labels) <= MOST_COMPARED:
        return {}
    meant = [
        [number for number, label in enumerate(labels) if label.startswith(name) or name.startswith(label)]
        for name in names
    ]
    numbers = [of_name[0] for of_name in meant if len(of_name) == 1]
    return dict(enumerate(numbers)) if len(set(numbers)) == len(labels) else {}


def _has_equals(names: Iterable[str]) -> bool:
    names = list(names)
    return len(set(names)) < len(names)


def names_in_features(features: object) -> dict[str, list[str]]:
    """Return the names of each column that is a ClassLabel in `datasets`' JSON of features."""
    columns = features.items() if isinstance(features, dict) else ()
    named = {column: _listed_names(kind) for column, kind in columns if _is_class_label(kind)}
    return {column: names for column, names in named.items() if names}


def _is_class_label(kind: object) -> bool:
    return isinstance(kind, dict) and kind.get("_type") == "ClassLabel"


def _listed_names(kind: object) -> list[str]:
    """Return the names under `names`: a list, or as cards have it a mapping from numbers."""
    names = kind.get("names") if isinstance(kind, dict) else None
    if isinstance(names, dict):
        names = [names.get(str(number)) for number in range(len(names))]
    is_list_of_names = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if is_list_of_names else []


def names_in_cards(folder: Path, files: Iterable[str], configuration: str = "") -> dict[str, dict[str, list[str]]]:
    """Return for each of a data set's files the names of its columns by the cards in `folder`, where they say any.

    A card may have many configurations. Those that a file belongs to are asked, else the one named `configuration`,
    else all of them; where they differ on a column nothing is known of it. A card that cannot be read is logged.
    """
    head = _head_of_card(folder / CARD)
    named = [*_named_in_head(head), *_named_in_old_card(folder / OLD_CARD)]
    patterns = _patterns_in(head)
    found = {}
    for file in files:
        places = {name for name, of_it in patterns if any(fnmatchcase(file, pattern) for pattern in of_it)}
        for meant in (places, {configuration}, {*PurePosixPath(file).parts[:-1]}):
            if asked := [columns for name, columns in named if name in meant]:
                break
        found[file] = _agreed(asked or [columns for _, columns in named])
    return {file: columns for file, columns in found.items() if columns}


def _agreed(asked: list[dict[str, list[str]]]) -> dict[str, list[str]]:
    said: dict[str, list[list[str]]] = {}
    for columns in asked:
        for column, names in columns.items():
            said.setdefault(column, []).append(names)
    return {column: names[0] for column, names in said.items() if all(each == names[0] for each in names)}


def _head_of_card(path: Path) -> dict:
    """Return the YAML at the top of a README.md, all values as text; {} where there is none."""
    if not path.is_file():
        return {}
    found = HEAD.match(path.read_text(encoding="utf-8", errors="replace"))
    if not found:
        return {}
    try:
        if len(found[1]) > LARGEST_HEAD:
            raise ValueError(f"its head is longer than {LARGEST_HEAD:,} characters")
        head = yaml_loader.as_texts(found[1])
    except (yaml.YAMLError, ValueError) as error:
        problem = " ".join(str(error).split())
        logger.warning("%s: names of labels in it, if any, are not known: %s", path.name, problem)
        return {}
    return head if isinstance(head, dict) else {}


def _named_in_head(head: dict) -> list[tuple[str, dict[str, list[str]]]]:
    """Return name and named columns of each configuration under `dataset_info`."""
    infos = head.get("dataset_info")
    infos = [info for info in (infos if isinstance(infos, list) else [infos]) if isinstance(info, dict)]
    return [(str(info.get("config_name", "default")), _named_columns(info.get("features"))) for info in infos]


def _named_columns(features: object) -> dict[str, list[str]]:
    columns = [feature for feature in features if isinstance(feature, dict)] if isinstance(features, list) else []
    kinds = {str(column.get("name")): column.get("dtype") for column in columns}
    named = {name: _listed_names(kind.get("class_label")) for name, kind in kinds.items() if isinstance(kind, dict)}
    return {name: names for name, names in named.items() if names}


def _named_in_old_card(path: Path) -> list[tuple[str, dict[str, list[str]]]]:
    """Return name and named columns of each configuration of a dataset_infos.json."""
    if not path.is_file():
        return []
    try:
        infos = read_untrusted_json(path)
    except StagingError as error:
        logger.warning("names of labels, if any, are not known: %s", error)
        return []
    return [(name, names_in_features(info.get("features"))) for name, info in infos.items() if isinstance(info, dict)]


def _patterns_in(head: dict) -> list[tuple[str, list[str]]]:
    """Return name and patterns of files of each configuration under `configs`."""
    entries = head.get("configs")
    entries = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return [(str(entry.get("config_name", "default")), _patterns_of(entry)) for entry in entries]


def _patterns_of(entry: dict) -> list[str]:
    folder = entry.get("data_dir")
    prefix = f"{folder.strip('/')}/" if isinstance(folder, str) else ""
    files = entry.get("data_files", "*" if prefix else None)
    return [prefix + path.removeprefix("./") for path in _paths_in(files)]


def _paths_in(files: object) -> list[str]:
    """Return the paths of `data_files`: a path, a list of them or of splits with a `path`, or splits with theirs."""
    if isinstance(files, str):
        return [files]
    if isinstance(files, dict):
        files = [files["path"]] if "path" in files else [*files.values()]
    return [path for each in files for path in _paths_in(each)] if isinstance(files, list) else []
