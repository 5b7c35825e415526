"""`make verify`: check that everything an experiment shows follows from its files.

The newest call says which cells there are. Their inputs are hashed, their metrics are recomputed from the saved
predictions, and the tables are compared with both.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from gluegrid.common.errors import DataError, GluegridError
from gluegrid.common.files import json_if_there
from gluegrid.common.paths import ExperimentPaths, state_folder
from gluegrid.execution import attempts
from gluegrid.execution.reasons import Cause
from gluegrid.experiment import experiment_index
from gluegrid.experiment.cell import Cell, run_hash, run_text
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.experiment_index import TO_VERIFY, newest_invocation
from gluegrid.experiment.staged_tokens import staged_tokens
from gluegrid.results.made_from import is_noted
from gluegrid.results.outcomes import read_outcomes
from gluegrid.verification.exports import verify_csv, verify_json
from gluegrid.verification.file_shapes import RECORD, head_shape, read_shaped
from gluegrid.verification.findings import Findings, Hashes
from gluegrid.verification.outdated import note_on_outdated, remake
from gluegrid.verification.resources import task_of, verify_resources
from gluegrid.verification.runs import VerifiedRun, has_result, verify_run
from gluegrid.verification.tables import verify_markdown

COMPARED = "made again and compared"
NOT_COMPARED = "not compared, since their sources do not fit or lie elsewhere"


def experiment_folders(results: Path, names: list[str]) -> list[Path]:
    """Return the folders of the named experiments, or of all experiments. Raise GluegridError if there are none."""
    known = experiment_index.experiment_folders(results, having=TO_VERIFY)
    if not known:
        raise GluegridError(f"{results}: holds no experiment; run snakemake first")
    return [experiment_index.experiment_folders(results, name, TO_VERIFY)[0] for name in names] or known


def verify_experiment(folder: Path, hashes: Hashes) -> Findings:
    """Return the findings on an experiment; resources are looked for below the working folder."""
    findings = Findings(hashes)
    with findings.noting():
        _verify(frozen_experiment(folder), folder, findings)
    return findings


def _verify(experiment: Experiment, folder: Path, findings: Findings) -> None:
    paths = experiment.paths
    cells = [(cell, _moved(paths.runs.format(**cell.wildcards), folder)) for cell in experiment.cells.values()]
    earlier = {cell.name for cell, path in cells if is_of_earlier_plan(cell, path)}
    results = [(cell, path) for cell, path in cells if has_result(path) and cell.name not in earlier]
    if not results and not earlier:
        findings.add(folder, "has no cell with a result, so there is nothing to verify")
    findings.note_earlier_plan(folder, earlier)
    with_result = [cell for cell, _ in results]
    findings.cells = len(cells)
    findings.without_result = [cell.name for cell, _ in cells if cell not in with_result]
    recorded = recorded_hashes_of(experiment, results)
    resources = verify_resources(experiment, with_result, findings, recorded)
    runs = [
        VerifiedRun(cell, task_of(experiment, cell), "missing")
        if cell.name in earlier
        else verify_run(experiment, cell, path, resources, findings)
        for cell, path in cells
    ]
    are_sound = not findings.problems
    _verify_made_from_runs(experiment, folder, findings)
    states = None
    gone = [run for run in runs if run.state == "missing" and run.cell.name not in earlier]
    with findings.excusing(lambda: _note_on_tables(experiment, folder, gone, states) if are_sound else None):
        states = verify_csv(_moved(paths.results_csv, folder), experiment, runs, findings)
        verify_json(_moved(paths.results_json, folder), experiment, runs, states, findings)
        verify_markdown(_moved(paths.results_md, folder), experiment, runs, states, findings)


def _note_on_tables(
    experiment: Experiment, folder: Path, missing: list[VerifiedRun], states: dict[str, str] | None
) -> str | None:
    """Return a note on outdated tables, which replaces their problems; None if they are not outdated.

    Tables that show a `missing` result are not outdated but wrong: there is nothing to support it any more.
    """
    here = Experiment(experiment.config)
    here.paths = ExperimentPaths(experiment.name, str(folder))
    tables = [Path(path) for path in (here.paths.results_csv, here.paths.results_json, here.paths.results_md)]
    there = [path for path in tables if path.exists()]
    if not there:
        return f"{folder}: has no tables yet; to write them: {remake(experiment)}"
    if (
        any((states or {}).get(run.cell.name) == "done" for run in missing)
        or there != tables
        or not all(is_noted(here, path) for path in tables)
    ):
        return None
    return note_on_outdated(here, read_outcomes(here), tables, remake(experiment))


def _verify_made_from_runs(experiment: Experiment, folder: Path, findings: Findings) -> None:
    """Compare reports and the like, unless the runs have problems or lie elsewhere than below results/."""
    patterns = experiment.paths.made_from_runs()
    files = dict.fromkeys(pattern.format(model=model) for pattern in patterns for model in experiment.models)
    there = [path for path in (_moved(file, folder) for file in files) if path.exists()]
    if findings.problems or folder.resolve() != Path(experiment.paths.root).resolve():
        findings.not_made_again = there
    elif there:
        # Import it only now: it loads the libraries for training and plotting, which no other check needs.
        from gluegrid.verification.regenerated import compare_made_again

        compare_made_again(experiment, findings)


def is_of_earlier_plan(cell: Cell, folder: Path) -> bool:
    """Tell from its record and attempts whether a cell's result is of an earlier run than is now asked for."""
    if not has_result(folder):
        return False
    recorded = json_if_there(folder / "run_record.json").get("run_sha256")
    if recorded == run_hash(run_text(cell)):
        return False
    tried = attempts.read(state_folder(folder / "run.json"))
    return any(each["cause"] == Cause.DONE and each.get("run_sha256") == recorded for each in tried)


def frozen_experiment(folder: Path) -> Experiment:
    """Return the experiment as its newest call planned it. Raise DataError if that is missing or damaged."""
    head = newest_invocation(folder)
    if head is None:
        raise DataError(f"{folder}: has no heads/*.json, which describe the experiment; call snakemake again")
    experiment = Experiment(read_shaped(head, head_shape())["config"])
    if experiment.name != folder.name:
        raise DataError(f"{head}: is of the experiment {experiment.name!r}, not of {folder.name!r}")
    for model, entry in experiment.models.items():
        if entry.get("tokenizer", model) not in experiment.models:
            raise DataError(f"{head}: the tokenizer of {model} is {entry['tokenizer']!r}, which is not a model")
    return experiment


def _moved(path: str, folder: Path) -> Path:
    """Return a path of an experiment, results/<experiment>/..., in the folder where the experiment is."""
    _, _, *below = Path(path).parts
    return folder.joinpath(*below)


def summary(findings: Findings) -> Iterator[str]:
    """Yield lines that say what was checked."""
    missing = findings.without_result
    yield f"  cells with a result: {findings.cells - len(missing)} of {findings.cells}"
    if missing:
        yield f"  without one: {', '.join(missing)}"
    if findings.elsewhere:
        yield f"  not here: {len(findings.elsewhere)} of the models, datasets and tokens they were made from"
    yield f"  files hashed: {len(findings.hashed):,} ({sum(findings.hashed.values()) / 1e6:,.1f} MB)"
    yield f"  values of all_results.json recomputed: {findings.metrics:,}"
    yield f"  numbers of the tables compared: {findings.table_numbers:,}"
    for what, paths in ((COMPARED, findings.made_again), (NOT_COMPARED, findings.not_made_again)):
        if paths:
            yield f"  {what}: {', '.join(map(str, paths))}"
    yield from (f"  note: {note}" for note in findings.notes)


def recorded_hashes_of(experiment: Experiment, results: Iterable[tuple[Cell, Path]]) -> dict[Path, dict[str, str]]:
    """Return the hashes of each resource's files, by its manifest, from the first record that can be read.

    `results` are cells with the folders of their results. Return nothing for an experiment that was run here.
    """
    recorded: dict[Path, dict[str, str]] = {}
    for cell, folder in results if experiment.imported else ():
        try:
            record = read_shaped(folder / "run_record.json", RECORD)
        except DataError:
            continue  # reported when the cell is verified
        of_cell = {
            experiment.model_manifest(cell.model): record["model_files"],
            experiment.task_manifest(cell.task): record["task_files"],
            staged_tokens(experiment, cell): record["tokens_files"],
        }
        for manifest, hashes in of_cell.items():
            recorded.setdefault(Path(manifest), hashes)
    return recorded
