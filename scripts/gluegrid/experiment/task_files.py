"""Which files of a source form the splits of a task that names its files or cuts splits from its training split.

Such files are converted when they are staged (staging/convert.py); all other tasks have Parquet files named as on the
hub.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from gluegrid.common.errors import DataError, StagingError
from gluegrid.common.escaping import listed, nearest
from gluegrid.common.paths import is_local
from gluegrid.experiment.file_formats import SUFFIXES, format_of, kind_of_split, what_is_there

PART = re.compile(r"-(\d{5})-of-(\d{5})\.parquet$")
# How text files are read, if not in the usual way; otherwise absent, as in older runs.
READING_KEYS = ("encoding", "quoting", "columns", "uneven_rows")
# The keys that determine the converted files.
LAYOUT_KEYS = ("files", "cut_from_train", "text_columns", "label_column", "labels", "train", "test")
DEEPEST = 8  # levels of folders that `**` searches
STAR = re.compile(r"(\*\*/|\*\*|\*)")
STARS = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*"}


def is_one_file(source: str) -> bool:
    """Tell from its name whether a source is a single local file, not a folder."""
    return is_local(source) and source.lower().endswith(SUFFIXES)


def is_converted(entry: Mapping) -> bool:
    """Tell whether the files of a task, given by its config entry, are converted when they are staged."""
    return bool(entry.get("files") or entry.get("cut_from_train") or is_one_file(entry.get("source", "")))


def layout(entry: Mapping) -> dict | None:
    """Return what determines a task's converted files besides its source; None if its files are not converted."""
    if not is_converted(entry):
        return None
    reading = {key: entry[key] for key in READING_KEYS if entry.get(key)}
    return {key: entry.get(key) for key in LAYOUT_KEYS} | reading | {"validation": sorted(entry["validation"])}


def definition_of_examples(entry: Mapping) -> dict:
    """Return what determines a task's tokens besides its data, as arguments of a Task; alias and metrics do not."""
    given = {key: entry[key] for key in ("source", "revision", "folder", *LAYOUT_KEYS) if entry.get(key) is not None}
    return given | {"name": entry["source"], "validation": dict.fromkeys(entry["validation"], ""), "metrics": []}


def splits_of(entry: Mapping) -> list[str]:
    """Return the splits of a task's config entry, the training split first."""
    return list(dict.fromkeys(filter(None, [entry["train"], *entry["validation"], *entry["test"]])))


def key_of_split(entry: Mapping, split: str) -> str:
    """Return the key of the task's entry that lists a split."""
    return "train" if split == entry["train"] else "validation" if split in entry["validation"] else "test"


def patterns_of(entry: Mapping) -> dict[str, list[str]]:
    """Return the file patterns of each split that is not cut from another.

    `*` matches any characters except `/`, and `**/` any folders. They are relative to the task's folder in its source.
    """
    if is_one_file(entry["source"]):
        return {split: [entry["source"].rpartition("/")[2]] for split in splits_of(entry)[:1]}
    cut = entry.get("cut_from_train") or {}
    as_on_the_hub = {split: [f"{split}-*-of-*.parquet"] for split in splits_of(entry) if split not in cut}
    return entry.get("files") or as_on_the_hub


def depth_of(entry: Mapping) -> int:
    """Return how many levels of folders deep the files of a task may be; at least 1."""
    patterns = [pattern for of_split in patterns_of(entry).values() for pattern in of_split]
    depth = max((DEEPEST if "**" in pattern else pattern.count("/") for pattern in patterns), default=0)
    return max(1, depth + bool(entry.get("folder")))


def files_of_splits(names: Iterable[str], entry: Mapping) -> dict[str, list[str]]:
    """Return the files of each split among those of a source, in the order of their rows. Raises GluegridError."""
    names = sorted(names)
    folder = f"{entry['folder']}/" if entry.get("folder") else ""
    files = {
        split: [name for pattern in patterns for name in _matching(names, folder + pattern, split)]
        for split, patterns in patterns_of(entry).items()
    }
    for name, count in Counter(name for of_split in files.values() for name in of_split).items():
        if count > 1:
            raise StagingError(f"{name} is named {count} times; name it once, for one split")
    return files


def check_all_parts(files: Mapping[str, list[str]]) -> None:
    """Check by the file names that no split lacks a part. Raises DataError."""
    for split, of_split in files.items():
        check_parts(split, of_split, str)


def check_parts(split: str, names: list[str], shown: Callable[[str], str]) -> None:
    """Check that the files of a split with names such as `-00000-of-00003` form one complete set. Raises DataError.

    `shown` returns the name of a file for messages.
    """
    parts = {name: tuple(map(int, match.groups())) for name in names if (match := PART.search(name))}
    totals = {total for _, total in parts.values()}
    if len(totals) > 1:
        raise DataError(
            f"{shown(names[0])}: split {split!r} mixes files of several sets, {listed(names)};"
            " remove those that do not belong to it"
        )
    for total in totals:
        lacking = [number for number in range(total) if (number, total) not in parts.values()]
        if lacking:
            name = PART.sub(f"-{lacking[0]:05}-of-{total:05}.parquet", next(iter(parts)))
            raise DataError(f"{shown(name)}: is missing; split {split!r} has {len(parts)} of its {total} files")


def _matching(names: list[str], pattern: str, split: str) -> list[str]:
    """Return the names that match a pattern, sorted. Raises StagingError if there are none."""
    expression = re.compile("".join(STARS.get(part) or re.escape(part) for part in STAR.split(pattern)))
    matching = [name for name in names if expression.fullmatch(name)]
    if not matching:
        meant = nearest(pattern, [name for name in names if format_of(name)[0] and _may_be_for(name, split)])
        hint = f" Did you mean {meant!r}?" if meant else ""
        raise StagingError(f"it contains no {pattern}; {what_is_there(names)}{hint}")
    return matching


def _may_be_for(name: str, split: str) -> bool:
    """Tell whether to suggest a file for a split; for training only if its name says so."""
    said = kind_of_split(name)
    return said == "train" if kind_of_split(split) == "train" else said in (None, kind_of_split(split))
