"""A lock that several hosts can see: a file with its holder's name, kept fresh by a heartbeat.

Snakemake's own lock on the folder is off (it survives a killed head and forbids two experiments at once). A lock
whose holder has died is taken over: at once where the holder's process can be looked up, else when its heartbeat has
stopped.
"""

import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gluegrid.provenance import job, now, process_started, this_process

HEARTBEAT_SECONDS = 15
DEAD_AFTER_SECONDS = 90  # attribute caches of shared file systems lag by up to a minute
POLL_SECONDS = 2


@contextmanager
def lock(path: Path, on_wait: Callable[[dict], None]) -> Iterator[None]:
    """Hold the lock at `path`; while another process holds it, wait, after telling `on_wait` who it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = {**job(), **this_process(), "since": now(), "token": uuid.uuid4().hex}
    _acquire(path, mine, on_wait)
    released = threading.Event()
    heartbeat = threading.Thread(target=_beat, args=(path, mine, released), daemon=True)
    heartbeat.start()
    try:
        yield
    finally:
        released.set()
        heartbeat.join()
        _release(path, mine)


def describe(holder: dict) -> str:
    """Name a holder for people."""
    where = f"process {holder['pid']} on {holder['slurm_node'] or holder['host']}"
    slurm_job = f", SLURM job {holder['slurm_job_id']}" if holder["slurm_job_id"] else ""
    return f"{where}{slurm_job}, since {holder['since']}"


def _acquire(path: Path, mine: dict, on_wait: Callable[[dict], None]) -> None:
    candidate = path.with_name(f".{path.name}.{mine['token']}")
    candidate.write_text(json.dumps(mine), encoding="utf-8")
    waiting_for = None
    try:
        while not _linked(candidate, path):
            holder = _holder(path)
            if holder is None:
                continue
            if _is_dead(holder, path, candidate):
                _remove_dead(path, holder, mine)
                continue
            if holder["token"] != waiting_for:
                waiting_for = holder["token"]
                on_wait(holder)
            time.sleep(POLL_SECONDS)
    finally:
        candidate.unlink(missing_ok=True)


def _linked(candidate: Path, path: Path) -> bool:
    """Give the candidate the lock's name, unless it is taken: atomic on every file system, also over NFS."""
    # Its heartbeat begins now, however long it has waited; by the file server's clock, not this host's.
    os.utime(candidate)
    try:
        os.link(candidate, path)
    except FileExistsError:
        return False
    return True


def _holder(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _is_dead(holder: dict, path: Path, candidate: Path) -> bool:
    if holder["host"] == job()["host"]:
        return process_started(holder["pid"]) != holder["process_started"]
    try:
        return candidate.stat().st_mtime - path.stat().st_mtime > DEAD_AFTER_SECONDS
    except FileNotFoundError:
        return False


def _remove_dead(path: Path, dead: dict, mine: dict) -> None:
    """Remove a dead holder's lock, under a lock of its own: a slower process would remove the next holder's."""
    claim = path.with_name(f".{path.name}.claim")
    _acquire(claim, mine, on_wait=lambda holder: None)
    try:
        _release(path, dead)
    finally:
        _release(claim, mine)


def _release(path: Path, holder: dict) -> None:
    if _holder(path) == holder:
        path.unlink(missing_ok=True)


def _beat(path: Path, mine: dict, released: threading.Event) -> None:
    while not released.wait(HEARTBEAT_SECONDS):
        # A file server that fails now may answer at the next beat.
        with suppress(OSError):
            if _holder(path) == mine:
                os.utime(path)
