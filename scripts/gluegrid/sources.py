"""Which files of a model or a data set are wanted, wherever it lies, and what state a local folder is in."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from gluegrid.common.files import sha256

# Weights as safetensors only: a pickle runs code when it is loaded.
MODEL_FILES = re.compile(
    r"config\.json|model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json"
    r"|tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json|added_tokens\.json"
    r"|vocab\.(txt|json)|merges\.txt|spiece\.model|spm\.model|sentencepiece\.bpe\.model|tokenizer\.model"
)


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
