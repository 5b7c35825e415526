"""Leases of GPUs: on a machine that no scheduler divides, whoever holds a card's lease is alone on it.

A lease is a lock of the system's (flock) on a file for each card. All calls of snakemake of a user on a machine share
the files, whatever the experiment or the clone. The lock belongs to the open file and not to a process: whoever takes a
lease hands its descriptor to the processes that use the card, and the card is free when the last of them has ended,
however it did.
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
from gluegrid.common.provenance import is_running, now, this_process

POLL_SECONDS = 1
# What a dead launcher has left may have to save its work (SECONDS_TO_LEAVE in gluegrid/execution/cell_lock.py).
PATIENCE_SECONDS = 360
OF_A_CELL = "cell-"  # how the names of leases begin that are of no use when they have ended
UNKNOWN = dict.fromkeys(("pid", "process_started", "cell", "since"))


@dataclass(frozen=True)
class Lease:
    """A lease of one GPU, held as long as any process has the descriptor open."""

    gpu: str
    descriptor: int


Holders = dict[str, dict]  # by GPU: the process that took its lease, the cell, and since when


def lease_gpus(
    gpus: list[str],
    count: int,
    cell: str,
    on_wait: Callable[[Holders], None],
    while_waiting: Callable[[], None] = lambda: None,
) -> list[Lease]:
    """Lease `count` of the GPUs, all at once, as soon as so many are free.

    `on_wait` is told once who holds them; `while_waiting` is called again and again, and may raise to give up. Raises
    TransientError where there are not so many, where what dead launchers have left does not end, and where no lease
    can be taken.
    """
    if count > len(gpus):
        advice = f"set gpus: {len(gpus)}" if gpus else "set device: cpu to train without"
        raise TransientError(
            f"this cell is for {count} GPUs, and {socket.gethostname()} has {len(gpus)}"
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
    """Name for people who holds which GPU."""
    return "; ".join(f"{gpu} by {whose(holder)}" for gpu, holder in holders.items())


def whose(holder: dict) -> str:
    """Name for people who has signed a lease."""
    return f"process {holder['pid']}, {holder['cell']}, since {holder['since']}"


class _Patience:
    """How long to wait for cards whose launcher has died. Living ones are waited for as long as they train."""

    def __init__(self):
        self._last_hope = time.monotonic()

    def spend(self, dispensable: int, holders: Holders) -> None:
        left = {gpu: holder for gpu, holder in holders.items() if not is_running(holder)}
        if len(left) <= dispensable:
            self._last_hope = time.monotonic()
        elif time.monotonic() - self._last_hope > PATIENCE_SECONDS:
            raise TransientError(
                f"what is left of dead launchers does not end ({described(left)}); end its processes by hand"
            )


def _take(gpus: list[str], count: int, mine: dict) -> tuple[list[Lease], Holders]:
    """Take so many leases or none; return them, and where there are none, who holds what could not be taken."""
    folder = _folder()
    try:
        # One process at a time: else two that want several would each hold a part.
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
            f"{folder}: no GPU can be leased there ({error.strerror}); set TMPDIR to a folder on a disk of this machine"
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
    """Keep the folder small. Nobody takes a lease meanwhile: its file would have lost its name."""
    for path in folder.glob(f"{OF_A_CELL}*"):
        descriptor = _open(path)
        if _is_locked_now(descriptor):
            path.unlink()
        os.close(descriptor)


def _folder() -> Path:
    """Return the user's folder of leases, made if need be. Raises TransientError where others could meddle with it.

    With the host's name: TMPDIR may lie on a disk that hosts share.
    """
    folder = Path(tempfile.gettempdir()) / f"gluegrid-gpus-{socket.gethostname()}-{os.getuid()}"
    try:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
    except OSError as error:
        raise TransientError(f"{folder}: cannot be made ({error.strerror}); set TMPDIR to another folder") from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise TransientError(
            f"{folder}: is no folder of yours alone (mode 700); remove it, or set TMPDIR to another folder"
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
    """Return who has signed a lease; it is only looked at, and not relied on."""
    try:
        holder = json.loads(os.pread(descriptor, 10_000, 0))
    except ValueError:
        holder = None
    return UNKNOWN | (holder if isinstance(holder, dict) else {})


def _sign(descriptor: int, mine: dict) -> None:
    """Write who holds a lease, for people; in place, since the lock is the file's."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, (json.dumps(mine) + "\n").encode(), 0)
