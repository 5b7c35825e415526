"""Which files of a model or a data set are wanted, wherever it lies, and what state a local folder is in."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from gluegrid.common.errors import GluegridError
from gluegrid.common.escaping import quoted
from gluegrid.common.files import sha256
from gluegrid.common.paths import is_local
from gluegrid.experiment.config_errors import Problems
from gluegrid.experiment.task_files import SUFFIXES, files_of_splits, is_converted, is_one_file

# Weights as safetensors only: a pickle runs code when it is loaded.
MODEL_FILES = re.compile(
    r"config\.json|model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json"
    r"|tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json|added_tokens\.json"
    r"|vocab\.(txt|json)|merges\.txt|spiece\.model|spm\.model|sentencepiece\.bpe\.model|tokenizer\.model"
)


OF_DEMO = Path("demo/generated")  # what no clone has before it is made
CODE_FILES = re.compile(r"[A-Za-z0-9_]+\.py")


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


def files_below(folder: Path) -> list[str]:
    """Return the paths of all files in a folder and the folders directly in it, relative to it."""
    candidates = [*folder.glob("*"), *folder.glob("*/*")]
    return sorted(str(path.relative_to(folder)) for path in candidates if path.is_file())


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
            folder, names = _listed_folder(entry["source"], what)
            place = own  # what a folder lacks, it lacks for this task alone
            entry["revision"] = state_of_folder(folder, _wanted_files(names, part, entry))
        except (OSError, RuntimeError, ValueError, GluegridError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            problems.add(place, f"the {what} {quoted(entry['source'])} cannot be used: {reason}")
    problems.raise_any()


def _listed_folder(source: str, what: str) -> tuple[Path, list[str]]:
    """Return a folder and the names of its files; of a source that is one file its folder, and that name alone."""
    path = Path(source).expanduser()
    if not (path.is_file() if what == "file" else path.is_dir()):
        how = "; python demo/generate.py makes it" if path.is_relative_to(OF_DEMO) else ""
        raise FileNotFoundError(f"it does not exist (seen from {Path.cwd()}){how}")
    return (path.parent, [path.name]) if what == "file" else (path, files_below(path))


def _wanted_files(names: list[str], part: str, entry: dict) -> list[str]:
    """Return which files of a folder are the model or task; FileNotFoundError or GluegridError where some lack."""
    if part == "tasks" and is_converted(entry):
        return [name for of_split in files_of_splits(names, entry).values() for name in of_split]
    if part == "models":
        wanted = wanted_model_files(names, with_code=entry.get("trust_remote_code", False))
        what = "config.json and *.safetensors"
    else:
        wanted = wanted_task_files(names, entry.get("folder", ""))
        what = str(Path(entry.get("folder", "")) / "<split>-00000-of-00001.parquet")
        if readable := [name for name in names if name.lower().endswith(SUFFIXES)]:
            what += f"; files of other names stand under files, as files: {{train: {readable[0]}}}"
    if not wanted:
        raise FileNotFoundError(f"it holds no {what}")
    return wanted


def _local_sources(config: dict) -> list[tuple[str, str, dict]]:
    """Return part, name and entry of each model and task that lies in a folder of this machine."""
    entries = [(part, name, entry) for part in ("models", "tasks") for name, entry in config[part].items()]
    return [(part, name, entry) for part, name, entry in entries if is_local(entry["source"])]
