"""Which files of a model or a data set are wanted, wherever it lies, and what state a local folder is in."""

import hashlib
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from gluegrid.common.errors import DataError, GluegridError, StagingError
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


OF_DEMO = Path("demo/generated")  # what no clone has before it is made
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

    Also of what only stands in a file's place, as a link that leads nowhere: whoever wants the file says so. Hidden
    folders, those that cannot be read and those that were seen before (by a link) are left out. Raises StagingError
    where it has more than any data set.
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
    status = folder.stat()
    return status.st_dev, status.st_ino


def _entries_of(folder: Path) -> list[tuple[str, bool]]:
    """Return the names of what is in a folder, and which of it are folders."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry.name, _is_folder(entry)) for entry in entries)
    except OSError:
        return []


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # of a link to itself
        return False


def state_of_folder(folder: Path, names: Iterable[str]) -> str:
    """Return 12 hexadecimal digits that change when the content of any of these files does.

    A file that cannot be read, or is none, is a state too: it is reported where it is fetched, and stops nothing else.
    """
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\0{_state_of_file(folder / name)}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:12]


def _state_of_file(path: Path) -> str:
    try:
        # To open a named pipe is to wait for its writer.
        return sha256(path) if stat.S_ISREG(path.stat().st_mode) else "no file"
    except OSError as error:
        return f"unreadable: {error.errno}"


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
            entry["revision"] = state_of_folder(folder, wanted)
            if part == "models":
                for of_it in wanted:
                    check_no_lfs_pointer(folder / of_it, of_it)
        except DataError as error:  # of a task's data it is said where they are looked at
            problems.warn(own, f"{error}; only the cells of this model will fail")
        except (OSError, RuntimeError, ValueError, GluegridError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            problems.add(place, f"the {what} {quoted(entry['source'])} cannot be used: {reason}")
    problems.raise_any()


def listed_task(entry: dict) -> tuple[Path, list[str]]:
    """Return a task's folder and the names of its files; of a source that is one file its folder, and that name alone.

    Raises StagingError for a file that cannot be read.
    """
    path = Path(entry["source"]).expanduser()
    if is_one_file(entry["source"]) and not path.is_dir() and os.path.lexists(path):
        return path.parent, [path.name]
    if path.is_file():
        raise StagingError(f"it is a file, and of no format that is read; {advice_on_file(path.name)}")
    return _listed_folder(entry["source"], depth_of(entry))


def _listed_folder(source: str, depth: int = 1) -> tuple[Path, list[str]]:
    """Return a folder and the names of its files."""
    path = Path(source).expanduser()
    if not path.is_dir():
        how = "; python demo/generate.py makes it" if path.is_relative_to(OF_DEMO) else ""
        raise FileNotFoundError(f"it does not exist (seen from {Path.cwd()}){how}")
    _check_that_it_is_no_cache(source, path)
    return path, files_below(path, depth)


def _check_that_it_is_no_cache(source: str, folder: Path) -> None:
    """Raise FileNotFoundError for what the hub's cache has around the snapshots of a repository; it names the snapshot.

    That is the one that `main` names; another only where there is no other.
    """
    entry = folder.parent if folder.name == "snapshots" else folder
    if not (entry.name.startswith(("models--", "datasets--")) and (entry / "snapshots").is_dir()):
        return
    snapshots = sorted(path.name for path in (entry / "snapshots").glob("*") if path.is_dir())
    ref = entry / "refs" / "main"
    main = ref.read_text(encoding="utf-8", errors="replace").strip() if ref.is_file() else ""
    chosen = main if main in snapshots else snapshots[0] if len(snapshots) == 1 else "<commit>"
    below = f"{source.rstrip('/')}{'' if folder.name == 'snapshots' else '/snapshots'}/{chosen}"
    raise FileNotFoundError(f"it is an entry of the hub's cache, of which a snapshot is a source: write {below}")


def wanted_files(names: list[str], part: str, entry: dict) -> list[str]:
    """Return which files of a folder are the model or task; FileNotFoundError or GluegridError where some lack."""
    if part == "tasks" and is_converted(entry):
        return [name for of_split in files_of_splits(names, entry).values() for name in of_split]
    if part == "models":
        wanted = wanted_model_files(names, with_code=entry.get("trust_remote_code", False))
        what = f"config.json and *.safetensors{_folder_with_a_config(entry['source'], names)}"
    else:
        wanted = wanted_task_files(names, entry.get("folder", ""))
        folder = entry.get("folder", "")
        what = f"{Path(folder) / '<split>-00000-of-00001.parquet'}{advice_on_names(names, folder)}"
    if not wanted:
        raise FileNotFoundError(f"it holds no {what}")
    return wanted


def _folder_with_a_config(source: str, names: list[str]) -> str:
    """Return what to write where one folder in the one that is named holds a model."""
    folders = [name.removesuffix("/config.json") for name in names if name.endswith("/config.json")]
    if len(folders) != 1:
        return ""
    return f"; one lies in its folder {folders[0]}: write {source.rstrip('/')}/{folders[0]}"


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
