"""Copies of cells' inputs on the node's local disk, in the folder that a site's profile names as `scratch`.

A copy is of one staged folder, is named after the hashes of its files, and is shared by all processes of a user on a
node. Each process holds a lock on a file beside it, which the system releases however the process ends. The last one
removes the copy; leftovers of killed processes are removed when another one starts.
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
TRIES = 2  # a copy that differs is made a second time
POLL_SECONDS = 0.2
PATIENCE_SECONDS = 600  # to wait for another process that makes the same copy

_copies: dict[Path, Path] = {}  # of staged folders; a forked child inherits them


def note_scratch() -> None:
    """Pass on the path of the site's folder to all child processes, which will not have the job's variables.

    Snakemake's jobstep plugin drops SLURM's variables before it calls srun, and the launcher drops most others.
    """
    chosen = choices_of_site().scratch
    folder = os.environ.get(chosen, "") if chosen.isidentifier() else os.path.expandvars(chosen)
    if Path(folder).is_absolute() and "$" not in folder:
        os.environ[VARIABLE] = folder


def copy_to_scratch(manifest: Path) -> bool:
    """Let this process read a manifest's files from a copy that was checked against its hashes; tell whether it will.

    If the site wants copies but this one cannot be made, the log says why. A second call, also in a forked child,
    costs nothing.
    """
    folder = manifest.parent.absolute()
    if folder not in _copies and (root := _folder_of_user()) is not None:
        try:
            _copies[folder] = _copy_of(manifest, root)
        except (GluegridError, OSError) as error:
            logger.warning("scratch: %s is read in place, not from a copy: %s", manifest.parent, _why(error, root))
    return folder in _copies


def read_from(folder: Path) -> Path:
    """Return where to read the files of a staged folder: from its copy, if this process has one."""
    return _copies.get(folder.absolute(), folder)


@functools.cache
def _folder_of_user() -> Path | None:
    """Return the folder for copies, cleared of leftovers of killed processes; None if there is none."""
    chosen = choices_of_site().scratch
    if not chosen:
        return None
    try:
        if VARIABLE not in os.environ:
            raise TransientError("this job does not have this variable, or it does not name a folder")
        root = _own_folder(Path(os.environ[VARIABLE]))
        for lock in root.glob("*.lock"):
            _remove_if_unused(lock)
    except (GluegridError, OSError) as error:
        logger.warning("scratch: %s: all files are read in place, not from copies: %s", chosen, _why(error))
        return None
    return root


def _why(error: Exception, root: Path | None = None) -> str:
    if is_disk_full(error):
        return f"the disk of {root} is full"
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)


def _own_folder(scratch: Path) -> Path:
    """Return the user's own folder in one that may be shared."""
    root = scratch / f"gluegrid-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    if root.is_symlink() or root.stat().st_uid != os.getuid():
        raise TransientError(f"{root} belongs to another user")
    return root


def _copy_of(manifest: Path, root: Path) -> Path:
    """Return a folder with a copy that exists as long as this process lives."""
    hashes = recorded_hashes(manifest)
    place = root / hashlib.sha256(canonical_json(hashes).encode()).hexdigest()[:16]
    # The copy has the same name, since a model's own code is imported by it.
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
    raise TransientError(f"{copy}: {'does not match its manifest' if tries else 'another process does not finish it'}")


def _is_whole(copy: Path, hashes: dict[str, str]) -> bool:
    """Tell whether a copy has these hashes, since disks fail and some nodes clean up while jobs run."""
    try:
        return all(sha256(copy / name) == recorded for name, recorded in hashes.items())
    except OSError:
        return False


def _made(lock: Path, copy: Path, manifest: Path) -> bool:
    """Make a copy, atomically, if there is none; return false while another process does so."""
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
        raise TransientError(f"{copy.parents[1]} has {size_in_words(free)} free, but it needs {size_in_words(needed)}")
    start = time.monotonic()
    for name in files:
        check_name(manifest, name)
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(manifest.parent / name, new / name)
    new.rename(copy)
    seconds = time.monotonic() - start
    logger.info("scratch: copied %s to %s: %s in %.1f s", manifest.parent, copy, size_in_words(needed), seconds)


def _locked(lock: Path, kind: int) -> int | None:
    """Lock a file and return its descriptor; None if another process's lock prevents it."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        # Whoever removed the copy in the meantime has removed this file, too.
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
    """Remove a copy that nobody uses any more. A forked child shares its parent's lock, so the parent removes it."""
    os.close(descriptor)
    with suppress(OSError):
        _remove_if_unused(lock)


def _remove_if_unused(lock: Path) -> None:
    descriptor = _locked(lock, fcntl.LOCK_EX)
    if descriptor is not None:
        _remove(lock)
        os.close(descriptor)


def _remove(lock: Path) -> None:
    """Remove a copy, and then its lock file, on which this process has the exclusive lock."""
    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
    lock.unlink(missing_ok=True)
