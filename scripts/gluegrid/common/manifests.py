"""Manifests of what was staged or tokenised: the files of a folder with their sizes and hashes, checked when used."""

from pathlib import Path, PurePosixPath

from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json, sha256

_checked: dict[Path, tuple] = {}  # files that were as their manifest says, and how they were then


def file_identity(path: Path) -> dict:
    """Return a file's size in bytes and its hash."""
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def recorded_hashes(manifest: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that a manifest names, as it was when the manifest was written."""
    return {name: identity["sha256"] for name, identity in read_json(manifest)["files"].items()}


def check_files(manifest: Path) -> None:
    """Read every file that a manifest names; DataError names the first that is not what it was.

    A second time, also in a forked child, only those are read that may have changed since.
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
    """Compare one file beside a manifest with its hash there. Raises DataError."""
    check_name(manifest, name)
    path = manifest.parent / name
    again = f"delete {manifest.parent} and run snakemake again"
    try:
        present = sha256(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {again}") from error
    if present != recorded:
        hashes = f"SHA-256 {present[:12]}..., in its manifest {recorded[:12]}..."
        raise DataError(f"{path}: is not the file that was staged ({hashes}); {again}")


def check_name(manifest: Path, name: str) -> None:
    """Raise DataError for a name in a manifest that leads out of its folder."""
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise DataError(f"{manifest}: names the file {name!r}, which is outside its folder; stage it again")
