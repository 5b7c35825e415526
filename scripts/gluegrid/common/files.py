"""Files that are written whole or not at all, and their hashes."""

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

# What a clone made without git-lfs has of a large file (its docs/spec.md).
LFS_POINTERS = (b"version https://git-lfs.github.com/spec/v1\n", b"version https://hawser.github.com/spec/v1\n")
LARGEST_LFS_POINTER = 1024


@contextmanager
def telling_of_full_disk(path: Path) -> Iterator[None]:
    """Raise what says that the disk is full as a TransientError about `path`."""
    try:
        yield
    except Exception as error:
        if is_disk_full(error):
            raise disk_full(path) from error
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on a clean exit it is synced and takes `path`'s place.

    Raises TransientError when the disk is full; `path` is then as it was.
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
    """Yield an empty folder beside `folder`; on a clean exit it is synced and takes `folder`'s place.

    Only one process at a time may write it: what a killed one has left is removed. Raises TransientError when the disk
    is full; `folder` is then as it was.
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
        # A folder that is there cannot be replaced in one step.
        if folder.exists():
            folder.rename(temporary / "old")
        new.rename(folder)
        sync(folder.parent)


def is_disk_full(error: BaseException | None) -> bool:
    """Tell whether an error, or one behind it, says that the disk or the user's quota is full."""
    if error is None:
        return False
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return is_disk_full(error.__cause__ or error.__context__)


def disk_full(path: Path) -> TransientError:
    """Return the error that says so for a file that could not be written."""
    return TransientError(
        f"{path}: cannot be written, since the disk (or your quota) is full; make room, and the same command goes on"
    )


def link_or_copy(source: Path | str, target: Path | str) -> None:
    """Make a second name of a file, which takes no space; a copy where the disk has no such names."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def sync(path: Path) -> None:
    """Let a file's content, or a folder's entries, reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def canonical_json(value: object) -> str:
    """Return the one JSON text of `value`: sorted keys, finite numbers only (ValueError otherwise)."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: object) -> None:
    """Write `value` as canonical JSON, whole or not at all."""
    write_text(path, canonical_json(value))


def read_json(path: Path) -> dict:
    """Return the JSON object in `path`; DataError names the file when there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: holds no JSON object")
    return value


def json_if_there(path: Path) -> dict:
    """Return the JSON object in `path`; an empty one where it is not there, not any more, or broken."""
    try:
        return read_json(path)
    except DataError:
        return {}


def unique_keys(pairs: list[tuple[str, object]]) -> dict:
    """Return a JSON object, for `object_pairs_hook`; ValueError for a key that stands twice: Python takes the last."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in an object")
    return content


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_lfs_pointer(path: Path) -> bool:
    """Tell whether a file is but the pointer that a clone without git-lfs has in its place."""
    if not path.is_file() or path.stat().st_size > LARGEST_LFS_POINTER:
        return False
    return path.read_bytes().replace(b"\r\n", b"\n").startswith(LFS_POINTERS)


def check_no_lfs_pointer(path: Path, shown: str = "") -> None:
    """Raise DataError where a file is but a pointer of git-lfs; `shown` is what the message calls it."""
    if is_lfs_pointer(path):
        raise DataError(f"{shown or path}: is a pointer of git-lfs, not the file; run `git lfs pull` where it lies")


def size_in_words(count: float) -> str:
    """Return a number of bytes for people, such as 45.4 MB."""
    for unit, worth in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= worth:
            return f"{count / worth:,.1f} {unit}"
    return f"{count:.0f} bytes"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
