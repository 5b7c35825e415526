"""Write an experiment's archive: results, predictions, records, config and tables, but no weights."""

import json
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from gluegrid.common.errors import DataError, GluegridError
from gluegrid.common.files import canonical_json, read_json, replacing, size_in_words
from gluegrid.experiment.cell import listed, run_text
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.experiment_index import experiment_folders, newest_plan
from gluegrid.results.outcomes import Outcome, read_outcomes
from gluegrid.results.results_md import write_tables
from gluegrid.sharing.archive import ALL_RESULTS, CELLS, CONFIG, MANIFEST, RUN, RUN_RECORD, RUNS, SUFFIX, ArchiveWriter

# These are not reports: the archive has its own version of some, and leaves out the others.
NOT_REPORTS = {MANIFEST, CONFIG, CELLS, RUNS, "state", "logs", "benchmarks", "heads", "trackers"}
REPORTS = {".md", ".csv", ".tsv", ".json", ".html", ".tex", ".zip", ".svg", ".png", ".pdf"}
SECONDS_BETWEEN_LINES = 5
Item = TypeVar("Item")


def export_experiment(results: Path, name: str, file: Path) -> Iterator[str]:
    """Write an experiment's archive, whole or not at all; yield lines that say what is in it.

    Raise GluegridError if there is nothing to export."""
    if file.suffix != SUFFIX:
        raise GluegridError(f"FILE={file}: an archive is a zip file; end its name in {SUFFIX}")
    (folder,) = experiment_folders(results, name)
    experiment = newest_plan(folder)
    outcomes = read_outcomes(experiment) if experiment else []
    if not any(outcome.is_done for outcome in outcomes):
        raise GluegridError(f"{folder}: no cell has a result yet, so there is nothing to export")
    write_tables(experiment, outcomes)
    for leftover in file.parent.glob(f".{file.name}.*"):  # left by an export that was killed
        leftover.unlink(missing_ok=True)
    with replacing(file) as temporary, zipfile.ZipFile(temporary, "w") as stream:
        export = _Export(experiment, folder, outcomes, ArchiveWriter(stream, name))
        export.write()
    yield from export.summary(file)


@dataclass
class _Export:
    """The export of one experiment into an archive."""

    experiment: Experiment
    folder: Path
    outcomes: list[Outcome]
    archive: ArchiveWriter
    reports: list[str] = field(default_factory=list)
    outdated: list[str] = field(default_factory=list)

    def write(self) -> None:
        """Add all files. Raise DataError if a cell's files are no longer those of its outcome."""
        # Keep the order of models and tasks, since tables have the same. An import's cells are listed in cells.json.
        config = {key: value for key, value in self.experiment.config.items() if key != "imported"}
        self.archive.add_text(CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")
        cells = [listed(outcome.cell, outcome.reason, outcome.log) for outcome in self.outcomes]
        self.archive.add_text(CELLS, canonical_json({"cells": cells}))
        for outcome in telling(self.outcomes, "cells"):
            self._add_cell(outcome)
        self._add_reports()
        self.archive.add_manifest()

    def summary(self, file: Path) -> Iterator[str]:
        """Yield lines that say what was written and what was left out."""
        done = sum(outcome.is_done for outcome in self.outcomes)
        size = size_in_words(file.stat().st_size)
        cells = f"{done:,} of {len(self.outcomes):,} cells with a result"
        yield f"{file}: {cells}, {len(self.archive.files):,} files, {size}"
        yield f"  with {', '.join(self.reports)}"
        if self.outdated:
            yield f"  without {', '.join(self.outdated)}: older than the results; rewrite them and export again"

    def _add_cell(self, outcome: Outcome) -> None:
        where = Path(self.experiment.paths.runs.format(**outcome.cell.wildcards))
        name = f"{RUNS}/{outcome.cell.name}"
        self.archive.add_text(f"{name}/{RUN}", run_text(outcome.cell))
        if not outcome.is_done:
            return
        for part, content in ((RUN_RECORD, outcome.record), (ALL_RESULTS, outcome.results)):
            _check(read_json(where / part) == content, where / part)
            self.archive.add_file(f"{name}/{part}", where / part)
        for split, digest in sorted(outcome.record["predictions_sha256"].items()):
            path = where / f"predictions_{split}.parquet"
            _check(path.exists() and self.archive.add_file(f"{name}/{path.name}", path) == digest, path)

    def _add_reports(self) -> None:
        """Add the tables and the reports on these results, but not reports on earlier ones."""
        tables = [Path(getattr(self.experiment.paths, f"results_{kind}")).name for kind in ("md", "csv", "json")]
        results = self.experiment.paths.all_results
        done = (Path(results.format(**outcome.cell.wildcards)) for outcome in self.outcomes if outcome.is_done)
        newest = max(path.stat().st_mtime for path in done)
        for path in sorted(_reports(self.folder)):
            name = path.relative_to(self.folder).as_posix()
            if name in tables or path.stat().st_mtime >= newest:
                self.archive.add_file(name, path)
                self.reports.append(name)
            else:
                self.outdated.append(name)


def _check(is_of_its_record: bool, path: Path) -> None:
    if not is_of_its_record:
        advice = "if its cell is just being trained, export again; else `make verify` says more"
        raise DataError(f"{path}: is not what its cell's record says; {advice}")


def _reports(folder: Path) -> Iterator[Path]:
    """Yield the files of an experiment that were made from its results, except links and hidden files."""
    for top in sorted(folder.iterdir()):
        if top.name not in NOT_REPORTS:
            for path in [top, *sorted(top.rglob("*"))] if top.is_dir() else [top]:
                is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
                if path.is_file() and not path.is_symlink() and path.suffix in REPORTS and not is_hidden:
                    yield path


def telling(items: Sequence[Item], what: str) -> Iterator[Item]:
    """Yield items, and report progress on standard error every few seconds."""
    told = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - told >= SECONDS_BETWEEN_LINES:
            told = time.monotonic()
            print(f"{what}: {done:,} of {len(items):,}", file=sys.stderr, flush=True)
        yield item
