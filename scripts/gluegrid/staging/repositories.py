"""The sources of models and datasets: a folder or file of this machine, the hub, or a copy in the hub's cache."""

import os
import re
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gluegrid.common.errors import StagingError
from gluegrid.common.files import check_no_lfs_pointer, replacing
from gluegrid.experiment.sources import files_below


@dataclass(frozen=True)
class Source:
    """Where a resource comes from: `kind` is the hub's 'model' or 'dataset'.

    `depth` is how deep the files of a local folder may be nested.
    """

    kind: str
    name: str
    revision: str
    depth: int = 1

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} at revision {self.revision!r}"


class Repository(Protocol):
    """A source at one revision: `commit` is the hub's, None for a folder.

    `may_lack` is added to errors about missing files if this copy may be incomplete.
    """

    commit: str | None = None
    may_lack: str = ""

    def names(self) -> list[str]:
        """Return the names of its files."""

    def has(self, name: str) -> bool:
        """Tell whether it has a file that can be fetched."""

    def size(self, name: str) -> int:
        """Return the size of a file in bytes, 0 if it is not known."""

    def fetch(self, name: str, target: Path) -> None:
        """Write a file to `target`, whole or not at all; keep a correct file that is already there."""


class Folder(Repository):
    """A folder of this machine."""

    def __init__(self, source: Source):
        self.folder, self.depth = Path(source.name).expanduser(), source.depth
        if not self.folder.is_dir():
            raise StagingError(f"{source.name}: there is no such folder (seen from {Path.cwd()})")

    def names(self) -> list[str]:
        """Return the names of the files in the folder."""
        try:
            return files_below(self.folder, self.depth)
        except StagingError as error:
            raise StagingError(f"{self.folder}: {error}") from None

    def has(self, name: str) -> bool:
        """Tell whether a file is there."""
        return (self.folder / name).is_file()

    def size(self, name: str) -> int:
        """Return the size of a file in bytes. Raise StagingError as `fetch` does."""
        return self._file(name).stat().st_size

    def fetch(self, name: str, target: Path) -> None:
        """Copy a file.

        Raise DataError for a git-lfs pointer, and StagingError for anything that is not a file or is a link out of the
        folder to a file of another kind: somebody else's folder could use such links to copy any file of this machine.
        """
        path = self._file(name)
        check_no_lfs_pointer(path, str(self.folder / name))
        if not (path.is_relative_to(self._root()) or _is_of_the_kind(path, name)):
            raise StagingError(
                f"{self.folder / name}: is a link to {path}, outside its folder and with another ending;"
                " put the file itself there"
            )
        copy_whole(path, target)

    def _file(self, name: str) -> Path:
        """Return the file behind any links. Raise StagingError for anything else: opening a pipe would hang."""
        path = self.folder / name
        try:
            mode = path.stat().st_mode
        except OSError as error:
            reason = f"is a link to {path.readlink()}, which is not a file" if path.is_symlink() else "cannot be read"
            raise StagingError(f"{path}: {reason} ({error.strerror})") from error
        if not stat.S_ISREG(mode):
            raise StagingError(f"{path}: is {_kind_of(mode)}, not a file; put the file itself there")
        return path.resolve()

    def _root(self) -> Path:
        """Return the folder that links must not leave: this one, or in a hub cache the repository's whole entry."""
        folder = self.folder.resolve()
        for snapshots in folder.parents:
            entry = snapshots.parent
            if snapshots.name == "snapshots" and entry.name.startswith(("models--", "datasets--")):
                return entry
        return folder


def _is_of_the_kind(path: Path, name: str) -> bool:
    """Tell whether a file has a name's ending, or is named by its hash as in the caches of the hub and DVC."""
    return path.suffix == Path(name).suffix or re.fullmatch(r"[0-9a-f]{30,}", path.name) is not None


def _kind_of(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    return kinds.get(stat.S_IFMT(mode), "a device")


class OneFile(Folder):
    """A single file as a source; files beside it can be fetched too."""

    def __init__(self, source: Source):
        path = Path(source.name).expanduser()
        if not os.path.lexists(path):
            raise StagingError(f"{source.name}: there is no such file (seen from {Path.cwd()})")
        self.folder, self.name = path.parent, path.name

    def names(self) -> list[str]:
        """Return its name."""
        return [self.name]

    def _root(self) -> Path:
        """Return the file system's root: the user has named this file, even if it is a link."""
        return Path("/")


def copy_whole(path: Path, target: Path) -> None:
    """Copy a file, whole or not at all."""
    with replacing(target) as temporary:
        shutil.copyfile(path, temporary)
