"""The tokens of a cell: what they must be made from, and where they are. Imports nothing heavy."""

from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json
from gluegrid.experiment.cell import Cell
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.sources import split_of
from gluegrid.experiment.task import Task


def tokens_identity(model: dict, data: dict, task: Task, max_seq_length: int) -> dict:
    """Return what tokens are made from: hashes of the tokenizer and the data, columns, labels, length.

    Training compares this with its run.json. Raises DataError for a model without a tokenizer.
    """
    tokenizer = _tokenizer_of(model)
    limit = tokenizer["max_length"]
    return {
        "tokenizer_sha256": tokenizer["sha256"],
        "data_sha256": {
            name: identity["sha256"] for name, identity in data["files"].items() if split_of(name) in task.splits
        },
        "text_columns": task.text_columns,
        "label_column": task.label_column,
        "labels": task.labels,
        "splits": task.splits,
        "truncated_to": min(max_seq_length, limit) if limit else max_seq_length,
    }


def staged_tokens(experiment: Experiment, cell: Cell) -> Path:
    """Return the manifest of a cell's tokens.

    If there are none yet, tokens of an earlier release count, too: those in a folder named by the task's alias, unless
    they now belong to another task.
    """
    manifest = Path(experiment.tokens_manifest(cell))
    earlier = manifest.parents[1] / f"{cell.task}-{cell.values['max_seq_length']}" / manifest.name
    return earlier if not manifest.exists() and _are_of_cell(earlier, experiment, cell) else manifest


def _are_of_cell(manifest: Path, experiment: Experiment, cell: Cell) -> bool:
    if not manifest.exists():
        return False
    try:
        model = read_json(Path(experiment.model_manifest(experiment.tokenizer_of(cell.model))))
        data = read_json(Path(experiment.task_manifest(cell.task)))
        wanted = tokens_identity(model, data, Task(**cell.run["task"]), cell.values["max_seq_length"])
        return read_json(manifest)["made_from"] == wanted
    except (DataError, KeyError, TypeError, AttributeError):  # whoever uses a broken file reports it
        return False


def _tokenizer_of(model: dict) -> dict:
    tokenizer = model["tokenizer"]
    if tokenizer is None or tokenizer["pad_token_id"] is None:
        lacks = "no tokenizer" if tokenizer is None else "a tokenizer without a padding token"
        raise DataError(
            f"the model {model['source']} has {lacks};"
            " set `tokenizer:` to the name of another model in the experiment file"
        )
    return tokenizer
