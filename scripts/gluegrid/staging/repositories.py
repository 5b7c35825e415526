"""Where a model or a data set is taken from: a folder of this machine, the hub, or what the user's cache has of it."""

import shutil
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
        """Return the size of a file in bytes."""
        return (self.folder / name).stat().st_size

    def fetch(self, name: str, target: Path) -> None:
        """Copy a file. StagingError for a link that leads out of the folder."""
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self._root()):
            raise StagingError(
                f"{self.folder / name}: is a link to {path}, outside its folder; put the file itself there"
            )
        check_no_lfs_pointer(path, str(self.folder / name))
        copy_whole(path, target)

    def _root(self) -> Path:
        """Return what links must not leave: the folder, or in a cache of the hub the whole entry of a repository."""
        folder = self.folder.resolve()
        entry = folder.parent.parent
        is_in_cache = folder.parent.name == "snapshots" and entry.name.startswith(("models--", "datasets--"))
        return entry if is_in_cache else folder


class OneFile(Folder):
    """A file of this machine that is itself the source; what lies beside it can be fetched too."""

    def __init__(self, source: Source):
        path = Path(source.name).expanduser()
        if not path.is_file():
            raise StagingError(f"{source.name}: there is no such file (seen from {Path.cwd()})")
        self.folder, self.name = path.parent, path.name

    def names(self) -> list[str]:
        """Return its name."""
        return [self.name]

    def fetch(self, name: str, target: Path) -> None:
        """Copy a file; a link too, since it is what the user has named."""
        check_no_lfs_pointer(self.folder / name)
        copy_whole(self.folder / name, target)


def copy_whole(path: Path, target: Path) -> None:
    """Copy a file, whole or not at all."""
    with replacing(target) as temporary:
        shutil.copyfile(path, temporary)
