"""What the schema cannot say of where data and models come from, and of how files of data are to be read."""

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

Problem = tuple[str, str]  # the key to blame, and what is wrong
HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
NO_ENCODINGS = ("undefined", "idna", "punycode", "unicode-escape", "raw-unicode-escape")


def check_splits(problems: Problems, tasks: Mapping[str, dict]) -> None:
    """Note what is wrong with `files` and `cut_from_train` of each task, and with sources that are one file."""
    for name, task in tasks.items():
        if "source" in task and is_converted(task):
            for key, problem in _problems_of_files(task):
                problems.add(("tasks", name, *key.split(".")), problem)


def _problems_of_files(task: dict) -> Iterator[Problem]:
    files, cut = task.get("files") or {}, task.get("cut_from_train") or {}
    if is_one_file(task["source"]):
        if more := [key for key in ("files", "folder") if task.get(key)]:
            advice = f"write its folder as source, or leave {more[0]} out"
            yield more[0], f"does not go with a source that is one file; {advice}"
            return
        files = {split: [task["source"]] for split in splits_of(task)[:1]}
    yield from _problems_of_cut(task, files, cut)
    if files:
        yield from _problems_of_names(task, files, cut)


def _problems_of_cut(task: dict, files: Mapping, cut: Mapping) -> Iterator[Problem]:
    if cut and task["train"] is None:
        yield "cut_from_train", "there is no training split to cut from; leave it out"
    for split in cut:
        if split == task["train"] or split not in splits_of(task):
            yield f"cut_from_train.{split}", f"must be a split under validation or test, and {quoted(split)} is none"
        elif split in files:
            yield f"cut_from_train.{split}", "has files of its own under files; leave one of them out"
    if sum(cut.values()) >= 1:
        yield "cut_from_train", f"the shares make {sum(cut.values()):g} of the training split; leave some of it"


def _problems_of_names(task: dict, files: Mapping, cut: Mapping) -> Iterator[Problem]:
    for split in splits_of(task):
        if split not in files and split not in cut:
            advice = "name its file under files, or its share under cut_from_train"
            yield key_of_split(task, split), f"the split {quoted(split)} comes from nowhere; {advice}"
    for split in files:
        if split not in splits_of(task):
            advice = f"name it under one of them, such as validation: {{{split}: ''}}"
            yield f"files.{split}", f"{quoted(split)} is no split under train, validation or test; {advice}"


def check_reading(problems: Problems, tasks: Mapping[str, dict]) -> None:
    """Note what is wrong with how the files of each task are to be read."""
    for name, task in tasks.items():
        for key, problem in _problems_of_reading(task):
            problems.add(("tasks", name, key), problem)


def _problems_of_reading(task: dict) -> Iterator[Problem]:
    if (encoding := task.get("encoding")) and not _is_encoding(encoding):
        meant = nearest(encoding.lower().replace("_", "-"), _encodings())
        hint = f". Did you mean {meant!r}?" if meant else ""
        advice = hint or "; name one as latin-1 or gb18030"
        yield "encoding", f"{quoted_name(encoding)} is no encoding of texts that Python knows{advice}"
    if columns := task.get("columns"):
        for key, named in (("text_columns", task.get("text_columns", [])), ("label_column", [task["label_column"]])):
            if missing := [column for column in named if column not in columns]:
                meant = nearest(missing[0], columns)
                advice = f". Did you mean {meant!r}?" if meant else f", which are: {listed(columns)}"
                yield key, f"{quoted(missing[0])} is none of `columns`{advice}"
    if "source" in task:
        formats = {format_of(name)[0] for of_split in patterns_of(task).values() for name in of_split}
        for key, of_key in (("encoding", TEXTS), *((key, DELIMITED) for key in ("quoting", "columns", "uneven_rows"))):
            if task.get(key) and not formats & set(of_key):
                yield key, f"is for {', '.join(of_key)} files, and the task has none; leave it out"


def _encodings() -> list[str]:
    names = {name.replace("_", "-") for pair in aliases.items() for name in pair}
    return sorted(filter(_is_encoding, names))


def _is_encoding(name: str) -> bool:
    """Tell whether a name is that of an encoding of texts; Python also knows codecs for other ends."""
    try:
        codec = codecs.lookup(name)
        b"aa".decode(name)
    except UnicodeError:  # such as of an encoding whose letters have four bytes
        pass
    except (LookupError, ValueError):
        return False
    return codec.name.replace("_", "-") not in NO_ENCODINGS


def check_sources(problems: Problems, config: dict) -> None:
    """Note sources that are written as ids on the hub, and exist here: nobody can know which is meant.

    With a revision, they are of the hub.
    """
    default = config["task_defaults"].get("source")
    for part in ("models", "tasks"):
        for name, entry in config[part].items():
            source = entry.get("source", "./")
            if is_local(source) or "revision" in entry or not _exists(source):
                continue
            is_default = part == "tasks" and source == default
            position = ("task_defaults", "source") if is_default else (part, name, "source")
            advice = f"it exists here: write ./{source}, or add `revision: main` for that of the hub"
            problems.add(position, f"{quoted(source)} would be asked of the hub, but {advice}")


def check_paths(problems: Problems, content: dict) -> None:
    """Note sources that can be no ids on the hub, and exist here; the schema would only say what is allowed.

    Nothing else is known of the content yet.
    """
    parts = {part: of_it for part in ("models", "tasks") if isinstance(of_it := content.get(part), dict)}
    entries = [((part, name), entry) for part, of_it in parts.items() for name, entry in of_it.items()]
    for position, entry in [(("task_defaults",), content.get("task_defaults")), *entries]:
        source = entry.get("source") if isinstance(entry, dict) else None
        if isinstance(source, str) and not is_local(source) and not HUB_ID.fullmatch(source) and _exists(source):
            problems.add((*position, "source"), f"{quoted(source)} exists here: write ./{source}")


def _exists(source: str) -> bool:
    try:
        return bool(source) and Path(source).exists()
    except (OSError, ValueError):
        return False
