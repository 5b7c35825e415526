"""Common layouts of data folders, whose files are found without being named.

What is found becomes part of the task's entry, as if it were written in the experiment file: `files`, and the keys that
say how to read them. So code that reads an entry, or a run.json, needs no knowledge of layouts.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from gluegrid.common.errors import DataError, StagingError
from gluegrid.common.escaping import listed
from gluegrid.common.files import read_json
from gluegrid.common.paths import is_local
from gluegrid.experiment.sources import files_below, wanted_task_files
from gluegrid.experiment.task_files import is_one_file, splits_of

DEPTH = 3  # levels of folders in which the files of a layout may be
# GLUE's own zip, by the hub's folders, which the registry's tasks use: its folders, and its names for the columns that
# have other names on the hub. Only CoLA's files lack a header, except for its test split.
GLUE_FOLDERS = {
    **{"cola": ["CoLA"], "sst2": ["SST-2"], "mrpc": ["MRPC"], "stsb": ["STS-B"], "qqp": ["QQP"], "mnli": ["MNLI"]},
    **{"qnli": ["QNLI"], "rte": ["RTE"], "wnli": ["WNLI"], "ax": ["diagnostic", "AX"]},
}
GLUE_COLUMNS = {
    "mrpc": {"sentence1": "#1 String", "sentence2": "#2 String", "label": "Quality"},
    "stsb": {"label": "score"},
    "qqp": {"label": "is_duplicate"},
    "mnli": {"premise": "sentence1", "hypothesis": "sentence2", "label": "gold_label"},
    "ax": {"premise": "sentence1", "hypothesis": "sentence2"},
}
COLUMNS_OF_COLA = ["source", "label", "mark", "sentence"]
FILES_OF_AX = ("diagnostic.tsv", "AX.tsv", "test.tsv")
AS_MICROSOFT_HAS_IT = "msr_paraphrase_train.txt"


def keys_of_layout(entry: Mapping) -> dict:
    """Return the keys to add to a task's entry whose source is a local folder in a known layout; otherwise {}.

    Raises StagingError if a known layout lacks what the task needs.
    """
    source = entry.get("source", "")
    if entry.get("files") or not is_local(source) or is_one_file(source):
        return {}
    try:
        folder = Path(source).expanduser()
        if not folder.is_dir() or wanted_task_files(files_below(folder), entry.get("folder", "")):
            return {}
        names = files_below(folder, DEPTH)
    except (OSError, RuntimeError, ValueError, StagingError):  # reported when the folder's files are listed
        return {}
    return _of_datasets(folder, entry) or _of_glue(folder, names, entry) or _of_the_hubs_conversion(names, entry)


def _of_datasets(folder: Path, entry: Mapping) -> dict:
    """Return the files of a dataset that `save_to_disk` of `datasets` wrote: a DatasetDict, or one split alone."""
    folder = folder / entry.get("folder", "")
    if (folder / "dataset_dict.json").is_file():
        there = _value(folder / "dataset_dict.json", "splits", str)
        splits = _splits_to_find(entry, there)
        return {"files": {split: [f"{split}/{name}" for name in _shards(folder / split)] for split in splits}}
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        return {"files": {split: _shards(folder) for split in splits_of(entry)[:1]}}
    return {}


def _shards(folder: Path) -> list[str]:
    """Return the names of the files of a saved split, in the order of their rows."""
    files = _value(folder / "state.json", "_data_files", dict)
    if _value(folder / "state.json", "_indices_data_files", dict, []):
        advice = "load it and save it again with a newer release"
        raise StagingError(
            f"{folder}: was saved as a selection of rows by an old release of `datasets`, which is not supported;"
            f" {advice}"
        )
    names = [str(PurePosixPath(str(each.get("filename"))).name) for each in files]
    for name in names:
        if not (folder / name).is_file():
            raise StagingError(
                f"{folder / name}: is missing, but state.json beside it lists it; save the dataset again"
            )
    return names


def _value(path: Path, key: str, kind: type, default: list | None = None) -> list:
    """Return a list from a file that `save_to_disk` wrote."""
    try:
        value = read_json(path).get(key) or default
    except DataError as error:
        raise StagingError(f"{error}; save the dataset again") from error
    if not isinstance(value, list) or not all(isinstance(each, kind) for each in value):
        raise StagingError(f"{path}: lacks the list {key!r} that save_to_disk writes; save the dataset again")
    return value


def _splits_to_find(entry: Mapping, there: list[str]) -> list[str]:
    """Return the splits whose files must be found. The test split may be missing, since it is named by default."""
    cut = entry.get("cut_from_train") or {}
    wanted = [split for split in splits_of(entry) if split not in cut and (split in there or split != "test")]
    if missing := [split for split in wanted if split not in there]:
        advice = "use these under train, validation and test, or cut a split from train with cut_from_train"
        raise StagingError(f"it has no split {missing[0]!r}; it has: {listed(sorted(there))}; {advice}")
    return wanted


def _of_glue(folder: Path, names: list[str], entry: Mapping) -> dict:
    """Return how to read a task of GLUE's own zip, which has no quoting, and some uneven rows that readers skip."""
    task = entry.get("folder")
    if task not in GLUE_FOLDERS or (place := _place_of_glue(folder, names, task)) is None:
        return {}
    prefix = f"{place}/" if place else ""
    files = {split: [prefix + name for name in _files_of_glue(split, task)] for split in splits_of(entry)}
    there = {split: [name for name in of_split if name in names] for split, of_split in files.items()}
    splits = _splits_to_find(entry, [split for split in there if there[split]])
    renamed = GLUE_COLUMNS.get(task, {})
    return {
        "folder": None,
        "files": {split: there[split][:1] for split in splits},
        "text_columns": [renamed.get(name, name) for name in entry["text_columns"]],
        "label_column": renamed.get(entry["label_column"], entry["label_column"]),
        "quoting": "none",
        "uneven_rows": "skip",
    } | ({"columns": COLUMNS_OF_COLA} if task == "cola" else {})


def _place_of_glue(folder: Path, names: list[str], task: str) -> str | None:
    """Return the folder, relative to the source, of a task's files from GLUE's own zip; None if there are none."""
    paths = [PurePosixPath(folder.resolve().name, name) for name in names]
    of_task = [path for path in paths if path.parent.name in GLUE_FOLDERS[task]]
    known = FILES_OF_AX if task == "ax" else ("train.tsv", "dev.tsv", "dev_matched.tsv")
    places = {path.parent.parts[1:] for path in of_task if path.name in known}
    if of_mrpc := [path for path in of_task if path.name == AS_MICROSOFT_HAS_IT and not places]:
        advice = "make train.tsv, dev.tsv and test.tsv from it with GLUE's download_glue_data.py"
        raise StagingError(f"{Path(*of_mrpc[0].parts[1:])}: is Microsoft's MRPC, which has no dev split; {advice}")
    return "/".join(min(places, key=lambda place: (len(place), place))) if places else None


def _files_of_glue(split: str, task: str) -> Sequence[str]:
    return FILES_OF_AX if task == "ax" else [f"{split.replace('validation', 'dev')}.tsv"]


def _of_the_hubs_conversion(names: list[str], entry: Mapping) -> dict:
    """Return the files of a dataset in the hub's Parquet conversion: <configuration>/<split>/0000.parquet and so on."""
    found: dict[str, dict[str, list[str]]] = {}
    for name in names:
        if match := re.fullmatch(r"([^/]+)/([^/]+)/\d{4}\.parquet", name):
            found.setdefault(match[1], {}).setdefault(match[2], []).append(name.removeprefix(f"{match[1]}/"))
    asked = {entry["folder"]} & found.keys() if entry.get("folder") else found.keys()
    if len(asked) > 1:
        raise StagingError(f"it has several configurations; name one of them under `folder`: {listed(sorted(asked))}")
    for configuration in asked:
        splits = found[configuration]
        kept = _splits_to_find(entry, list(splits))
        return {"folder": configuration, "files": {split: splits[split] for split in kept}}
    return {}
