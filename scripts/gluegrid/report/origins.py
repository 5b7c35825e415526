"""Where each number comes from: for every group its cells, and for every cell its run, code, machine, data and files.

What many cells share (versions, hashes of models and data) is written once, and cells refer to it.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from gluegrid.common.provenance import without_commit
from gluegrid.experiment.experiment import Experiment
from gluegrid.results.notes import peculiarities
from gluegrid.results.outcomes import Outcome
from gluegrid.results.result_text import numbers, seeds_text, state, task_name
from gluegrid.results.summary import Group

FILES = {"model_files": "Model", "task_files": "Data", "tokens_files": "Tokens", "start_files": "Start"}
NO_SCORES = ("_loss", "_runtime", "_per_second", "_combined_score")  # what keys of all_results.json have in them


@dataclass(frozen=True)
class Shared:
    """Facts that cells share, under a name on the page such as `files-3`."""

    name: str
    title: str
    facts: Sequence[tuple[str, str]]


@dataclass
class SharedFacts:
    """All facts that cells share, each once."""

    kind: str
    known: dict[tuple, Shared] = field(default_factory=dict)

    def add(self, title: str, facts: Iterable[tuple[str, object]]) -> Shared:
        """Return where these facts stand."""
        key = (title, tuple((name, "-" if value is None else str(value)) for name, value in facts))
        if key not in self.known:
            number = len(self.known) + 1
            self.known[key] = Shared(f"{self.kind}-{number}", f"{title} {number}", key[1])
        return self.known[key]


@dataclass(frozen=True)
class Origin:
    """Where the result of one cell comes from, and what it shares with others. Paths are relative to the page."""

    outcome: Outcome
    folder: str
    log: str
    scores: Sequence[tuple[str, str]]
    shared: Sequence[Shared]
    notes: Sequence[str]

    @property
    def job(self) -> str:
        """The host, and the job there was."""
        job = self.outcome.record.get("job") or {}
        slurm = f", SLURM job {job['slurm_job_id']}" if job.get("slurm_job_id") else ""
        return f"{job.get('slurm_node') or job.get('host') or 'unknown host'}{slurm}"


@dataclass(frozen=True)
class OriginOfGroup:
    """The cells that a number over seeds is made from. `name` is that of the place on the page."""

    name: str
    group: Group
    is_chosen: bool
    cells: Sequence[Origin]

    @property
    def title(self) -> str:
        """The task and, where there are several, the variant."""
        is_plain = self.is_chosen and len(self.group.chosen_from) < 2
        return task_name(self.group) + ("" if is_plain else f", {self.group.variant}")

    @property
    def number(self) -> str:
        """The group's numbers as the tables have them, and of how many seeds."""
        return f"{numbers(self.group)} ({seeds_text(self.group)})" if self.group.done else state(self.group)


class Origins:
    """The origins of all groups, and what they share."""

    def __init__(self, experiment: Experiment, groups: Sequence[Group], chosen: Sequence[Group]):
        self.environments = SharedFacts("environment")
        self.files = SharedFacts("files")
        self._experiment = experiment
        stand_in = {group.identity: group for group in chosen}
        self.groups = [
            OriginOfGroup(
                f"number-{place}",
                stand_in.get(group.identity, group),
                group.identity in stand_in,
                list(map(self._origin, group.outcomes)),
            )
            for place, group in enumerate(groups, start=1)
        ]
        self._names = {origin.group.identity: origin.name for origin in self.groups}

    def name_of(self, group: Group) -> str:
        """Return the place on the page where a group's origin stands."""
        return self._names[group.identity]

    def log_of(self, outcome: Outcome) -> str:
        """Return the address of a cell's log, relative to the page; none for one that lies in another clone."""
        return "" if self._experiment.imported else self._link(outcome.log)

    def _origin(self, outcome: Outcome) -> Origin:
        folder = Path(self._experiment.paths.runs.format(**outcome.cell.wildcards))
        is_known = outcome.record is not None
        return Origin(
            outcome=outcome,
            folder=self._link(folder),
            log=self.log_of(outcome),
            scores=_scores(outcome.results or {}),
            shared=self._shared(outcome.record) if is_known else [],
            notes=[*([outcome.data] if outcome.data else []), *peculiarities(outcome)] if is_known else [],
        )

    def _shared(self, record: dict) -> list[Shared]:
        git = record["git"]
        changed = ", with uncommitted changes" if git["dirty"] else ""
        code = f"{git['commit']}{changed}" if git["commit"] else without_commit(git)
        keys = ("device", "driver", "precision", "processes")
        of_device = [(key, record[key]) for key in keys if record.get(key) is not None]
        facts = [("code", code), *of_device, *sorted(record["versions"].items())]
        files = [(title, sorted(record[key].items())) for key, title in FILES.items() if record.get(key)]
        return [self.environments.add("Environment", facts), *(self.files.add(*each) for each in files)]

    def _link(self, path: Path) -> str:
        """Return a path as a relative address on the page, which lies in the experiment's folder."""
        return quote(os.path.relpath(path, self._experiment.paths.root), errors="surrogateescape")


def _scores(results: dict) -> list[tuple[str, str]]:
    """Return what the report's numbers of a cell are made from, in full precision."""
    scores = [key for key in results if key.startswith("eval_") and not any(part in key for part in NO_SCORES)]
    others = [key for key in ("epoch", "train_runtime", "train_samples") if key in results]
    return [(key, json.dumps(results[key])) for key in (*scores, *others)]
