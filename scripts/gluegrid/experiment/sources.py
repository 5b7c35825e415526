"""Which files of a model or a dataset are used, local or on the hub, and the state of a local folder."""

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

# Only safetensors weights: loading a pickle runs code.
MODEL_FILES = re.compile(
    r"config\.json|model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json"
    r"|tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json|added_tokens\.json"
    r"|vocab\.(txt|json)|merges\.txt|spiece\.model|spm\.model|sentencepiece\.bpe\.model|tokenizer\.model"
)


OF_DEMO = Path("demo/generated")  # missing in a fresh clone
CODE_FILES = re.compile(r"[A-Za-z0-9_]+\.py")
MOST_ENTRIES = 100_000  # in a folder and its subfolders; more means a home folder or the like, not a dataset


def wanted_model_files(names: Iterable[str], with_code: bool = False) -> list[str]:
    """Return a repository's safetensors weights, config and tokenizer files.

    `with_code` adds its Python modules, which are run only for a model with `trust_remote_code`.
    """
    return sorted(name for name in names if MODEL_FILES.fullmatch(name) or (with_code and CODE_FILES.fullmatch(name)))


def wanted_task_files(names: Iterable[str], folder: str) -> list[str]:
    """Return the Parquet files in one folder of a dataset, named as on the hub: <split>-00000-of-00001.parquet."""
    prefix = f"{folder}/" if folder else ""
    pattern = re.compile(re.escape(prefix) + r"[^/]+-\d{5}-of-\d{5}\.parquet")
    return sorted(name for name in names if pattern.fullmatch(name))


def split_of(name: str) -> str:
    """Return the split that a Parquet file belongs to."""
    return re.sub(r"-\d{5}-of-\d{5}\.parquet", "", name.rsplit("/", 1)[-1])


def files_below(folder: Path, depth: int = 1) -> list[str]:
    """Return the paths, relative to a folder, of all files in it and in `depth` levels of subfolders.

    Broken links and the like are included, and reported by whoever needs the file. Folders that are hidden, unreadable,
    or already seen through a link are left out. Raises StagingError if there are more files than in any dataset.
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
                advice = "name the folder of the data itself"
                raise StagingError(
                    f"it contains more than {MOST_ENTRIES:,} files and folders, too many to search; {advice}"
                )
        level = deeper
    return sorted(names)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _entries_of(folder: Path) -> list[tuple[str, bool]]:
    """Return the names of a folder's entries, each with whether it is a folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry.name, _is_folder(entry)) for entry in entries)
    except OSError:
        return []


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as for a link to itself
        return False


def state_of_folder(folder: Path, names: Iterable[str]) -> str:
    """Return 12 hexadecimal digits that change with the content of any of these files.

    A file that is unreadable or not a regular file counts as a state, too; it is reported when it is staged.
    """
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\0{_state_of_file(folder / name)}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:12]


def _state_of_file(path: Path) -> str:
    try:
        # Opening a named pipe would wait for a writer.
        return sha256(path) if stat.S_ISREG(path.stat().st_mode) else "no file"
    except OSError as error:
        return f"unreadable: {error.errno}"


def name_states_of_folders(config: dict, problems: Problems) -> None:
    """Set the revision of each local source without one to a hash of its files.

    So editing the files makes it another resource, and whatever was made from it is rerun.
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
            place = own  # a file that is missing for this task may not matter to others
            wanted = wanted_files(names, part, entry)
            entry["revision"] = state_of_folder(folder, wanted)
            if part == "models":
                for of_it in wanted:
                    check_no_lfs_pointer(folder / of_it, of_it)
        except DataError as error:  # only of models; a task's data are checked elsewhere
            problems.warn(own, f"{error}; only the cells of this model will fail")
        except (OSError, RuntimeError, ValueError, GluegridError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            problems.add(place, f"the {what} {quoted(entry['source'])} cannot be used: {reason}")
    problems.raise_any()


def listed_task(entry: dict) -> tuple[Path, list[str]]:
    """Return a task's folder and the names of its files; for a single file, its folder and only its name.

    Raises StagingError for a file in an unsupported format.
    """
    path = Path(entry["source"]).expanduser()
    if is_one_file(entry["source"]) and not path.is_dir() and os.path.lexists(path):
        return path.parent, [path.name]
    if path.is_file():
        raise StagingError(f"it is a file in an unsupported format; {advice_on_file(path.name)}")
    return _listed_folder(entry["source"], depth_of(entry))


def _listed_folder(source: str, depth: int = 1) -> tuple[Path, list[str]]:
    """Return a folder and the names of its files."""
    path = Path(source).expanduser()
    if not path.is_dir():
        how = "; create it with python demo/generate.py" if path.is_relative_to(OF_DEMO) else ""
        raise FileNotFoundError(f"it does not exist (seen from {Path.cwd()}){how}")
    _check_that_it_is_no_cache(source, path)
    return path, files_below(path, depth)


def _check_that_it_is_no_cache(source: str, folder: Path) -> None:
    """Raise FileNotFoundError for a repository folder of the hub's cache, and name the snapshot to use instead.

    That is the snapshot of `main`, or else the only one.
    """
    entry = folder.parent if folder.name == "snapshots" else folder
    if not (entry.name.startswith(("models--", "datasets--")) and (entry / "snapshots").is_dir()):
        return
    snapshots = sorted(path.name for path in (entry / "snapshots").glob("*") if path.is_dir())
    ref = entry / "refs" / "main"
    main = ref.read_text(encoding="utf-8", errors="replace").strip() if ref.is_file() else ""
    chosen = main if main in snapshots else snapshots[0] if len(snapshots) == 1 else "<commit>"
    below = f"{source.rstrip('/')}{'' if folder.name == 'snapshots' else '/snapshots'}/{chosen}"
    raise FileNotFoundError(f"it is a repository in the hub's cache, not one of its snapshots; write {below}")


def wanted_files(names: list[str], part: str, entry: dict) -> list[str]:
    """Return the files of a folder that form the model or task; FileNotFoundError or GluegridError if any are missing.

    The error's message says what to write instead, if that can be guessed.
    """
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
        raise FileNotFoundError(f"it contains no {what}")
    return wanted


def _folder_with_a_config(source: str, names: list[str]) -> str:
    """Return a hint for the end of a message if exactly one subfolder contains a model."""
    folders = [name.removesuffix("/config.json") for name in names if name.endswith("/config.json")]
    if len(folders) != 1:
        return ""
    return f"; its folder {folders[0]} contains one: write {source.rstrip('/')}/{folders[0]}"


def advice_on_names(names: list[str], folder: str) -> str:
    """Return, for the end of a message, what to write if a task's files are not named as on the hub."""
    others = {name.rpartition("/")[0] for name in names} - {""}
    if of_such := sorted(other for other in others if wanted_task_files(names, other)):
        advice = f"write `folder: {of_such[0]}`" if len(of_such) == 1 else "name one of them under `folder`"
        return f"; these folders contain some: {listed(of_such)}; {advice}"
    readable = [name for name in names if format_of(name)[0]]
    of_task = [name.removeprefix(f"{folder}/") for name in readable if name.startswith(f"{folder}/" if folder else "")]
    advice = f"; list files with other names, such as files: {{{_example(of_task)}}}" if of_task else ""
    return f"{advice}; {what_is_there(names)}" if names else ""


def _example(names: list[str]) -> str:
    """Return an example for `files`, with the real names if they tell what they are for."""
    said = [(kind_of_split(name), name) for name in names]
    kinds = [kind for kind, _ in said]
    clear = {kind: name for kind, name in said if kind and kinds.count(kind) == 1}
    if "train" not in clear:
        return "train: <a file>, validation: <a file>"
    return ", ".join(f"{kind}: {clear[kind]}" for kind in WORDS if kind in clear)


def _local_sources(config: dict) -> list[tuple[str, str, dict]]:
    """Return the part, name and entry of each model and task with a local source."""
    entries = [(part, name, entry) for part in ("models", "tasks") for name, entry in config[part].items()]
    return [(part, name, entry) for part, name, entry in entries if is_local(entry["source"])]
