"""The head of a run: what one call of snakemake has planned, frozen when it starts.

The head writes its experiment, the state of the code and its start into one file; every job reads that file, found
through an environment variable, and not the config, so that what is edited meanwhile changes no queued job.
"""

import json
import os
import uuid
from pathlib import Path

from gluegrid.experiment import Experiment
from gluegrid.files import read_json, write_text
from gluegrid.provenance import git_state, now

VARIABLE = "GLUEGRID_HEAD"


def freeze(experiment: Experiment) -> Path:
    """Write the head's file and tell all jobs started from here on about it."""
    path = Path(experiment.paths.heads) / f"{now().replace(':', '')}-{uuid.uuid4().hex[:6]}.json"
    content = {"started": now(), "git": git_state(), "config": experiment.config}
    # Not sorted: the order of models and tasks in the config is the order of the tables.
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    os.environ[VARIABLE] = str(path)
    return path


def frozen_experiment() -> Experiment | None:
    """Return the experiment as the head of this job planned it; None when this job has no head."""
    head = current_head()
    return Experiment(head["config"]) if head else None


def current_head() -> dict | None:
    """Return the content of the head's file; None for a script that was started by hand."""
    path = os.environ.get(VARIABLE)
    return read_json(Path(path)) if path else None
