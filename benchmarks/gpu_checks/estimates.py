"""Check 9: what `make plan` would have expected of the steps that check 7 has measured."""

import math
import os

import yaml

from gluegrid.common.files import write_text
from gluegrid.experiment.cell import Cell
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.loading import load_experiment
from gluegrid.operations.cost_model import task_size
from gluegrid.operations.estimates import MARGINS, Estimate, Estimates

from .setting import Findings, Setting, SkippedError


def compare(setting: Setting, findings: Findings) -> None:
    """Compare seconds of a step, and peaks of memory, with what is estimated from the device's name alone."""
    measured = setting.findings(7).get("figures", {})
    if not measured.get("steps"):
        raise SkippedError("check 7 has measured no step")
    device = setting.findings(0).get("figures", {}).get("device", "")
    experiment = _experiment(setting, measured)
    estimates = Estimates(experiment, [], device)
    for cell in experiment.cells.values():
        estimate, tokens = estimates.of(cell), task_size(experiment, cell).train.tokens
        margin = setting.of(MARGINS[estimate.known_from], math.inf)
        _compare_seconds(cell, estimate, tokens, measured["steps"][cell.model], margin, findings)


def _experiment(setting: Setting, measured: dict) -> Experiment:
    """Return an experiment of the models whose steps were measured, with their values, on their task."""
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
    findings.note(f"{cell.model}: a step takes {times:.2f} times what is estimated from {estimate.known_from}")
    findings.must(
        times <= margin,
        f"{cell.model}: a step takes {times:.1f} times its estimate, and time limits allow {margin} times",
    )
