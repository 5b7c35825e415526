"""Which files of a model or a data set are wanted, wherever it lies, and what state a local folder is in."""

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from gluegrid.common.errors import GluegridError, StagingError
from gluegrid.common.escaping import listed, quoted
from gluegrid.common.files import check_no_lfs_pointer, sha256
from gluegrid.common.paths import is_local
from gluegrid.experiment.config_errors import Problems
from gluegrid.experiment.file_formats import WORDS, advice_on_file, format_of, kind_of_split, what_is_there
from gluegrid.experiment.task_files import depth_of, files_of_splits, is_converted, is_one_file

# Weights as safetensors only: a pickle runs code when it is loaded.
MODEL_FILES = re.compile(
    r"config\.json|model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json"
    r"|tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json|added_tokens\.json"
    r"|vocab\.(txt|json)|merges\.txt|spiece\.model|spm\.model|sentencepiece\.bpe\.model|tokenizer\.model"
)


CODE_FILES = re.compile(r"[A-Za-z0-9_]+\.py")
MOST_ENTRIES = 100_000  # of a folder and those in it; a home has more, and no data set of a few files


def wanted_model_files(names: Iterable[str], with_code: bool = False) -> list[str]:
    """Return those of a repository's files that are its safetensors weights, config and tokenizer.

    `with_code` adds its Python modules, which are run only for a model with `trust_remote_code`.
    """
    return sorted(name for name in names if MODEL_FILES.fullmatch(name) or (with_code and CODE_FILES.fullmatch(name)))


def wanted_task_files(names: Iterable[str], folder: str) -> list[str]:
    """Return the parquet files of one folder of a data set, named as on the hub: <split>-00000-of-00001.parquet."""
    prefix = f"{folder}/" if folder else ""
    pattern = re.compile(re.escape(prefix) + r"[^/]+-\d{5}-of-\d{5}\.parquet")
    return sorted(name for name in names if pattern.fullmatch(name))


def split_of(name: str) -> str:
    """Return the split that a parquet file belongs to."""
    return re.sub(r"-\d{5}-of-\d{5}\.parquet", "", name.rsplit("/", 1)[-1])


def files_below(folder: Path, depth: int = 1) -> list[str]:
    """Return the paths, relative to a folder, of all files in it and in its folders, as many levels deep as asked for.

    Hidden folders, those that cannot be read and those that were seen before (by a link) are left out. Raises
    StagingError where it has more than any data set.
    """
    names: list[str] = []
    seen = {_identity(folder)}
    level, entries = [""], 0
    for _ in range(depth + 1):
        deeper = []
        for prefix in level:
            for name, is_folder in _entries_of(folder / prefix):
                entries += 1
                if not is_folder:
                    names.append(prefix + name)
                elif not name.startswith(".") and (identity := _identity(folder / prefix / name)) not in seen:
                    seen.add(identity)
                    deeper.append(f"{prefix}{name}/")
            if entries > MOST_ENTRIES:
                advice = "give the folder of the data itself"
                raise StagingError(
                    f"it has more than {MOST_ENTRIES:,} files and folders, too many to look at; {advice}"
                )
        level = deeper
    return sorted(names)


def _identity(folder: Path) -> tuple[int, int]:
    stat = folder.stat()
    return stat.st_dev, stat.st_ino


def _entries_of(folder: Path) -> list[tuple[str, bool]]:
    """Return the names of the files and folders in a folder, and which of them are folders."""
    try:
        with os.scandir(folder) as entries:
            kinds = [(entry.name, _is(entry.is_dir), _is(entry.is_file)) for entry in entries]
    except OSError:
        return []
    return sorted((name, is_folder) for name, is_folder, is_file in kinds if is_folder or is_file)


def _is(kind: Callable[[], bool]) -> bool:
    try:
        return kind()
    except OSError:  # of a link to itself
        return False


def state_of_folder(folder: Path, names: Iterable[str]) -> str:
    """Return 12 hexadecimal digits that change when the content of any of these files does."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\0{sha256(folder / name)}\n".encode())
    return digest.hexdigest()[:12]


def name_states_of_folders(config: dict, problems: Problems) -> None:
    """Give each local folder without a revision the hash of its files as revision.

    So that editing the files makes it another resource, and reruns what was made from it.
    """
    default = config["task_defaults"].get("source")
    for part, name, entry in _local_sources(config):
        if "revision" in entry:
            continue
        own = (part, name, "source")
        place = ("task_defaults", "source") if part == "tasks" and entry["source"] == default else own
        what = "file" if part == "tasks" and is_one_file(entry["source"]) else "folder"
        try:
            folder, names = listed_task(entry) if part == "tasks" else _listed_folder(entry["source"])
            place = own  # what a folder lacks, it lacks for this task alone
            wanted = wanted_files(names, part, entry)
            for of_it in wanted:
                check_no_lfs_pointer(folder / of_it, of_it)
            entry["revision"] = state_of_folder(folder, wanted)
        except (OSError, RuntimeError, ValueError, GluegridError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            problems.add(place, f"the {what} {quoted(entry['source'])} cannot be used: {reason}")
    problems.raise_any()


def listed_task(entry: dict) -> tuple[Path, list[str]]:
    """Return a task's folder and the names of its files; of a source that is one file its folder, and that name alone.

    Raises StagingError for a file that cannot be read.
    """
    path = Path(entry["source"]).expanduser()
    if not path.is_file():
        return _listed_folder(entry["source"], depth_of(entry))
    if not is_one_file(entry["source"]):
        raise StagingError(f"it is a file, and of no format that is read; {advice_on_file(path.name)}")
    return path.parent, [path.name]


def _listed_folder(source: str, depth: int = 1) -> tuple[Path, list[str]]:
    """Return a folder and the names of its files."""
    path = Path(source).expanduser()
    if not path.is_dir():
        raise FileNotFoundError(f"it does not exist (seen from {Path.cwd()})")
    return path, files_below(path, depth)


def wanted_files(names: list[str], part: str, entry: dict) -> list[str]:
    """Return which files of a folder are the model or task; FileNotFoundError or GluegridError where some lack."""
    if part == "tasks" and is_converted(entry):
        return [name for of_split in files_of_splits(names, entry).values() for name in of_split]
    if part == "models":
        wanted = wanted_model_files(names, with_code=entry.get("trust_remote_code", False))
        what = "config.json and *.safetensors"
    else:
        wanted = wanted_task_files(names, entry.get("folder", ""))
        folder = entry.get("folder", "")
        what = f"{Path(folder) / '<split>-00000-of-00001.parquet'}{advice_on_names(names, folder)}"
    if not wanted:
        raise FileNotFoundError(f"it holds no {what}")
    return wanted


def advice_on_names(names: list[str], folder: str) -> str:
    """Return, for the end of a message, what to write where a task's files have other names than those on the hub."""
    others = {name.rpartition("/")[0] for name in names} - {""}
    if of_such := sorted(other for other in others if wanted_task_files(names, other)):
        advice = f"write `folder: {of_such[0]}`" if len(of_such) == 1 else "name one of them under `folder`"
        return f"; these have such: {listed(of_such)}; {advice}"
    readable = [name for name in names if format_of(name)[0]]
    of_task = [name.removeprefix(f"{folder}/") for name in readable if name.startswith(f"{folder}/" if folder else "")]
    advice = f"; files of other names stand under files, as files: {{{_example(of_task)}}}" if of_task else ""
    return f"{advice}; {what_is_there(names)}" if names else ""


def _example(names: list[str]) -> str:
    """Return what might stand under `files`, if the names of files say of themselves what they are for."""
    said = [(kind_of_split(name), name) for name in names]
    kinds = [kind for kind, _ in said]
    clear = {kind: name for kind, name in said if kind and kinds.count(kind) == 1}
    if "train" not in clear:
        return "train: <a file>, validation: <a file>"
    return ", ".join(f"{kind}: {clear[kind]}" for kind in WORDS if kind in clear)


def _local_sources(config: dict) -> list[tuple[str, str, dict]]:
    """Return part, name and entry of each model and task that lies in a folder of this machine."""
    entries = [(part, name, entry) for part in ("models", "tasks") for name, entry in config[part].items()]
    return [(part, name, entry) for part, name, entry in entries if is_local(entry["source"])]
