"""Who may still need the files of experiments: calls of snakemake, SLURM jobs, and processes that hold locks."""

import time
from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json
from gluegrid.common.provenance import is_running, this_process
from gluegrid.execution.locks import living_holder
from gluegrid.experiment.experiment_index import head_files

DAY = 86400  # seconds
# Whether a process of another host lives cannot be seen from here.
HEAD_ELSEWHERE_DAYS = 7
HOLDER_ELSEWHERE_SECONDS = 3600  # without a heartbeat, which comes every 10 s


def living_head(folder: Path) -> Path | None:
    """Return the file of a call of snakemake that lives, or that may on another host; None where there is none."""
    return next((path for path in reversed(head_files(folder)) if _may_live(path)), None)


def is_locked(path: Path) -> bool:
    """Tell whether the lock at `path` is held by somebody who lives, or may on another host."""
    holder = living_holder(path)
    if holder is None or not path.exists():
        return False
    return holder["host"] == this_process()["host"] or is_newer_than(path, HOLDER_ELSEWHERE_SECONDS)


def is_newer_than(path: Path, seconds: float) -> bool:
    """Tell whether a file or folder was changed in the last so many seconds; not where it is gone."""
    try:
        return time.time() - path.lstat().st_mtime < seconds
    except OSError:
        return False


def _may_live(head: Path) -> bool:
    try:
        process = read_json(head)["process"]
        if process["host"] == this_process()["host"]:
            return is_running(process)
    except (DataError, KeyError, TypeError):
        pass
    return is_newer_than(head, HEAD_ELSEWHERE_DAYS * DAY)
