"""What a cell starts from: its staged checkpoint, or with `init_from` the model that another cell has trained."""

from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json, sha256
from gluegrid.common.paths import cell_beside
from gluegrid.run import Run

MODEL = "model"  # the folder of a trained model that is kept


def weights_to_start_from(run: Run, path: Path, model: Path) -> Path:
    """Return the folder of the weights that a run starts from. `path` is its run.json, `model` the staged manifest."""
    return model.parent if run.init_from is None else _result(run, path) / MODEL


def identity_of_start(run: Run, path: Path) -> dict:
    """Return the hashes of the trained model that a run starts from; nothing where it starts from its checkpoint.

    Raises DataError where that model is missing, damaged, or of another run than run.json says.
    """
    if run.init_from is None:
        return {}
    result = _result(run, path)
    record = read_json(result / "run_record.json")
    if record.get("run_sha256") != run.init_from["run_sha256"]:
        raise DataError(f"{result}: is of another run than this cell starts from; call snakemake again")
    files = record.get("saved_model", {}).get("files", {})
    for name, digest in files.items():
        if not (result / MODEL / name).exists() or sha256(result / MODEL / name) != digest:
            again = f"delete {result / 'all_results.json'} and call snakemake again"
            raise DataError(f"{result / MODEL / name}: is missing or not as its record says; {again}")
    if not files:
        raise DataError(f"{result}: has kept no model to start from")
    return {"start_files": files}


def _result(run: Run, path: Path) -> Path:
    return cell_beside(path, run.init_from["task"], run.init_from["variant"])
