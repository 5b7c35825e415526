"""Import archives of experiments, from one clone or several, as one experiment below results/."""

import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from gluegrid.common.errors import GluegridError
from gluegrid.common.escaping import quoted
from gluegrid.common.files import replacing_folder, write_json
from gluegrid.common.paths import ExperimentPaths
from gluegrid.execution.invocation import write_plan
from gluegrid.execution.locks import describe, lock
from gluegrid.experiment.config import config_schema
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.experiment_index import is_import
from gluegrid.results.outcomes import Outcome, read_outcomes
from gluegrid.results.results_md import write_tables
from gluegrid.sharing.archive import CONFIG, MANIFEST
from gluegrid.sharing.archived_cells import opened_archive
from gluegrid.sharing.exporting import telling
from gluegrid.sharing.merging import Merged, Source, merge

ORIGINS = "imported"  # the folder of what archives hold besides their cells
LABELLED = re.compile(r"([^/=]+)=(.+)")


def import_archives(results: Path, name: str, files: list[str]) -> Iterator[str]:
    """Import archives, each a path or `label=path`, as one experiment; yield lines that say what it has.

    It is written whole or not at all, and replaces an import of this name. Raise GluegridError if archives contradict
    each other, or if an experiment that was run here has this name.
    """
    _check_name("EXPERIMENT", name)
    folder = results / name
    with ExitStack() as stack:
        sources = [_opened(stack, file) for file in files]
        merged = merge(sources)
        for model in (*merged.models, *merged.tasks):
            _check_name("FILES: the label makes a name of", model)
        stack.enter_context(lock(results / ".import.lock", _tell_of_waiting))
        if folder.exists() and any(folder.iterdir()) and not is_import(folder):
            raise GluegridError(
                f"{folder}: was run in this clone and is not replaced; give the import another EXPERIMENT=..."
            )
        with replacing_folder(folder) as new:
            outcomes = _write(merged, name, sources, new)
    yield from _summary(folder, merged, sources, outcomes)


def _opened(stack: ExitStack, file: str) -> Source:
    """Open an archive given as its path or as `label=path`."""
    match = LABELLED.fullmatch(file)
    label, path = match.groups() if match and not Path(file).exists() else ("", file)
    if label:
        _check_name("FILES: the label", label)
    return Source(stack.enter_context(opened_archive(Path(path))), label)


def _check_name(what: str, name: str) -> None:
    rule = config_schema()["$defs"]["name"]
    if len(name) > rule["maxLength"] or not re.search(rule["pattern"], name):
        raise GluegridError(f"{what} {quoted(name)}: must be {rule['description']}")


def _write(merged: Merged, name: str, sources: list[Source], folder: Path) -> list[Outcome]:
    """Write all of an experiment into an empty folder; return the outcomes of its cells."""
    experiment = Experiment(merged.config(name))
    experiment.paths = ExperimentPaths(name, str(folder))
    for placed in telling(list(merged.cells.values()), "cells"):
        target = Path(experiment.paths.runs.format(**placed.cell.wildcards))
        target.mkdir(parents=True)
        for part, of_archive in placed.archived.parts.items():
            placed.source.archive.file.unpack(of_archive, target / part)
    for number, source in enumerate(sources, start=1):
        _write_origin(source, folder / ORIGINS / f"{number}-{source.archive.experiment}")
    write_plan(experiment.config, folder / "heads")
    outcomes = read_outcomes(experiment)
    write_tables(experiment, outcomes)
    return outcomes


def _write_origin(source: Source, folder: Path) -> None:
    """Write what an archive holds besides its cells: its config, its manifest, tables and reports."""
    file = source.archive.file
    write_json(folder / MANIFEST, file.manifest)
    for name in (CONFIG, *source.archive.others):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        file.unpack(name, folder / name)


def _tell_of_waiting(holder: dict) -> None:
    print(f"waiting for another import, {describe(holder)}", file=sys.stderr, flush=True)


def _summary(folder: Path, merged: Merged, sources: list[Source], outcomes: list[Outcome]) -> Iterator[str]:
    done = sum(outcome.is_done for outcome in outcomes)
    yield f"{folder}: {done:,} of {len(outcomes):,} cells with a result"
    for source in sources:
        cells = source.archive.cells
        of_archive = sum(cell.is_done for cell in cells)
        label = f", its models labelled {source.label}" if source.label else ""
        yield f"  {source.archive.name}: {of_archive:,} of {len(cells):,}{label}"
    if merged.repeated:
        yield f"  {merged.repeated:,} of them are in several archives, with the same predictions, and count once"
    yield f"The table: {folder / 'results.md'}. To recompute its numbers: make verify EXPERIMENT={folder.name}"
