"""The head of a run: what one call of snakemake has planned, frozen when it starts.

The head writes its experiment, the state of the code, its process and its start into one file; every job reads that
file, found through an environment variable, and not the config, so that what is edited meanwhile changes no queued job.
"""

import datetime
import json
import os
import tempfile
import uuid
from pathlib import Path

from gluegrid.common.files import read_json, write_text
from gluegrid.common.provenance import git_state, is_running, now, this_process

VARIABLE = "GLUEGRID_HEAD"


def freeze(config: dict, heads: Path, started: str | None = None) -> Path:
    """Write the head's file into the folder `heads` and tell all jobs started from here on about it.

    `started` is when the head began to plan, now if not given: what others have made since then it does not know of.
    """
    path = _write(config, heads, started or now(), this_process())
    os.environ[VARIABLE] = str(path)
    return path


def write_import(config: dict, heads: Path) -> Path:
    """Write the file of a head that starts no job: it says what an imported experiment is. Return its path."""
    # Nobody is to wait for this process, or to think that a snakemake runs.
    return _write(config, heads, now(), this_process() | {"process_started": None})


def _write(config: dict, heads: Path, started: str, process: dict) -> Path:
    path = heads / f"{now().replace(':', '')}-{uuid.uuid4().hex[:6]}.json"
    content = {"started": started, "process": process, "git": git_state(), "config": config}
    content["written"] = datetime.datetime.now(datetime.UTC).isoformat()
    # Not sorted: the order of models and tasks in the config is the order of the tables.
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return path


def path_of_current_head() -> str | None:
    """Return the path of the head's file; None for a script that was started by hand."""
    return os.environ.get(VARIABLE)


def current_head() -> dict | None:
    """Return the content of the head's file; None for a script that was started by hand."""
    path = path_of_current_head()
    return read_json(Path(path)) if path else None


def is_newer_than_head(path: Path) -> bool:
    """Tell whether a file was written since the head began to plan; without a head, whether it is there.

    A file whose time is yet to come was written by nobody now.
    """
    head = path_of_current_head()
    if head is None or not path.exists():
        return path.exists()
    return begun(Path(head), read_json(Path(head))) <= path.stat().st_mtime <= _time_on_the_disk_of(path)


def _time_on_the_disk_of(path: Path) -> float:
    """Return what time it is for what keeps the times of a file."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as now_written:
        return os.fstat(now_written.fileno()).st_mtime


def begun(path: Path, head: dict) -> float:
    """Return when a head began to plan, in seconds by the clock that gives files their times: the file server's, which
    may differ from those of the hosts that write there.

    `head` is the content of its file; what an earlier release wrote tells that host's clock alone.
    """
    started = datetime.datetime.fromisoformat(head["started"]).timestamp()
    try:
        written = datetime.datetime.fromisoformat(head["written"]).timestamp()
        return started + round(path.stat().st_mtime - written)
    except (KeyError, OSError):
        return started


def interrupt() -> None:
    """Let no program that this head has started submit anything more."""
    if path := path_of_current_head():
        _interruption(path).touch()


def has_ended() -> bool:
    """Tell whether the head, of this host, was interrupted or has died; never without a head."""
    path = path_of_current_head()
    if path is None:
        return False
    return _interruption(path).exists() or not is_running(read_json(Path(path))["process"])


def _interruption(path: str) -> Path:
    return Path(path).with_suffix(".interrupted")
