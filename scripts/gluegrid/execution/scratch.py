"""Copies of what cells read, on the node's own disk: a site names a folder there in its profile, as `scratch`.

A copy is that of one staged folder, named by the hashes of its files, and shared by all processes of a user on a node.
Each of them holds a lock on the file beside it, which the system frees however a process ends: the last one removes the
copy, and what killed ones have left goes when another begins.
"""

import atexit
import fcntl
import functools
import hashlib
import logging
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from gluegrid.common.errors import GluegridError, TransientError
from gluegrid.common.files import canonical_json, is_disk_full, read_json, sha256, size_in_words
from gluegrid.common.manifests import check_name, recorded_hashes
from gluegrid.execution.invocation import choices_of_site

logger = logging.getLogger(__name__)

VARIABLE = "GLUEGRID_SCRATCH"
TRIES = 2  # a copy that differs is made once more
POLL_SECONDS = 0.2
PATIENCE_SECONDS = 600  # for another process, which makes the same copy

_copies: dict[Path, Path] = {}  # of staged folders; a forked child inherits them


def note_scratch() -> None:
    """Keep the place of the site's folder for all that this process starts, which will not have the job's variables.

    Snakemake's jobstep plugin drops SLURM's before it calls srun, and the launcher all that a cell need not know.
    """
    chosen = choices_of_site().scratch
    folder = os.environ.get(chosen, "") if chosen.isidentifier() else os.path.expandvars(chosen)
    if Path(folder).is_absolute() and "$" not in folder:
        os.environ[VARIABLE] = folder


def copy_to_scratch(manifest: Path) -> bool:
    """Let this process read the files that a manifest names from a copy, compared with the manifest's hashes.

    Tells whether it will; where the site wants copies and this cannot be one, the log says why. A second call, also in
    a forked child, costs nothing.
    """
    folder = manifest.parent.absolute()
    if folder not in _copies and (root := _folder_of_user()) is not None:
        try:
            _copies[folder] = _copy_of(manifest, root)
        except (GluegridError, OSError) as error:
            logger.warning("scratch: %s is not copied, and read where it is: %s", manifest.parent, _why(error, root))
    return folder in _copies


def read_from(folder: Path) -> Path:
    """Return where the files of a staged folder are to be read: its copy, if this process has one."""
    return _copies.get(folder.absolute(), folder)


@functools.cache
def _folder_of_user() -> Path | None:
    """Return the folder for copies, without what killed processes have left in it; None where there is none."""
    chosen = choices_of_site().scratch
    if not chosen:
        return None
    try:
        if VARIABLE not in os.environ:
            raise TransientError("this job has no such variable, or it names no folder")
        root = _own_folder(Path(os.environ[VARIABLE]))
        for lock in root.glob("*.lock"):
            _remove_if_unused(lock)
    except (GluegridError, OSError) as error:
        logger.warning("scratch: %s: nothing is copied, and all is read where it is: %s", chosen, _why(error))
        return None
    return root


def _why(error: Exception, root: Path | None = None) -> str:
    if is_disk_full(error):
        return f"the disk of {root} is full"
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)


def _own_folder(scratch: Path) -> Path:
    """Return the user's own folder in one that may be everybody's."""
    root = scratch / f"gluegrid-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    if root.is_symlink() or root.stat().st_uid != os.getuid():
        raise TransientError(f"{root} is another user's")
    return root


def _copy_of(manifest: Path, root: Path) -> Path:
    """Return a folder with a copy, which stays as long as this process lives."""
    hashes = recorded_hashes(manifest)
    place = root / hashlib.sha256(canonical_json(hashes).encode()).hexdigest()[:16]
    # Of the same name: by it, the code that a model brings with it is imported.
    lock, copy = place.with_suffix(".lock"), place / manifest.parent.name
    tries, waited = 0, 0.0
    while tries < TRIES and waited < PATIENCE_SECONDS:
        descriptor = _locked(lock, fcntl.LOCK_SH)
        if descriptor is None or not copy.is_dir():
            _unlock(descriptor)
            if not _made(lock, copy, manifest):
                time.sleep(POLL_SECONDS)
                waited += POLL_SECONDS
        elif _is_whole(copy, hashes):
            atexit.register(_leave, lock, descriptor)
            return copy
        else:
            tries += 1
            _unlock(descriptor)
            _remove_if_unused(lock)
    raise TransientError(f"{copy}: {'is not as its manifest says' if tries else 'another process does not finish it'}")


def _is_whole(copy: Path, hashes: dict[str, str]) -> bool:
    """Tell whether a copy has these hashes: a disk may lie, and some nodes tidy up while jobs run."""
    try:
        return all(sha256(copy / name) == recorded for name, recorded in hashes.items())
    except OSError:
        return False


def _made(lock: Path, copy: Path, manifest: Path) -> bool:
    """Make a copy, whole or not at all, where there is none; false while another process does so."""
    descriptor = _locked(lock, fcntl.LOCK_EX)
    if descriptor is None:
        return False
    try:
        if not copy.is_dir():
            _copy_files(manifest, copy)
        return True
    except BaseException:
        _remove(lock)
        raise
    finally:
        _unlock(descriptor)


def _copy_files(manifest: Path, copy: Path) -> None:
    files = read_json(manifest)["files"]
    needed, new = sum(file["bytes"] for file in files.values()), copy.with_name(".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    free = shutil.disk_usage(new).free
    if needed > free:
        raise TransientError(f"{copy.parents[1]} has {size_in_words(free)} left, and it needs {size_in_words(needed)}")
    start = time.monotonic()
    for name in files:
        check_name(manifest, name)
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(manifest.parent / name, new / name)
    new.rename(copy)
    seconds = time.monotonic() - start
    logger.info("scratch: copied %s to %s: %s in %.1f s", manifest.parent, copy, size_in_words(needed), seconds)


def _locked(lock: Path, kind: int) -> int | None:
    """Return a descriptor of a file that it locks; None where another process's lock excludes it."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        # Whoever has removed a copy meanwhile has removed this file too.
        if os.path.samestat(lock.stat(), os.fstat(descriptor)):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _unlock(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


def _leave(lock: Path, descriptor: int) -> None:
    """Remove a copy that nobody uses any more; the parent of a forked child does, since the two share a lock."""
    os.close(descriptor)
    with suppress(OSError):
        _remove_if_unused(lock)


def _remove_if_unused(lock: Path) -> None:
    descriptor = _locked(lock, fcntl.LOCK_EX)
    if descriptor is not None:
        _remove(lock)
        os.close(descriptor)


def _remove(lock: Path) -> None:
    """Remove a copy, and then the file of its lock, which this process holds for itself."""
    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
    lock.unlink(missing_ok=True)
