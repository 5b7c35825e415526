"""`make verify`: whether all that an experiment shows follows from the files it was made from.

The newest head says which cells there are. What they were made from is hashed, their metrics are recomputed from the
saved predictions, and the tables are compared with both.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from gluegrid.common.errors import DataError, GluegridError
from gluegrid.experiment import experiment_index
from gluegrid.experiment.cell import Cell
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.experiment_index import newest_invocation
from gluegrid.experiment.staged_tokens import staged_tokens
from gluegrid.verification.exports import verify_csv, verify_json
from gluegrid.verification.file_shapes import RECORD, head_shape, read_shaped
from gluegrid.verification.findings import Findings, Hashes
from gluegrid.verification.resources import verify_resources
from gluegrid.verification.runs import has_result, verify_run
from gluegrid.verification.tables import verify_markdown

COMPARED = "made again and compared"
NOT_COMPARED = "not compared, since what they are made from does not fit or lies elsewhere"


def experiment_folders(results: Path, names: list[str]) -> list[Path]:
    """Return the folders of the named experiments, or of all there are. Raises GluegridError."""
    known = [folder.name for folder in experiment_index.experiment_folders(results, having=experiment_index.TO_VERIFY)]
    if not known:
        raise GluegridError(f"{results}: holds no experiment; run snakemake first, or name another folder: --results")
    for name in names:
        if name not in known:
            raise GluegridError(f"{results / name}: there is no such experiment; there are: {', '.join(known)}")
    return [results / name for name in names or known]


def verify_experiment(folder: Path, hashes: Hashes) -> Findings:
    """Return what does not fit in an experiment, whose resources are looked for below the working folder."""
    findings = Findings(hashes)
    with findings.noting():
        _verify(frozen_experiment(folder), folder, findings)
    return findings


def _verify(experiment: Experiment, folder: Path, findings: Findings) -> None:
    paths = experiment.paths
    cells = [(cell, _moved(paths.runs.format(**cell.wildcards), folder)) for cell in experiment.cells.values()]
    with_result = [cell for cell, path in cells if has_result(path)]
    if not with_result:
        findings.add(folder, "has no cell with a result, so there is nothing to verify")
    findings.cells = len(cells)
    findings.without_result = [cell.name for cell, path in cells if not has_result(path)]
    recorded = recorded_hashes_of(experiment, [(cell, path) for cell, path in cells if has_result(path)])
    resources = verify_resources(experiment, with_result, findings, recorded)
    runs = [verify_run(experiment, cell, path, resources, findings) for cell, path in cells]
    _verify_made_from_runs(experiment, folder, findings)
    states = verify_csv(_moved(paths.results_csv, folder), experiment, runs, findings)
    verify_json(_moved(paths.results_json, folder), experiment, runs, states, findings)
    verify_markdown(_moved(paths.results_md, folder), experiment, runs, states, findings)


def _verify_made_from_runs(experiment: Experiment, folder: Path, findings: Findings) -> None:
    """Compare reports and their like, unless the runs have problems, or they lie elsewhere than they would say."""
    patterns = experiment.paths.made_from_runs()
    files = dict.fromkeys(pattern.format(model=model) for pattern in patterns for model in experiment.models)
    there = [path for path in (_moved(file, folder) for file in files) if path.exists()]
    if findings.problems or folder.resolve() != Path(experiment.paths.root).resolve():
        findings.not_made_again = there
    elif there:
        # Only now: it loads the libraries of training and drawing, with which nothing else is verified.
        from gluegrid.verification.regenerated import compare_made_again

        compare_made_again(experiment, findings)


def frozen_experiment(folder: Path) -> Experiment:
    """Return the experiment as its newest head has it. Raises DataError."""
    head = newest_invocation(folder)
    if head is None:
        raise DataError(f"{folder}: has no heads/*.json, which say what the experiment is; call snakemake again")
    experiment = Experiment(read_shaped(head, head_shape())["config"])
    if experiment.name != folder.name:
        raise DataError(f"{head}: is of the experiment {experiment.name!r}, not of {folder.name!r}")
    for model, entry in experiment.models.items():
        if entry.get("tokenizer", model) not in experiment.models:
            raise DataError(f"{head}: the tokenizer of {model} is that of {entry['tokenizer']!r}, which is no model")
    return experiment


def _moved(path: str, folder: Path) -> Path:
    """Return a path of an experiment, results/<experiment>/..., in the folder where the experiment lies."""
    _, _, *below = Path(path).parts
    return folder.joinpath(*below)


def summary(findings: Findings) -> Iterator[str]:
    """Say what was looked at."""
    missing = findings.without_result
    yield f"  cells with a result: {findings.cells - len(missing)} of {findings.cells}"
    if missing:
        yield f"  without one: {', '.join(missing)}"
    if findings.elsewhere:
        yield f"  not here, of what they were made from: {len(findings.elsewhere)} models, data sets and sets of tokens"
    yield f"  files hashed: {len(findings.hashed):,} ({sum(findings.hashed.values()) / 1e6:,.1f} MB)"
    yield f"  values of all_results.json recomputed: {findings.metrics:,}"
    yield f"  numbers of the tables compared: {findings.table_numbers:,}"
    for what, paths in ((COMPARED, findings.made_again), (NOT_COMPARED, findings.not_made_again)):
        if paths:
            yield f"  {what}: {', '.join(map(str, paths))}"


def recorded_hashes_of(experiment: Experiment, results: Iterable[tuple[Cell, Path]]) -> dict[Path, dict[str, str]]:
    """Return the hashes of each resource's files, by its manifest, as the first record has them that can be read.

    `results` are cells with the folders of their results. Nothing of an experiment that was run here.
    """
    recorded: dict[Path, dict[str, str]] = {}
    for cell, folder in results if experiment.imported else ():
        try:
            record = read_shaped(folder / "run_record.json", RECORD)
        except DataError:
            continue  # is told where the cell is verified
        of_cell = {
            experiment.model_manifest(cell.model): record["model_files"],
            experiment.task_manifest(cell.task): record["task_files"],
            staged_tokens(experiment, cell): record["tokens_files"],
        }
        for manifest, hashes in of_cell.items():
            recorded.setdefault(Path(manifest), hashes)
    return recorded
