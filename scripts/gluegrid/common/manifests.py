"""Manifests of staged or tokenized folders: their files with sizes and hashes, which are checked before use."""

from pathlib import Path, PurePosixPath

from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json, sha256

_checked: dict[Path, tuple] = {}  # files that matched their manifest, with their hash and state at that time


def file_identity(path: Path) -> dict:
    """Return a file's size in bytes and its SHA-256."""
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def recorded_hashes(manifest: Path) -> dict[str, str]:
    """Return the SHA-256 that a manifest records for each of its files."""
    return {name: identity["sha256"] for name, identity in read_json(manifest)["files"].items()}


def check_files(manifest: Path) -> None:
    """Check every file of a manifest against its hash. Raises DataError for the first that differs.

    Later calls, also in a forked child, read only files that may have changed since.
    """
    for name, recorded in recorded_hashes(manifest).items():
        path = manifest.parent / name
        seen = (recorded, _state_of(path))
        if _checked.get(path) != seen:
            check_file(manifest, name, recorded)
            _checked[path] = seen


def _state_of(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def check_file(manifest: Path, name: str, recorded: str) -> None:
    """Check one file beside a manifest against its hash. Raises DataError."""
    check_name(manifest, name)
    path = manifest.parent / name
    again = f"delete {manifest.parent} and run snakemake again"
    try:
        present = sha256(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {again}") from error
    if present != recorded:
        hashes = f"its SHA-256 is {present[:12]}..., its manifest has {recorded[:12]}..."
        raise DataError(f"{path}: has changed since it was staged ({hashes}); {again}")


def check_name(manifest: Path, name: str) -> None:
    """Raise DataError if a file name in a manifest leads out of its folder."""
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise DataError(f"{manifest}: lists the file {name!r}, which is outside its folder; stage it again")
