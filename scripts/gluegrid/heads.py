"""The calls of snakemake of one experiment: which of them run, as far as this host can tell."""

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json
from gluegrid.common.provenance import is_running, this_process
from gluegrid.experiment.experiment_index import head_files
from gluegrid.head import begun


@dataclass(frozen=True)
class Heads:
    """All heads of an experiment, the newest first, one at least: what gluegrid.head writes, and the `path` of it."""

    all: list[dict]

    @property
    def newest(self) -> dict:
        """What was planned last."""
        return self.all[0]

    @cached_property
    def running(self) -> list[dict]:
        """Those that run on this host."""
        host = this_process()["host"]
        return [head for head in self.all if head["process"]["host"] == host and is_running(head["process"])]

    @property
    def unknown(self) -> dict | None:
        """The newest, where it was called on another host and may run there."""
        elsewhere = self.newest["process"]["host"] != this_process()["host"]
        return self.newest if elsewhere and not self.running else None

    @cached_property
    def since(self) -> float | None:
        """When the first of those that run began, in seconds as files have them; None where none runs."""
        return min((begun(head["path"], head) for head in self.running), default=None)


def heads_of(experiment: Path) -> Heads | None:
    """Return the heads of the experiment in this folder; None where it never had one.

    One whose file vanishes meanwhile, or is none of this release's, is left out.
    """
    found = []
    for path in reversed(head_files(experiment)):
        with suppress(DataError):
            found.append(read_json(path) | {"path": path})
    known = [head for head in found if {"started", "process", "config"} <= head.keys()]
    return Heads(known) if known else None
