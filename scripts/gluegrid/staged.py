"""What of an experiment is staged: models, data and tokens below resources/, for people."""

import atexit
from collections.abc import Iterator
from pathlib import Path

from gluegrid import paths, table
from gluegrid.experiment import Experiment
from gluegrid.files import read_json, size_in_words

COLUMNS = ("What", "Name", "Source", "State", "Files", "Rows")


def end_with_staged(experiment: Experiment) -> None:
    """Let the terminal end with what is staged, and what is not."""
    # At exit, since Snakemake's own last lines come after its handlers.
    atexit.register(print, staged_table(experiment), flush=True)


def staged_table(experiment: Experiment) -> str:
    """Return a table of every model, task and tokens of an experiment; what is missing names its log."""
    rows = [*_models(experiment), *_tasks(experiment), *_tokens(experiment)]
    missing = sum(row[3].startswith("missing") for row in rows)
    end = f"{missing} of {len(rows)} are missing." if missing else "All is staged: cells need no network."
    return f"\n{table.markdown(COLUMNS, rows)}\n\n{end}"


def _models(experiment: Experiment) -> Iterator[tuple[str, ...]]:
    for name, entry in experiment.models.items():
        key = experiment.model_key(name)
        manifest = paths.MODEL_MANIFEST.format(model_key=key)
        yield _row("model", name, entry["source"], manifest, experiment.paths.log("fetch_model", key))


def _tasks(experiment: Experiment) -> Iterator[tuple[str, ...]]:
    for name, entry in experiment.tasks.items():
        key = experiment.task_key(name)
        manifest = paths.TASK_MANIFEST.format(task_key=key)
        yield _row("data", name, entry["source"], manifest, experiment.paths.log("fetch_task", key))


def _tokens(experiment: Experiment) -> Iterator[tuple[str, ...]]:
    kinds = {
        (experiment.tokenizer_key(cell.model), cell.task, experiment.max_seq_length(cell.model, cell.task))
        for cell in experiment.cells.values()
    }
    for tokenizer, task, length in sorted(kinds):
        manifest = paths.TOKENS_MANIFEST.format(tokenizer_key=tokenizer, task=task, max_seq_length=length)
        log = experiment.paths.log("tokenize_task", f"{tokenizer}/{task}-{length}")
        yield _row("tokens", f"{task}-{length}", tokenizer, manifest, log)


def _row(what: str, name: str, source: str, path: str, log: str) -> tuple[str, ...]:
    if not Path(path).exists():
        return (what, name, source, f"missing; log: {log}", "", "")
    manifest = read_json(Path(path))
    state = manifest.get("resolved_revision") or manifest.get("revision") or ""
    size = size_in_words(sum(identity["bytes"] for identity in manifest["files"].values()))
    return (what, name, source, state[:12], size, _rows_of(manifest))


def _rows_of(manifest: dict) -> str:
    rows = manifest.get("rows") or {split: content["rows"] for split, content in manifest.get("splits", {}).items()}
    return f"{sum(rows.values()):,}" if rows else ""
