"""A lock that works across hosts: a file that names its holder, kept fresh by a heartbeat.

Snakemake's own lock on the folder is off, since it survives a killed call and forbids two experiments at once. A lock
whose holder has died is taken over: at once if the holder's process can be looked up, else when its heartbeat has
stopped.
"""

import json
import math
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json
from gluegrid.common.provenance import is_running, job, now, this_process
from gluegrid.execution.invocation import path_of_current_invocation

HEARTBEAT_SECONDS = 10
DEAD_AFTER_SECONDS = 90  # attribute caches of shared file systems lag by up to a minute
POLL_SECONDS = 2
UNKNOWN = dict.fromkeys(("host", "pid", "process_started", "slurm_job_id", "slurm_node", "since", "head", "token"))


@dataclass(frozen=True)
class _Callbacks:
    on_wait: Callable[[dict], None]
    on_alive: Callable[[dict], None] = lambda holder: None
    on_asked_to_leave: Callable[[], None] = lambda: None
    on_lost: Callable[[], None] = lambda: None


@contextmanager
def lock(path: Path, on_wait: Callable[[dict], None], **callbacks: Callable) -> Iterator[None]:
    """Hold the lock at `path`, as soon as no other process does.

    `on_wait` is called with the holder, as `describe` takes it, if there is one; `on_alive` is called repeatedly while
    the holder is known to live, and may raise to give up. `on_asked_to_leave` is called without arguments in a thread
    of the holder after someone has called `ask_to_leave`, and so is `on_lost` after the lock was lost: taken over while
    this process was suspended, or removed by hand.
    """
    told = _Callbacks(on_wait, **callbacks)
    path.parent.mkdir(parents=True, exist_ok=True)
    identity = {**job(), **this_process(), "head": path_of_current_invocation()}
    mine = {**identity, "since": now(), "token": uuid.uuid4().hex}
    _acquire(path, mine, told)
    released = threading.Event()
    heartbeat = threading.Thread(target=_beat, args=(path, mine, released, told), daemon=True)
    heartbeat.start()
    try:
        yield
    finally:
        released.set()
        heartbeat.join()
        _release(path, mine)
        for request in path.parent.glob(_request(path, {"token": "*"}).name):
            request.unlink(missing_ok=True)


def living_holder(path: Path) -> dict | None:
    """Return who holds a lock; None if nobody does, or only a dead process of this host."""
    holder = _holder(path)
    return None if holder is not None and _is_of_this_host(holder) and not is_running(holder) else holder


def probable_holder(path: Path, seconds: float = DEAD_AFTER_SECONDS) -> dict | None:
    """Return who holds a lock; a holder on another host only if its last heartbeat is less than `seconds` ago."""
    holder = living_holder(path)
    if holder is None or _is_of_this_host(holder) or seconds_since_beat(path) < seconds:
        return holder
    return None


def seconds_since_beat(path: Path) -> float:
    """Return the time since the last heartbeat of a lock, by the clocks of this host and the file server.

    Infinite if there is no lock.
    """
    last_beat = _last_beat(path)
    return time.time() - last_beat if last_beat else math.inf


def ask_to_leave(path: Path, holder: dict) -> None:
    """Ask the holder of a lock, on any host, to release it; its `on_asked_to_leave` is called."""
    _request(path, holder).touch()


def describe(holder: dict) -> str:
    """Describe a holder for people."""
    where = f"process {holder['pid']} on {holder['slurm_node'] or holder['host']}"
    slurm_job = f", SLURM job {holder['slurm_job_id']}" if holder["slurm_job_id"] else ""
    return f"{where}{slurm_job}, since {holder['since']}"


def _acquire(path: Path, mine: dict, told: _Callbacks) -> None:
    candidate = path.with_name(f".{path.name}.{mine['token']}")
    candidate.write_text(json.dumps(mine), encoding="utf-8")
    waiting_for, first_beat, heart = None, 0.0, _Heart()
    try:
        while not _linked(candidate, path):
            holder = _holder(path)
            if holder is None:
                continue
            if _is_dead(holder, path, candidate) or heart.has_stopped(holder, path):
                _remove_dead(path, holder, mine)
                continue
            if holder["token"] != waiting_for:
                waiting_for, first_beat = holder["token"], _last_beat(path)
                told.on_wait(holder)
            # On another host, only a new heartbeat proves that the holder is alive.
            if _is_of_this_host(holder) or _last_beat(path) > first_beat:
                told.on_alive(holder)
            time.sleep(POLL_SECONDS)
    finally:
        candidate.unlink(missing_ok=True)


def _linked(candidate: Path, path: Path) -> bool:
    """Link the candidate to the lock's name, unless it exists: atomic on every file system, also over NFS."""
    # Start the heartbeat now, after any wait, by the file server's clock, not this host's.
    os.utime(candidate)
    try:
        os.link(candidate, path)
    except FileExistsError:
        return False
    return True


def _holder(path: Path) -> dict | None:
    try:
        holder = read_json(path)
    except DataError:
        # After a power failure, the file may exist without its content.
        return dict(UNKNOWN) if path.exists() else None
    return UNKNOWN | holder


class _Heart:
    """How long no heartbeat was seen, by this host's clock: a lock's own time may lie in the future."""

    def __init__(self):
        self._seen: tuple[str | None, float] | None = None
        self._since = 0.0

    def has_stopped(self, holder: dict, path: Path) -> bool:
        """Tell whether no heartbeat of a holder on another host has come for too long."""
        beat = (holder["token"], _last_beat(path))
        if self._seen != beat:
            self._seen, self._since = beat, time.monotonic()
        return not _is_of_this_host(holder) and time.monotonic() - self._since > DEAD_AFTER_SECONDS


def _is_dead(holder: dict, path: Path, candidate: Path) -> bool:
    if _is_of_this_host(holder):
        return not is_running(holder)
    last_beat = _last_beat(path)
    return last_beat > 0 and _last_beat(candidate) - last_beat > DEAD_AFTER_SECONDS


def _is_of_this_host(holder: dict) -> bool:
    return holder["host"] == this_process()["host"]


def _last_beat(path: Path) -> float:
    """Return when a lock was last touched; 0 if there is none."""
    try:
        # Only opening the file makes NFS ask the server instead of its cache.
        with path.open("rb") as stream:
            return os.fstat(stream.fileno()).st_mtime
    except FileNotFoundError:
        return 0.0


def _request(path: Path, holder: dict) -> Path:
    return path.with_name(f"{path.name}.leave.{holder['token']}")


def _remove_dead(path: Path, dead: dict, mine: dict) -> None:
    """Remove a dead holder's lock while holding another lock, so that a slower process does not remove the next one."""
    claim = path.with_name(f".{path.name}.claim")
    _acquire(claim, mine, _Callbacks(on_wait=lambda holder: None))
    try:
        _release(path, dead)
    finally:
        _release(claim, mine)


def _release(path: Path, holder: dict) -> None:
    if _holder(path) == holder:
        path.unlink(missing_ok=True)


def remove_lock_of(path: Path, pid: int) -> None:
    """Remove the lock of a dead process of this host, so that other hosts need not wait for its heartbeat to stop."""
    holder = _holder(path)
    if holder is not None and holder["pid"] == pid and _is_of_this_host(holder):
        _release(path, holder)


def _beat(path: Path, mine: dict, released: threading.Event, told: _Callbacks) -> None:
    beaten, was_missed = time.monotonic(), False
    while not released.wait(min(POLL_SECONDS, HEARTBEAT_SECONDS)):
        # A file server that fails now may answer at the next heartbeat.
        with suppress(OSError):
            if _request(path, mine).exists():
                _request(path, mine).unlink()
                told.on_asked_to_leave()
            if time.monotonic() - beaten < HEARTBEAT_SECONDS:
                continue
            beaten = time.monotonic()
            holder = _holder(path)
            if holder == mine:
                os.utime(path)
            is_missed = holder is None or holder["token"] not in (mine["token"], None)
            if is_missed and was_missed:
                told.on_lost()
            was_missed = is_missed
