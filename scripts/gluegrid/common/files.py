"""Write files atomically, read JSON, and hash files."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from gluegrid.common.errors import DataError, TransientError

# https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md#the-pointer, and the project's earlier name.
LFS_POINTERS = (b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")
LARGEST_LFS_POINTER = 1023  # bytes


@contextmanager
def telling_of_full_disk(path: Path) -> Iterator[None]:
    """Turn any error that means a full disk into a TransientError about `path`."""
    try:
        yield
    except Exception as error:
        if is_disk_full(error):
            raise disk_full(path) from error
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success, sync it and let it replace `path`.

    Raises TransientError if the disk is full; `path` is then unchanged.
    """
    with telling_of_full_disk(path), ExitStack() as at_end:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        at_end.callback(temporary.unlink, missing_ok=True)
        os.close(descriptor)
        yield temporary
        sync(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        sync(path.parent)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder`; on success, sync it and let it replace `folder`.

    Only one process at a time may write it, since leftovers of a killed one are removed. Raises TransientError if the
    disk is full; `folder` is then unchanged.
    """
    for leftover in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with telling_of_full_disk(folder), ExitStack() as at_end:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        at_end.callback(shutil.rmtree, temporary, ignore_errors=True)
        new = temporary / "new"
        new.mkdir()
        yield new
        for path in [new, *new.rglob("*")]:
            path.chmod((0o777 if path.is_dir() else 0o666) & ~_umask())
            sync(path)
        # An existing folder cannot be replaced in one step.
        if folder.exists():
            folder.rename(temporary / "old")
        new.rename(folder)
        sync(folder.parent)


def is_disk_full(error: BaseException | None) -> bool:
    """Tell whether an error, or its cause, means that the disk or the user's quota is full."""
    if error is None:
        return False
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return is_disk_full(error.__cause__ or error.__context__)


def disk_full(path: Path) -> TransientError:
    """Return the error for a file that could not be written because the disk is full."""
    return TransientError(
        f"{path}: cannot be written because the disk (or your quota) is full;"
        " free some space and run the same command again, which will resume"
    )


def link_or_copy(source: Path | str, target: Path | str) -> None:
    """Hard-link a file, which takes no space; copy it where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def canonical_json(value: object) -> str:
    """Return the canonical JSON text of `value`, with sorted keys. Raises ValueError for infinity and NaN."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: object) -> None:
    """Write `value` as canonical JSON, atomically."""
    write_text(path, canonical_json(value))


def read_json(path: Path) -> dict:
    """Return the JSON object in `path`. Raises DataError, which names the file, if there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: does not contain a JSON object")
    return value


def json_if_there(path: Path) -> dict:
    """Return the JSON object in `path`; an empty one if the file is missing or broken."""
    try:
        return read_json(path)
    except DataError:
        return {}


def unique_keys(pairs: list[tuple[str, object]]) -> dict:
    """Return a JSON object, as an `object_pairs_hook`. Raises ValueError for a repeated key, which json accepts."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} appears twice in an object")
    return content


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_lfs_pointer(path: Path) -> bool:
    """Tell whether a file is a Git LFS pointer: a few lines with the hash and size of the real file."""
    return path.is_file() and path.stat().st_size <= LARGEST_LFS_POINTER and path.read_bytes().startswith(LFS_POINTERS)


def check_no_lfs_pointer(path: Path, shown: str = "") -> None:
    """Raise DataError for a file that is only a Git LFS pointer; the message calls it `shown`."""
    if is_lfs_pointer(path):
        where = path.resolve().parent
        raise DataError(f"{shown or path}: is a Git LFS pointer, not the file itself; run `git lfs pull` in {where}")


def size_in_words(count: float) -> str:
    """Return a readable file size, such as 45.4 MB."""
    for unit, worth in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= worth:
            return f"{count / worth:,.1f} {unit}"
    return f"{count:.0f} bytes"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
