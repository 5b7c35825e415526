"""The expected section "What to know" of results.md."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from gluegrid.experiment.run import COMPUTE_PATHS
from gluegrid.verification.expected_groups import SYNTHETIC, data_of, is_degenerate
from gluegrid.verification.markdown import Note, Part
from gluegrid.verification.runs import VerifiedRun, must_say_precisions, precision_of

CELL = r"[^\s/]+/[^\s/]+/[^\s/]+/seed-\d+"
ALL_CELLS = "all cells"
# How a line on a way to train begins, and the key that run.json has if it was used.
WAYS = {
    "with batches of like length": ("Batches of examples of like length", "train_sampling_strategy"),
    "with adapters": ("Low-rank adapters trained", "lora"),
    "that begin with another's weights": ("Begun with the weights", "init_from"),
    "that are not trained": ("Not trained here: ", "do_train"),
}


def what_to_know(runs: list[VerifiedRun], entries: dict[str, dict]) -> Part:
    """Return the counts, names, seeds and commits in that section, or none if a result is unusable.

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
    unrepeatable = {run.cell.name for run in done if run.record.get("deterministic") is False}
    every = [{ALL_CELLS}] if unrepeatable == names else []
    yield Note("cells that are not repeatable", "- Not repeatable", f"{ALL_CELLS}|{CELL}", [unrepeatable, *every])
    yield from _precisions(done)
    yield Note("ways to compute", "- Computed as: ", "- (.+)", [_ways_to_compute(done)])
    if done:
        yield Note("seeds", "- Seeds: ", r"\d+", [{str(run.cell.seed) for run in runs}])
        commits = {run.record["git"]["commit"] for run in done} - {None}
        yield Note("commits", "- ", r"\bcommit ([0-9a-f]+)\b", [{commit[:12] for commit in commits}])
    data = [data_of(run, entries[run.cell.task]) for run in done]
    if None not in data:
        subsets = _subsets(run for run, text in zip(done, data, strict=True) if text in ("", SYNTHETIC))
        yield Note("cells trained on a subset", "- Trained on a subset, ", "- (.+)", [subsets])


def _precisions(done: list[VerifiedRun]) -> Iterator[Note]:
    """Yield the notes on the precisions of results and, if they differ, on the cells of each."""
    cells: dict[str, set[str]] = defaultdict(set)
    for run in done:
        cells[precision_of(run)].add(run.cell.name)
    cells.pop("", None)
    lines = [{f"Precision: {'; '.join(sorted(cells))}."} if cells else set()]
    differing = [{_differing_precisions(cells, done)} if len(cells) > 1 else set()]
    if not must_say_precisions(done):
        last = {str(run.record["precision"]) for run in done if "precision" in run.record}
        lines.append({f"Precision: {'; '.join(sorted(last))}."})
        differing.append(set())
    yield Note("precision", "- Precision: ", "- (.+)", lines)
    yield Note("precisions that differ", "- Precisions differ: ", "- (.+)", differing)


def _differing_precisions(cells: dict[str, set[str]], done: list[VerifiedRun]) -> str:
    """Return the line on cells without the most common precision; a model's name stands for all of its cells."""
    of_models: dict[str, set[str]] = defaultdict(set)
    for run in done:
        of_models[run.cell.model].add(run.cell.name)
    commonest = max(cells, key=lambda precision: (len(cells[precision]), precision))
    texts = []
    for precision in sorted(cells.keys() - {commonest}):
        names = []
        for run in done:
            if run.cell.name in cells[precision]:
                is_whole = of_models[run.cell.model] <= cells[precision]
                names.append(f"all of {run.cell.model}" if is_whole else run.cell.name)
        texts.append(f"{precision} in {', '.join(dict.fromkeys(names))}")
    return f"Precisions differ: {'; '.join(texts)}; {commonest} in all others."


def _ways_to_compute(done: list[VerifiedRun]) -> set[str]:
    """Return the line on how results were computed, or nothing if no record says it."""
    order = list(COMPUTE_PATHS)
    ways: Counter[str] = Counter()
    for run in done:
        places = {
            path: order.index(path) if path in order else len(order) for path in run.record.get("compute_paths", [])
        }
        paths = sorted(places, key=lambda path: (places[path], path))
        ways[" and ".join(COMPUTE_PATHS.get(path, path) for path in paths)] += 1
    ways.pop("", None)
    counts = [(count, words) for words, count in ways.items()]
    counts.sort(key=lambda each: (-each[0], each[1]))
    texts = [f"{words} ({count} {'run' if count == 1 else 'runs'})" for count, words in counts]
    return {f"Computed as: {', '.join(texts)}."} if texts else set()


def _subsets(runs: Iterable[VerifiedRun]) -> set[str]:
    """Return a line for each size of a training subset; runs on other data say so beside their number."""
    cells = defaultdict(list)
    for run in runs:
        samples, rows = run.values.get("train_samples"), run.record.get("train_rows")
        if samples is not None and samples < rows:
            cells[f"{samples:,} of {rows:,}"].append(run.cell.name)
    return {f"Trained on a subset, {count} examples: {', '.join(names)}." for count, names in cells.items()}
