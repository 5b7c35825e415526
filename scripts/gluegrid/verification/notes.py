"""What results.md says below its tables, under "What to know", against the runs."""

import re
from collections.abc import Iterable
from pathlib import Path

from gluegrid.verification.expected_groups import is_degenerate
from gluegrid.verification.findings import Findings
from gluegrid.verification.runs import VerifiedRun

CELL_NAME = r"[\w.-]+/[\w.-]+/[\w.-]+/seed-\d+"
CELLS = re.compile(r"^- Cells: (\d+ of \d+) ")
MISSING = re.compile(r"^- Missing: (.*)")
SEEDS = re.compile(r"^- Seeds: ([\d, ]+)\.")
COMMIT = re.compile(r"\bcommit ([0-9a-f]+)\b")
DEGENERATE = re.compile(r"^- (Degenerate .*)")
SUBSET = re.compile(r"^- Trained on a subset, ([\d,]+ of [\d,]+) examples: (.*)")


# What is said of a way to train, how its line begins, and the key of run.json that is there where it was used.
OPTIONS = {
    "cells with batches of like length": (
        re.compile(r"^- (Batches of examples of like length.*)"),
        "train_sampling_strategy",
    ),
    "cells with adapters": (re.compile(r"^- (Low-rank adapters trained.*)"), "lora"),
    "cells that begin with another's weights": (re.compile(r"^- (Begun with the weights.*)"), "init_from"),
    "cells that are not trained": (re.compile(r"^- (Not trained here:.*)"), "do_train"),
}


def verify_notes(path: Path, lines: list[str], runs: list[VerifiedRun], findings: Findings) -> None:
    """Compare the counts, names, seeds and commits in these lines; where a result is unusable, none of them is sure."""
    done = [run for run in runs if run.state == "done"]
    missing = {run.cell.name for run in runs if run.state == "missing"}
    if len(done) + len(missing) < len(runs):
        return
    listed = " ".join(_found(MISSING, lines))
    subsets = {f"{cell}: {count}" for line in lines for count, names in SUBSET.findall(line) for cell in _cells(names)}
    said_and_expected = {
        "cells with a result": (_found(CELLS, lines), {f"{len(done)} of {len(runs)}"}),
        "cells without one": (_cells(listed), missing),
        "degenerate cells": (_named(DEGENERATE, lines, done), {run.cell.name for run in done if is_degenerate(run)}),
        **{what: (_named(pattern, lines, done), _cells_with(key, done)) for what, (pattern, key) in OPTIONS.items()},
        "cells trained on a subset": (subsets, subsets & set(map(_subset, done))),
    }
    if done:
        seeds = {seed for text in _found(SEEDS, lines) for seed in text.split(", ")}
        said_and_expected["seeds"] = (seeds, {str(run.cell.seed) for run in runs})
        said_and_expected["commits"] = (_found(COMMIT, lines), _commits(done))
    for what, (said, expected) in said_and_expected.items():
        if said != expected:
            problem = f"{what}: it says {_listed(said)}, the runs give {_listed(expected)}"
            findings.add(path, problem)


def _found(pattern: re.Pattern, lines: list[str]) -> set[str]:
    return {match[1] for line in lines for match in pattern.finditer(line)}


def _named(pattern: re.Pattern, lines: list[str], done: list[VerifiedRun]) -> set[str]:
    """Return the cells that these lines name."""
    said = _found(pattern, lines)
    if any(text.endswith(": all cells.") for text in said):
        return {run.cell.name for run in done}
    return {name for text in said for name in _cells(text)}


def _cells(text: str) -> set[str]:
    return set(re.findall(CELL_NAME, text))


def _cells_with(key: str, done: list[VerifiedRun]) -> set[str]:
    return {run.cell.name for run in done if key in run.cell.run}


def _subset(run: VerifiedRun) -> str:
    samples, rows = run.values.get("train_samples", 0), run.record.get("train_rows", 0)
    return f"{run.cell.name}: {samples:,} of {rows:,}"


def _commits(runs: Iterable[VerifiedRun]) -> set[str]:
    """Return the commits of the code that made the runs, shortened to 12 digits as in the tables."""
    return {run.record["git"]["commit"][:12] for run in runs if run.record["git"]["commit"] is not None}


def _listed(texts: set[str]) -> str:
    return ", ".join(sorted(texts)) or "none"
