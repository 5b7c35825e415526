"""Leases of GPUs: on a machine without a scheduler, whoever holds a GPU's lease has it alone.

A lease is a file lock (flock) on one file per GPU. All calls of snakemake by a user on a machine share these files,
across experiments and clones. The lock belongs to the open file, not to a process: whoever takes a lease passes its
descriptor on to the processes that use the GPU, which is free again when the last of them has ended, however it did.
"""

import fcntl
import json
import os
import socket
import stat
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gluegrid.common.errors import TransientError
from gluegrid.common.formatting import counted
from gluegrid.common.provenance import is_running, now, this_process

POLL_SECONDS = 1
# Processes of a dead launcher may still have to save their work (SECONDS_TO_LEAVE in gluegrid/execution/cell_lock.py).
PATIENCE_SECONDS = 360
OF_A_CELL = "cell-"  # the prefix of leases for cells, whose files are deleted when they have ended
UNKNOWN = dict.fromkeys(("pid", "process_started", "cell", "since"))


@dataclass(frozen=True)
class Lease:
    """The lease of one GPU, held as long as any process has the descriptor open."""

    gpu: str
    descriptor: int


Holders = dict[str, dict]  # GPU -> the process that took its lease, its cell, and since when


def lease_gpus(
    gpus: list[str],
    count: int,
    cell: str,
    on_wait: Callable[[Holders], None],
    while_waiting: Callable[[], None] = lambda: None,
) -> list[Lease]:
    """Lease `count` of the GPUs, all at once, as soon as that many are free.

    `on_wait` is called once with the current holders; `while_waiting` is called repeatedly, and may raise to give up.
    Raises TransientError if there are fewer GPUs, if processes of dead launchers do not end, or if no lease can be
    taken.
    """
    if count > len(gpus):
        advice = f"set gpus: {len(gpus)}" if gpus else "set device: cpu to train without one"
        raise TransientError(
            f"this cell needs {counted(count, 'GPU')}, but {socket.gethostname()} has {len(gpus)}"
            f" (CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES')}); {advice}"
        )
    mine = {**this_process(), "cell": cell, "since": now()}
    patience: _Patience | None = None
    while True:
        leases, holders = _take(gpus, count, mine)
        if leases:
            return leases
        if patience is None:
            patience = _Patience()
            on_wait(holders)
        patience.spend(len(gpus) - count, holders)
        while_waiting()
        time.sleep(POLL_SECONDS)


def described(holders: Holders) -> str:
    """Describe for people who holds which GPU."""
    return "; ".join(f"{gpu} by {whose(holder)}" for gpu, holder in holders.items())


def whose(holder: dict) -> str:
    """Describe for people who holds a lease."""
    return f"process {holder['pid']}, {holder['cell']}, since {holder['since']}"


class _Patience:
    """How long to wait for GPUs whose launcher has died. Living ones are waited for as long as they train."""

    def __init__(self):
        self._last_hope = time.monotonic()

    def spend(self, dispensable: int, holders: Holders) -> None:
        left = {gpu: holder for gpu, holder in holders.items() if not is_running(holder)}
        if len(left) <= dispensable:
            self._last_hope = time.monotonic()
        elif time.monotonic() - self._last_hope > PATIENCE_SECONDS:
            raise TransientError(
                f"processes of dead launchers do not end and keep their GPUs ({described(left)}); end them by hand"
            )


def _take(gpus: list[str], count: int, mine: dict) -> tuple[list[Lease], Holders]:
    """Take `count` leases or none; return them, and who holds the others."""
    folder = _folder()
    try:
        # One process at a time, since two that want several could each hold a part.
        with _alone(folder / ".taking"):
            _remove_those_of_ended_cells(folder)
            leases, holders = _take_one_by_one(folder, gpus, count)
            if len(leases) < count:
                for lease in leases:
                    os.close(lease.descriptor)
                return [], holders
            for lease in leases:
                _sign(lease.descriptor, mine)
            return leases, holders
    except OSError as error:
        raise TransientError(
            f"{folder}: cannot hold leases of GPUs ({error.strerror}); set TMPDIR to a folder on a local disk"
        ) from error


def _take_one_by_one(folder: Path, gpus: list[str], most: int) -> tuple[list[Lease], Holders]:
    leases, holders = [], {}
    for gpu in gpus:
        descriptor = _open(folder / urllib.parse.quote(gpu, safe=""))
        if len(leases) < most and _is_locked_now(descriptor):
            leases.append(Lease(gpu, descriptor))
        else:
            holders[gpu] = _holder(descriptor)
            os.close(descriptor)
    return leases, holders


def _remove_those_of_ended_cells(folder: Path) -> None:
    """Delete the lease files of cells that have ended. Nobody may take a lease meanwhile: its file could vanish."""
    for path in folder.glob(f"{OF_A_CELL}*"):
        descriptor = _open(path)
        if _is_locked_now(descriptor):
            path.unlink()
        os.close(descriptor)


def _folder() -> Path:
    """Return the user's folder of leases, created if necessary. Raises TransientError if others could change it.

    Its name contains the host's, since TMPDIR may be on a disk that hosts share.
    """
    folder = Path(tempfile.gettempdir()) / f"gluegrid-gpus-{socket.gethostname()}-{os.getuid()}"
    try:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
    except OSError as error:
        raise TransientError(f"{folder}: cannot be created ({error.strerror}); set TMPDIR to another folder") from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise TransientError(
            f"{folder}: is not a folder with access for you alone (mode 700); remove it, or set TMPDIR to another"
        )
    return folder


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _is_locked_now(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(descriptor: int) -> dict:
    """Return who has signed a lease, which is for display only."""
    try:
        holder = json.loads(os.pread(descriptor, 10_000, 0))
    except ValueError:
        holder = None
    return UNKNOWN | (holder if isinstance(holder, dict) else {})


def _sign(descriptor: int, mine: dict) -> None:
    """Write who holds a lease, for people. The file is written in place, since the lock belongs to it."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, (json.dumps(mine) + "\n").encode(), 0)
