"""What results.md says below its tables, under "What to know", as it should be."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from gluegrid.verification.expected_groups import data_of, is_degenerate
from gluegrid.verification.markdown import Note, Part
from gluegrid.verification.runs import VerifiedRun

CELL = r"[^\s/]+/[^\s/]+/[^\s/]+/seed-\d+"
ALL_CELLS = "all cells"
# How a line on a way to train begins, and the key of run.json that is there where it was used.
WAYS = {
    "with batches of like length": ("Batches of examples of like length", "train_sampling_strategy"),
    "with adapters": ("Low-rank adapters trained", "lora"),
    "that begin with another's weights": ("Begun with the weights", "init_from"),
    "that are not trained": ("Not trained here: ", "do_train"),
}


def what_to_know(runs: list[VerifiedRun], entries: dict[str, dict]) -> Part:
    """Return the counts, names, seeds and commits in that section; where a result is unusable, none of them is sure.

    `entries` are the tasks of the experiment.
    """
    is_clear = not any(run.state == "broken" for run in runs)
    return Part("What to know", notes=list(_notes(runs, entries)) if is_clear else [])


def _notes(runs: list[VerifiedRun], entries: dict[str, dict]) -> Iterator[Note]:
    done = [run for run in runs if run.state == "done"]
    names = {run.cell.name for run in done}
    missing = {run.cell.name for run in runs} - names
    degenerate = {run.cell.name for run in done if is_degenerate(run)}
    yield Note("cells with a result", "- Cells: ", r"\d+ of \d+", [{f"{len(done)} of {len(runs)}"}])
    yield Note("cells without one", "- Missing: ", CELL, [missing])
    yield Note("degenerate cells", "- Degenerate ", CELL, [degenerate])
    for what, (beginning, key) in WAYS.items():
        cells = {run.cell.name for run in done if key in run.cell.run}
        every = [{ALL_CELLS}] if cells == names else []
        yield Note(f"cells {what}", f"- {beginning}", f"{ALL_CELLS}|{CELL}", [cells, *every])
    if done:
        yield Note("seeds", "- Seeds: ", r"\d+", [{str(run.cell.seed) for run in runs}])
        commits = {run.record["git"]["commit"] for run in done} - {None}
        yield Note("commits", "- ", r"\bcommit ([0-9a-f]+)\b", [{commit[:12] for commit in commits}])
    data = [data_of(run, entries[run.cell.task]) for run in done]
    if None not in data:
        subsets = _subsets(run for run, text in zip(done, data, strict=True) if not text)
        yield Note("cells trained on a subset", "- Trained on a subset, ", "- (.+)", [subsets])


def _subsets(runs: Iterable[VerifiedRun]) -> set[str]:
    """Return a line for each number of examples that is not all; runs on other data say so beside their number."""
    cells = defaultdict(list)
    for run in runs:
        samples, rows = run.values.get("train_samples"), run.record.get("train_rows")
        if samples is not None and samples < rows:
            cells[f"{samples:,} of {rows:,}"].append(run.cell.name)
    return {f"Trained on a subset, {count} examples: {', '.join(names)}." for count, names in cells.items()}
