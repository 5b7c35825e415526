"""Bring a pinned model or data set into its folder below resources/, from the hub or a local folder.

Files arrive one by one, each whole or not at all; the manifest comes last and says that everything is there.
"""

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gluegrid.errors import StagingError
from gluegrid.files import read_json, replacing, write_json
from gluegrid.locks import describe, lock
from gluegrid.manifests import file_identity
from gluegrid.paths import is_local
from gluegrid.provenance import now
from gluegrid.sources import files_below

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Where a resource comes from: `kind` is the hub's 'model' or 'dataset'."""

    kind: str
    name: str
    revision: str


def stage(
    source: Source,
    manifest: Path,
    wanted: Callable[[list[str]], list[str]],
    describe_content: Callable[[Path], dict],
) -> None:
    """Fetch the wanted files of a source, then write their manifest beside them.

    `wanted` picks from the names of all files, and `describe_content` adds to the manifest. Another process that
    fetches the same resource is waited for, and its work is kept. Raises StagingError.
    """
    folder = manifest.parent
    with lock(folder.with_name(f"{folder.name}.lock"), _tell_waiting):
        if _is_staged(source, manifest):
            logger.info("already staged by another run: %s", folder)
            return
        repository = _Folder(source) if is_local(source.name) else _Hub(source)
        names = wanted(repository.names())
        for name in names:
            _bring(repository, name, folder / name)
        content = {
            "source": source.name,
            "revision": source.revision,
            "resolved_revision": repository.commit,
            "fetched": now(),
            "files": {name: file_identity(folder / name) for name in names},
        }
        write_json(manifest, content | describe_content(folder))


def _is_staged(source: Source, manifest: Path) -> bool:
    if not manifest.exists():
        return False
    staged = read_json(manifest)
    return (staged["source"], staged["revision"]) == (source.name, source.revision)


def _tell_waiting(holder: dict) -> None:
    logger.info("waiting for another run that fetches this: %s", describe(holder))


def _bring(repository: "_Folder | _Hub", name: str, target: Path) -> None:
    logger.info("fetching %s", name)
    with replacing(target) as temporary:
        repository.fetch(name, temporary)


class _Folder:
    """A folder of this machine."""

    commit = None

    def __init__(self, source: Source):
        self.folder = Path(source.name).expanduser()
        if not self.folder.is_dir():
            raise StagingError(f"{source.name}: there is no such folder (seen from {Path.cwd()})")

    def names(self) -> list[str]:
        """Return the names of the files in the folder."""
        return files_below(self.folder)

    def fetch(self, name: str, target: Path) -> None:
        """Copy one file."""
        shutil.copyfile(self.folder / name, target)


class _Hub:
    """A repository of the Hugging Face hub, at the commit that the revision names now."""

    def __init__(self, source: Source):
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError

        self.source = source
        try:
            information = huggingface_hub.HfApi().repo_info(
                source.name, repo_type=source.kind, revision=source.revision
            )
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise StagingError(self._explain(error)) from error
        self.commit = information.sha
        self.siblings = [sibling.rfilename for sibling in information.siblings]

    def names(self) -> list[str]:
        """Return the names of the files in the repository."""
        return self.siblings

    def fetch(self, name: str, target: Path) -> None:
        """Download one file, or copy it from the user's cache of the hub."""
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError

        try:
            cached = huggingface_hub.hf_hub_download(
                self.source.name, name, repo_type=self.source.kind, revision=self.commit
            )
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise StagingError(self._explain(error)) from error
        shutil.copyfile(cached, target)

    def _explain(self, error: Exception) -> str:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return (
            f"{self.source.kind} {self.source.name!r} at revision {self.source.revision!r}:"
            f" the hub did not give it: {reason}"
        )
