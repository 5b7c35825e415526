"""Check 9: compare the steps that check 7 measured with what `make plan` would have expected."""

import math
import os

import yaml

from gluegrid.common.files import write_text
from gluegrid.experiment.cell import Cell
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.loading import load_experiment
from gluegrid.operations.cost_model import model_size, task_size
from gluegrid.operations.estimates import MARGINS, Estimate, Estimates
from gluegrid.operations.gpu_memory import gpu_memory

from .setting import Findings, Setting, SkippedError

MOST_MEMORY = 1.1  # times the estimate


def compare(setting: Setting, findings: Findings) -> None:
    """Compare step times and memory peaks with estimates that know only the device's name."""
    measured = setting.findings(7).get("figures", {})
    if not measured.get("steps"):
        raise SkippedError("check 7 measured no step")
    device = setting.findings(0).get("figures", {}).get("device", "")
    experiment = _experiment(setting, measured)
    estimates = Estimates(experiment, [], device)
    for cell in experiment.cells.values():
        estimate, tokens = estimates.of(cell), task_size(experiment, cell).train.tokens
        margin = setting.of(MARGINS[estimate.known_from], math.inf)
        _compare_seconds(cell, estimate, tokens, measured["steps"][cell.model], margin, findings)
        _compare_memory(experiment, cell, measured["steps"][cell.model], findings)


def _experiment(setting: Setting, measured: dict) -> Experiment:
    """Return an experiment with the models, values and task whose steps were measured."""
    os.chdir(setting.folder)
    models = {size: step["model"] for size, step in measured["steps"].items()}
    content = {
        "experiment": "gpu-check",
        "models": {size: {"source": f"./{folder}", "revision": "1"} for size, folder in models.items()},
        "tasks": ["mnli"],
        "num_train_epochs": 1,
        "precision": "auto",
        **measured["values"],
    }
    path = setting.folder / "gpu-check.yaml"
    write_text(path, yaml.safe_dump(content))
    return load_experiment(path)


def _compare_seconds(
    cell: Cell, estimate: Estimate, tokens: int, measured: dict, margin: float, findings: Findings
) -> None:
    expected = estimate.train_seconds / tokens * measured["tokens_per_step"]
    times = measured["seconds"] / expected
    findings.figures[cell.model] = {"expected_seconds": expected, "times_as_long": times, "from": estimate.known_from}
    findings.note(f"{cell.model}: a step takes {times:.2f} times its estimate from {estimate.known_from}")
    findings.must(
        times <= margin,
        f"{cell.model}: a step takes {times:.1f} times its estimate, but time limits allow only {margin} times",
    )


def _compare_memory(experiment: Experiment, cell: Cell, measured: dict, findings: Findings) -> None:
    sizes = model_size(experiment, cell.model), task_size(experiment, cell)
    expected = gpu_memory(cell.values, *sizes, measured["precision"]).expected
    findings.figures[cell.model]["expected_bytes"] = expected
    if (peak := measured["peak_bytes"]) is None:
        return
    findings.figures[cell.model]["peak_bytes"] = peak
    findings.note(f"{cell.model}: the memory peak is {1e-9 * peak:.1f} GB; {1e-9 * expected:.1f} GB were estimated")
    findings.must(
        peak <= MOST_MEMORY * expected,
        f"{cell.model}: the memory peak is {1e-9 * peak:.1f} GB, but {1e-9 * expected:.1f} GB were estimated: plans"
        " would put cells on GPUs that are too small",
    )
