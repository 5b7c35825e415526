"""Copies in the user's cache of the Hugging Face hub, used when the hub cannot be reached."""

import hashlib
import logging
import re
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import CachedRepoTreeNotFoundError, LocalEntryNotFoundError

from gluegrid.common.errors import StagingError
from gluegrid.common.files import sha256
from gluegrid.staging.repositories import Repository, Source, copy_whole

logger = logging.getLogger(__name__)

ELSEWHERE = "; run `snakemake stage` on a machine with network access (docs/offline.md)"


def snapshot_in_cache(source: Source) -> "Snapshot | None":
    """Return the cached copy of a source; None if the cache does not know its revision."""
    what = {"repo_type": source.kind, "revision": source.revision}
    try:
        # Ask for no file here: the copy may be incomplete, and which files are wanted is decided later.
        folder = huggingface_hub.snapshot_download(source.name, local_files_only=True, allow_patterns=[], **what)
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None
    return Snapshot(source, Path(folder))


class Snapshot(Repository):
    """A copy of a repository in the user's cache of the hub, which may lack some of its files."""

    def __init__(self, source: Source, folder: Path):
        self.source, self.folder = source, folder
        self.commit = folder.name
        there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        # Only some ways of filling the cache leave the list of the repository's files in the cache.
        listed = _cached_list_of_files(source, self.commit)
        self.files = sorted(there | listed)
        self.may_lack = "" if listed else f" (that is: the hub's cache in {constants.HF_HUB_CACHE} has none{ELSEWHERE})"
        if not listed:
            logger.info("the hub's cache does not list the repository's files; assuming that it holds all of them")

    def names(self) -> list[str]:
        """Return the names of the repository's files, or of those in the cache if it has no list."""
        return self.files

    def has(self, name: str) -> bool:
        """Tell whether the cache has a file; log it if only the repository has."""
        is_there = (self.folder / name).exists()
        if name in self.files and not is_there:
            logger.info("the hub's cache does not have %s, so it is ignored", name)
        return is_there

    def size(self, name: str) -> int:
        """Return the size of a file in bytes."""
        return self._path(name).stat().st_size

    def fetch(self, name: str, target: Path) -> None:
        """Copy a file. Raise StagingError if it is damaged or missing."""
        path = self._path(name)
        if _is_damaged(path):
            raise StagingError(f"{path}: is damaged (its hash differs from its name in the hub's cache){ELSEWHERE}")
        copy_whole(path, target)

    def _path(self, name: str) -> Path:
        path = self.folder / name
        if not path.exists():
            where = f"the hub's cache in {constants.HF_HUB_CACHE}"
            raise StagingError(f"{self.source}: {where} does not have {name}{ELSEWHERE}")
        return path


def _cached_list_of_files(source: Source, commit: str) -> set[str]:
    try:
        files = huggingface_hub.get_cached_repo_tree(source.name, repo_type=source.kind, revision=commit)
    except CachedRepoTreeNotFoundError:
        return set()
    return {file.path for file in files}


def _is_damaged(cached: Path) -> bool:
    """Compare a cached file with its hash, by which the cache names the files that it links to."""
    name = cached.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", name):
        return sha256(cached) != name
    return re.fullmatch(r"[0-9a-f]{40}", name) is not None and git_blob(cached) != name


def git_blob(path: Path) -> str:
    """Return the SHA-1 by which git, and so the hub, identifies a small file (Pro Git, 10.2: Git Objects)."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
