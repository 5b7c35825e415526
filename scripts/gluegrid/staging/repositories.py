"""Where a model or a data set is taken from: a folder of this machine, the hub, or what the user's cache has of it."""

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

    `depth` says in how many folders, one in another, the files of a local folder may lie.
    """

    kind: str
    name: str
    revision: str
    depth: int = 1

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} at revision {self.revision!r}"


class Repository(Protocol):
    """A source at one state: `commit` is that of the hub, None for a folder.

    `may_lack` is what to add where something is missing, for a copy that may have less than the source.
    """

    commit: str | None = None
    may_lack: str = ""

    def names(self) -> list[str]:
        """Return the names of its files."""

    def has(self, name: str) -> bool:
        """Tell whether it has a file that can be fetched."""

    def size(self, name: str) -> int:
        """Return the size of a file in bytes, 0 where it is not known."""

    def fetch(self, name: str, target: Path) -> None:
        """Write a file to `target`, whole or not at all; what is there already and right is kept."""


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
        """Return the size of a file in bytes. Raises StagingError as `fetch` does."""
        return self._file(name).stat().st_size

    def fetch(self, name: str, target: Path) -> None:
        """Copy a file.

        DataError for git-lfs's pointer to one; StagingError for what is no file, and for a link that leads out of the
        folder to what is of another kind than its name says: a folder that somebody else has made could bring any file
        of this machine by it.
        """
        path = self._file(name)
        check_no_lfs_pointer(path, str(self.folder / name))
        if not (path.is_relative_to(self._root()) or _is_of_the_kind(path, name)):
            raise StagingError(
                f"{self.folder / name}: is a link to {path}, outside its folder and of another name;"
                " put the file itself there"
            )
        copy_whole(path, target)

    def _file(self, name: str) -> Path:
        """Return the file, behind any links. StagingError where there is none: to open a pipe would wait for ever."""
        path = self.folder / name
        try:
            mode = path.stat().st_mode
        except OSError as error:
            reason = f"is a link to {path.readlink()}, and that is no file" if path.is_symlink() else "cannot be read"
            raise StagingError(f"{path}: {reason} ({error.strerror})") from error
        if not stat.S_ISREG(mode):
            raise StagingError(f"{path}: is {_kind_of(mode)}, no file; put the file itself there")
        return path.resolve()

    def _root(self) -> Path:
        """Return what links must not leave: the folder, or in a cache of the hub the whole entry of a repository."""
        folder = self.folder.resolve()
        for snapshots in folder.parents:
            entry = snapshots.parent
            if snapshots.name == "snapshots" and entry.name.startswith(("models--", "datasets--")):
                return entry
        return folder


def _is_of_the_kind(path: Path, name: str) -> bool:
    """Tell whether a file has the ending of a name, or is named by its hash, as in the caches of the hub or of DVC."""
    return path.suffix == Path(name).suffix or re.fullmatch(r"[0-9a-f]{30,}", path.name) is not None


def _kind_of(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    return kinds.get(stat.S_IFMT(mode), "a device")


class OneFile(Folder):
    """A file of this machine that is itself the source; what lies beside it can be fetched too."""

    def __init__(self, source: Source):
        path = Path(source.name).expanduser()
        if not os.path.lexists(path):
            raise StagingError(f"{source.name}: there is no such file (seen from {Path.cwd()})")
        self.folder, self.name = path.parent, path.name

    def names(self) -> list[str]:
        """Return its name."""
        return [self.name]

    def _root(self) -> Path:
        """Return the root of all: a link too is what the user has named."""
        return Path("/")


def copy_whole(path: Path, target: Path) -> None:
    """Copy a file, whole or not at all."""
    with replacing(target) as temporary:
        shutil.copyfile(path, temporary)
