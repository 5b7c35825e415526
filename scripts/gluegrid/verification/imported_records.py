"""What an import's records say of the models, data and tokens that its cells were made from, which may not be here."""

from collections.abc import Iterable
from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.experiment.cell import Cell
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.staged_tokens import staged_tokens
from gluegrid.verification.file_shapes import RECORD, read_shaped


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
