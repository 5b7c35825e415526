"""Stage a pinned model or dataset: bring it from the hub or a local folder to its folder below resources/.

The files are collected in `<key>.partial` beside it. When all are there and described, they are moved into place; the
manifest is written last and means that everything is there.
"""

import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from gluegrid.common.errors import StagingError
from gluegrid.common.escaping import quoted, redacted
from gluegrid.common.files import read_json, size_in_words, write_json
from gluegrid.common.manifests import file_identity
from gluegrid.common.paths import is_local
from gluegrid.common.provenance import now
from gluegrid.execution.invocation import is_newer_than_invocation
from gluegrid.execution.locks import describe, lock
from gluegrid.experiment.task_files import is_one_file
from gluegrid.staging.repositories import Folder, OneFile, Repository, Source

logger = logging.getLogger(__name__)


def stage(
    source: Source,
    manifest: Path,
    wanted: Callable[[list[str]], list[str]],
    describe_content: Callable[[Path], dict],
    convert: Callable[[Path], None] | None = None,
    looked_at: Sequence[str] = (),
) -> None:
    """Fetch the wanted files of a source and write their manifest beside them.

    `wanted` selects from the names of all files, `convert` turns them into others, and `describe_content` returns
    entries for the manifest. Both may read the files of `looked_at` that the source has; these are not kept.
    Wait for another process that fetches the same resource, and use its files. Raise StagingError.
    """
    folder = manifest.parent
    partial = folder.with_name(f"{folder.name}.partial")

    def tell_waiting(holder: dict) -> None:
        logger.info("waiting for another process that fetches this: %s", describe(holder))

    with lock(folder.with_name(f"{folder.name}.lock"), tell_waiting):
        if _is_staged(source, manifest):
            logger.info("already staged by another process: %s", folder)
            return
        try:
            repository = open_repository(source)
            names = _wanted_of(repository, wanted)
            aside = [name for name in looked_at if name not in names and repository.has(name)]
            _gather(repository, [*aside, *names], partial)
            fetched = _identities(partial, names)
            if convert is not None:
                convert(partial)
            described = _described(source, partial, describe_content)
            for name in aside:
                (partial / name).unlink()
            files = {"files": fetched}
            if convert is not None:
                files = {"files": _identities(partial, _files_in(partial)), "source_files": fetched}
            content = {
                "source": source.name,
                "revision": source.revision,
                "resolved_revision": repository.commit,
                "fetched": now(),
            }
            manifest.unlink(missing_ok=True)  # it does not describe the files any more
            _move(partial, folder)
            write_json(manifest, content | files | described)
        except OSError as error:
            raise StagingError(f"{source}: {_explain(error, folder)}") from error


def _is_staged(source: Source, manifest: Path) -> bool:
    """Tell whether another process has staged the source meanwhile; Snakemake wants an older manifest rewritten."""
    if not is_newer_than_invocation(manifest):
        return False
    staged = read_json(manifest)
    return (staged["source"], staged["revision"]) == (source.name, source.revision)


def _wanted_of(repository: Repository, wanted: Callable[[list[str]], list[str]]) -> list[str]:
    try:
        return wanted(repository.names())
    except StagingError as error:
        raise StagingError(f"{error}{repository.may_lack}") from None


def _gather(repository: Repository, names: list[str], partial: Path) -> None:
    """Collect all files in one folder, and use those that an earlier call left there."""
    partial.mkdir(parents=True, exist_ok=True)
    _remove_others(partial, {*names, *(f"{name}.incomplete" for name in names)})
    missing = sum(repository.size(name) for name in names if not (partial / name).exists())
    free = shutil.disk_usage(partial).free
    if missing > free:
        raise StagingError(
            f"{partial.parent}: {size_in_words(missing)} are needed, but only {size_in_words(free)} are free;"
            " free some space, or make resources/ a link to a larger disk"
        )
    for number, name in enumerate(names, start=1):
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        logger.info("%d of %d: %s, %s", number, len(names), name, size_in_words(repository.size(name)))
        repository.fetch(name, partial / name)


def _identities(folder: Path, names: Iterable[str]) -> dict[str, dict]:
    return {name: file_identity(folder / name) for name in sorted(names)}


def _described(source: Source, partial: Path, describe_content: Callable[[Path], dict]) -> dict:
    try:
        return describe_content(partial)
    except StagingError as error:
        raise StagingError(f"{source.name}: {error}") from error


def _move(partial: Path, folder: Path) -> None:
    """Move each file atomically to where the manifest will name it."""
    names = _files_in(partial)
    _remove_others(folder, names)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (partial / name).replace(folder / name)
    shutil.rmtree(partial)


def _remove_others(folder: Path, names: set[str]) -> None:
    """Remove files of an earlier revision: transformers would load shards that the manifest does not name."""
    for name in _files_in(folder) - names:
        (folder / name).unlink(missing_ok=True)


def _files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() or path.is_symlink()}


def _explain(error: OSError, folder: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk (or your quota) below {folder.parent} is full; free some space and run the same command again"
    return f"{error.filename or folder}: {error.strerror or error}"


def open_repository(source: Source) -> Repository:
    """Return the source as it is now. Raise StagingError if it cannot be read."""
    if source.kind == "dataset" and is_one_file(source.name):
        return OneFile(source)
    if is_local(source.name):
        return Folder(source)
    _check_address_of_hub(os.environ.get("HF_ENDPOINT", ""))
    from gluegrid.staging.hub import open_hub

    return open_hub(source)


def _check_address_of_hub(address: str) -> None:
    """Raise StagingError for a malformed address of a mirror; with some, the hub's client cannot even be imported."""
    try:
        parts = urlsplit(address)
        is_address = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        is_address = False
    if address and not is_address:
        raise StagingError(
            f"HF_ENDPOINT is {quoted(redacted(address))}, not an address such as https://hub.example;"
            " correct it or unset it"
        )
