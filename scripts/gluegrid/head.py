"""The head of a run: what one call of snakemake has planned, frozen when it starts.

The head writes its experiment, the state of the code, its process and its start into one file; every job reads that
file, found through an environment variable, and not the config, so that what is edited meanwhile changes no queued job.
"""

import json
import os
import uuid
from pathlib import Path

from gluegrid.files import read_json, write_text
from gluegrid.provenance import git_state, now, this_process

VARIABLE = "GLUEGRID_HEAD"


def freeze(config: dict, heads: Path) -> Path:
    """Write the head's file into the folder `heads` and tell all jobs started from here on about it."""
    path = heads / f"{now().replace(':', '')}-{uuid.uuid4().hex[:6]}.json"
    content = {"started": now(), "process": this_process(), "git": git_state(), "config": config}
    # Not sorted: the order of models and tasks in the config is the order of the tables.
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    os.environ[VARIABLE] = str(path)
    return path


def path_of_current_head() -> str | None:
    """Return the path of the head's file; None for a script that was started by hand."""
    return os.environ.get(VARIABLE)


def current_head() -> dict | None:
    """Return the content of the head's file; None for a script that was started by hand."""
    path = path_of_current_head()
    return read_json(Path(path)) if path else None
