"""Whether each split of a task has a place that its rows come from, and each place a split."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from gluegrid.common.escaping import quoted
from gluegrid.common.paths import is_local
from gluegrid.config_report import Report
from gluegrid.split_files import SUFFIXES, is_converted, is_one_file, splits_of

Problem = tuple[str, str]  # the key to blame, and what is wrong


def check_splits(report: Report, tasks: Mapping[str, dict]) -> None:
    """Note what is wrong with `files` and `cut_from_train` of each task, and with sources that are one file."""
    for name, task in tasks.items():
        if "source" in task:
            problems = _of_files(task) if is_converted(task) else _of_other_sources(task)
            for key, problem in problems:
                report.add(("tasks", name, *key.split(".")), problem)


def _of_files(task: dict) -> Iterator[Problem]:
    files, cut = task.get("files") or {}, task.get("cut_from_train") or {}
    if is_one_file(task["source"]):
        if more := [key for key in ("files", "folder") if task.get(key)]:
            advice = f"write its folder as source, or leave {more[0]} out"
            yield more[0], f"does not go with a source that is one file; {advice}"
            return
        files = {split: [task["source"]] for split in splits_of(task)[:1]}
    yield from _of_cut(task, files, cut)
    if files:
        yield from _of_names(task, files, cut)


def _of_cut(task: dict, files: Mapping, cut: Mapping) -> Iterator[Problem]:
    if cut and task["train"] is None:
        yield "cut_from_train", "there is no training split to cut from; leave it out"
    for split in cut:
        if split == task["train"] or split not in splits_of(task):
            yield f"cut_from_train.{split}", f"must be a split under validation or test, and {quoted(split)} is none"
        elif split in files:
            yield f"cut_from_train.{split}", "has files of its own under files; leave one of them out"
    if sum(cut.values()) >= 1:
        yield "cut_from_train", f"the shares make {sum(cut.values()):g} of the training split; leave some of it"


def _of_names(task: dict, files: Mapping, cut: Mapping) -> Iterator[Problem]:
    for split in splits_of(task):
        if split not in files and split not in cut:
            advice = "name its file under files, or its share under cut_from_train"
            yield _key_of(task, split), f"the split {quoted(split)} comes from nowhere; {advice}"
    for split in files:
        if split not in splits_of(task):
            advice = f"name it under one of them, such as validation: {{{split}: ''}}"
            yield f"files.{split}", f"{quoted(split)} is no split under train, validation or test; {advice}"


def _key_of(task: dict, split: str) -> str:
    return "train" if split == task["train"] else "validation" if split in task["validation"] else "test"


def _of_other_sources(task: dict) -> Iterator[Problem]:
    source = task["source"]
    if not is_local(source) and source.lower().endswith(SUFFIXES) and Path(source).is_file():
        yield "source", f"{quoted(source)} would be an id on the hub; for the file of that name write ./{source}"
