"""Cells with crafted results, and groups of them, for tests of the input of tables."""

from pathlib import Path

import builders

from gluegrid.execution.reasons import Cause, Reason
from gluegrid.experiment.cell import Cell
from gluegrid.results.outcomes import Outcome
from gluegrid.results.summary import Group


def outcome(
    task="cola", seed=42, results=None, reason=None, model="bert", data="", run=None, variant="base"
) -> Outcome:
    """Return a cell with its results and how their data differ, or with the reason why it has none."""
    cell = Cell(model, task, variant, seed, {"recipe": 1} | (run or {}))
    log = Path(f"logs/{task}.log")
    if results is None:
        return Outcome(cell, log, why=Reason(Cause.FAILED, reason) if reason else Reason(Cause.NOT_RUN))
    return Outcome(cell, log, results={"epoch": 3, "train_runtime": 100.0} | results, record={}, data=data)


def point(variant, *results, model="bert", task="cola", run=None, **of_task) -> Group:
    """Return the group of a variant with a seed for each of these results; None was not run, a text is why it failed.

    A number is the accuracy.
    """
    outcomes = []
    for seed, result in enumerate(results):
        values = {"eval_accuracy": result} if isinstance(result, int | float) else result
        given = {"reason": result} if isinstance(result, str) else {"results": values}
        outcomes.append(outcome(task, seed, model=model, run=run, variant=variant, **given))
    return Group(model, builders.task(name=task, **of_task), variant, task.upper(), "Accuracy", outcomes)
