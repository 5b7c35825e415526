"""What files take on the disk, as `du` counts it: allocated blocks, and a file of several names once."""

import os
from pathlib import Path

BLOCK = 512  # bytes, of st_blocks


class DiskSpace:
    """Counts files, each once whatever its names: a saved model has two."""

    def __init__(self) -> None:
        self._counted: set[tuple[int, int]] = set()

    def of(self, *paths: Path) -> int:
        """Return the bytes of files and folders, without what this object has counted before."""
        return sum(self._of_one(path) for path in paths)

    def _of_one(self, path: Path) -> int:
        found = 0
        for entry in _entries(path):
            try:
                status = entry.lstat()
            except OSError:
                continue  # gone meanwhile
            if (identity := (status.st_dev, status.st_ino)) not in self._counted:
                self._counted.add(identity)
                found += status.st_blocks * BLOCK
        return found


def bytes_freed_by_removing(path: Path) -> int:
    """Return what removing a file or a folder frees: nothing for a file that has a name elsewhere too."""
    found = 0
    for entry in _entries(path):
        try:
            status = entry.lstat()
        except OSError:
            continue
        if entry.is_dir() or status.st_nlink == 1:
            found += status.st_blocks * BLOCK
    return found


def short_size(count: int) -> str:
    """Return a number of bytes in at most six characters, such as 45.4M; k, M, G and T are powers of 1,000."""
    for unit, worth in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= worth:
            return f"{count / worth:.1f}{unit}"
    return str(count)


def _entries(path: Path) -> list[Path]:
    """Return a file, or a folder and all below it. What a link leads to is not followed, but for `path` itself."""
    if not path.is_dir():
        return [path] if path.exists() or path.is_symlink() else []
    found = [path]
    for folder, folders, files in os.walk(path):
        found += [Path(folder) / name for name in (*folders, *files)]
    return found
