"""Show which models, data and tokens of an experiment are staged below resources/."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gluegrid.common import escaping, paths
from gluegrid.common.files import read_json, size_in_words
from gluegrid.execution.invocation import path_of_current_invocation, was_interrupted
from gluegrid.execution.job_logs import last_line
from gluegrid.experiment.experiment import Experiment
from gluegrid.results import tables
from gluegrid.results.outcomes import is_cut_off
from gluegrid.results.results_md import STOPPED

COLUMNS = ("What", "Name", "Source", "State", "Files", "Rows")


@dataclass(frozen=True)
class Resource:
    """A model, a dataset, or tokens, with the path of the manifest and the log of the job that stages them."""

    kind: str
    name: str
    source: str
    manifest: Path
    log: Path

    @property
    def is_missing(self) -> bool:
        """Whether it is not staged."""
        return not self.manifest.exists()

    @property
    def was_tried(self) -> bool:
        """Whether a job has started to stage it."""
        return self.log.exists()

    def row(self) -> tuple[str, ...]:
        """Return its row of the table."""
        if self.is_missing:
            return (self.kind, self.name, self.source, "missing", "", "")
        manifest = read_json(self.manifest)
        state = manifest.get("resolved_revision") or manifest.get("revision") or ""
        size = size_in_words(sum(identity["bytes"] for identity in manifest["files"].values()))
        return (self.kind, self.name, self.source, state[:12], size, _rows_of(manifest))


def staged_table(experiment: Experiment) -> str:
    """Return a table of an experiment's models, data and tokens, and the reason and log of each failure."""
    needed = resources(experiment)
    missing = [resource for resource in needed if resource.is_missing]
    lines = ["", tables.plain(COLUMNS, [resource.row() for resource in needed]), ""]
    failed = [each for each in missing if each.was_tried and not is_cut_off(experiment, each.log)]
    lines += map(_failure, failed)
    if waiting := [f"{resource.kind} {resource.name}" for resource in missing if resource not in failed]:
        lines.append(f"Not attempted: {', '.join(waiting)}")
    count = f"{len(missing)} of {len(needed)} are missing."
    lines.append(count if missing else "Everything is staged; cells need no network.")
    return "\n".join([*lines, *([STOPPED] if was_interrupted(path_of_current_invocation()) else [])])


def resources(experiment: Experiment) -> list[Resource]:
    """Return everything that an experiment needs staged: models, data, tokens."""
    models = [
        ("model", name, entry["source"], experiment.model_manifest(name), "fetch_model", experiment.model_key(name))
        for name, entry in experiment.models.items()
    ]
    tasks = [
        ("data", name, entry["source"], experiment.task_manifest(name), "fetch_task", experiment.task_key(name))
        for name, entry in experiment.tasks.items()
    ]
    return [
        Resource(kind, name, source, Path(manifest), Path(experiment.paths.log(rule, key)))
        for kind, name, source, manifest, rule, key in [*models, *tasks, *_tokens(experiment)]
    ]


def _failure(resource: Resource) -> str:
    reason = escaping.shortened(escaping.one_line(last_line(resource.log)), tables.LONGEST_REASON)
    return f"FAILED {resource.kind} {resource.name}: {reason}; log: {resource.log}"


def _tokens(experiment: Experiment) -> Iterator[tuple[str, str, str, str, str, str]]:
    # By key: models of one source under several aliases share their tokens, as do tasks.
    cells = {paths.TOKENS.format(**experiment.wildcards_of_tokens(cell)): cell for cell in experiment.kinds}
    for key, cell in sorted(cells.items()):
        name = f"{cell.task}-{cell.values['max_seq_length']}"
        manifest = experiment.tokens_manifest(cell)
        yield "tokens", name, experiment.tokenizer_of(cell.model), manifest, "tokenize_task", key


def _rows_of(manifest: dict) -> str:
    rows = manifest.get("rows") or {split: content["rows"] for split, content in manifest.get("splits", {}).items()}
    return f"{sum(rows.values()):,}" if rows else ""
