"""Checks that a schema cannot express: where data and models come from, and how data files are read."""

import codecs
import re
from collections.abc import Iterator, Mapping
from encodings.aliases import aliases
from pathlib import Path

from gluegrid.common.escaping import listed, nearest, quoted
from gluegrid.common.paths import is_local
from gluegrid.experiment.config_errors import Problems, quoted_name
from gluegrid.experiment.file_formats import DELIMITED, TEXTS, format_of
from gluegrid.experiment.task_files import is_converted, is_one_file, key_of_split, patterns_of, splits_of

Problem = tuple[str, str]  # the key at fault, and what is wrong
HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
NO_ENCODINGS = ("undefined", "idna", "punycode", "unicode-escape", "raw-unicode-escape")


def check_splits(problems: Problems, tasks: Mapping[str, dict]) -> None:
    """Note what is wrong with `files` and `cut_from_train` of each task, and with sources that are a single file."""
    for name, task in tasks.items():
        if "source" in task and is_converted(task):
            for key, problem in _problems_of_files(task):
                problems.add(("tasks", name, *key.split(".")), problem)


def _problems_of_files(task: dict) -> Iterator[Problem]:
    files, cut = task.get("files") or {}, task.get("cut_from_train") or {}
    if is_one_file(task["source"]):
        if more := [key for key in ("files", "folder") if task.get(key)]:
            advice = f"name the file's folder as source, or leave {more[0]} out"
            yield more[0], f"conflicts with a source that is a single file; {advice}"
            return
        files = {split: [task["source"]] for split in splits_of(task)[:1]}
    yield from _problems_of_cut(task, files, cut)
    if files:
        yield from _problems_of_names(task, files, cut)


def _problems_of_cut(task: dict, files: Mapping, cut: Mapping) -> Iterator[Problem]:
    if cut and task["train"] is None:
        yield "cut_from_train", "needs a training split to cut from; leave it out, or name one under train"
    for split in cut:
        if split == task["train"] or split not in splits_of(task):
            yield f"cut_from_train.{split}", f"{quoted(split)} is not listed under validation or test; add it there"
        elif split in files:
            yield f"cut_from_train.{split}", "already has files under files; remove it from one of them"
    if sum(cut.values()) >= 1:
        total = f"{sum(cut.values()):g}"
        yield "cut_from_train", f"the shares add up to {total}, which leaves nothing to train on; choose smaller ones"


def _problems_of_names(task: dict, files: Mapping, cut: Mapping) -> Iterator[Problem]:
    for split in splits_of(task):
        if split not in files and split not in cut:
            advice = "give its file under files, or its share under cut_from_train"
            yield key_of_split(task, split), f"the split {quoted(split)} has no source; {advice}"
    for split in files:
        if split not in splits_of(task):
            advice = f"add it to one of them, such as validation: {{{split}: ''}}"
            yield f"files.{split}", f"{quoted(split)} is not listed under train, validation or test; {advice}"


def check_reading(problems: Problems, tasks: Mapping[str, dict]) -> None:
    """Note what is wrong with the keys that say how each task's files are read."""
    for name, task in tasks.items():
        for key, problem in _problems_of_reading(task):
            problems.add(("tasks", name, key), problem)


def _problems_of_reading(task: dict) -> Iterator[Problem]:
    if (encoding := task.get("encoding")) and not _is_encoding(encoding):
        meant = nearest(encoding.lower().replace("_", "-"), _encodings())
        hint = f". Did you mean {meant!r}?" if meant else ""
        advice = hint or "; use a name such as latin-1 or gb18030"
        yield "encoding", f"{quoted_name(encoding)} is not a text encoding that Python knows{advice}"
    if columns := task.get("columns"):
        for key, named in (("text_columns", task.get("text_columns", [])), ("label_column", [task["label_column"]])):
            if missing := [column for column in named if column not in columns]:
                meant = nearest(missing[0], columns)
                advice = f". Did you mean {meant!r}?" if meant else f", which are: {listed(columns)}"
                yield key, f"{quoted(missing[0])} is not one of `columns`{advice}"
    if "source" in task:
        formats = {format_of(name)[0] for of_split in patterns_of(task).values() for name in of_split}
        for key, of_key in (("encoding", TEXTS), *((key, DELIMITED) for key in ("quoting", "columns", "uneven_rows"))):
            if task.get(key) and not formats & set(of_key):
                yield key, f"applies only to {', '.join(of_key)} files, of which the task has none; leave it out"


def _encodings() -> list[str]:
    names = {name.replace("_", "-") for pair in aliases.items() for name in pair}
    return sorted(filter(_is_encoding, names))


def _is_encoding(name: str) -> bool:
    """Tell whether a name is that of a text encoding; Python also has codecs for other purposes."""
    try:
        codec = codecs.lookup(name)
        b"aa".decode(name)
    except UnicodeError:  # such as for an encoding whose characters have four bytes
        pass
    except (LookupError, ValueError):
        return False
    return codec.name.replace("_", "-") not in NO_ENCODINGS


def check_sources(problems: Problems, config: dict) -> None:
    """Note sources that are written like hub ids but exist locally, which is ambiguous.

    A revision makes clear that the hub is meant.
    """
    default = config["task_defaults"].get("source")
    for part in ("models", "tasks"):
        for name, entry in config[part].items():
            source = entry.get("source", "./")
            if is_local(source) or "revision" in entry or not _exists(source):
                continue
            is_default = part == "tasks" and source == default
            position = ("task_defaults", "source") if is_default else (part, name, "source")
            advice = f"write ./{source} for the local path, or add `revision: main` for the hub"
            problems.add(position, f"{quoted(source)} reads as an id on the hub, but exists here; {advice}")


def check_paths(problems: Problems, content: dict) -> None:
    """Note sources that cannot be hub ids but exist locally; the schema would only say what is allowed.

    Nothing else of the content has been checked at this point.
    """
    parts = {part: of_it for part in ("models", "tasks") if isinstance(of_it := content.get(part), dict)}
    entries = [((part, name), entry) for part, of_it in parts.items() for name, entry in of_it.items()]
    for position, entry in [(("task_defaults",), content.get("task_defaults")), *entries]:
        source = entry.get("source") if isinstance(entry, dict) else None
        if isinstance(source, str) and not is_local(source) and not HUB_ID.fullmatch(source) and _exists(source):
            problems.add((*position, "source"), f"{quoted(source)} is a local path; write ./{source}")


def _exists(source: str) -> bool:
    try:
        return bool(source) and Path(source).exists()
    except (OSError, ValueError):
        return False
