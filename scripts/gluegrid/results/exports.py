"""results.csv and results.json: each cell, and the numbers over seeds, in full precision."""

import csv
import dataclasses
import io
import json
from collections.abc import Collection, Sequence

from gluegrid.common import escaping
from gluegrid.common.files import canonical_json
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.options import OPTIONS
from gluegrid.experiment.task import Task, definition
from gluegrid.results.notes import precision_of
from gluegrid.results.outcomes import Outcome
from gluegrid.results.result_text import cell_state
from gluegrid.results.selection import chosen, holdout_summary, optimism, sweeps, swept_keys, uses_holdout, values_of
from gluegrid.results.summary import Group, groups, score

MAIN_VALUES = ("learning_rate", "per_device_train_batch_size", "num_train_epochs", "max_seq_length")
# These columns report what a cell actually used, which may say more than its value in the experiment file.
NO_VALUES = {"seed", "precision", "device"}
OLD_NAMES = {"state": "status", "precision_used": "precision"}  # former column names, kept for those who read them


def results_csv(experiment: Experiment, outcomes: list[Outcome]) -> str:
    """Return results.csv: a row per cell with its score, metrics in full precision, training values and provenance."""
    grouped = groups(experiment, outcomes)
    of_choice = {group.identity for group in chosen(grouped)}
    keys = _columns_of_values(outcomes)
    rows = [_csv_row(experiment, outcome, keys, of_choice) for outcome in outcomes]
    metrics = sorted({key for outcome in outcomes for key in outcome.results or ()})
    first = [key for key in rows[0] if key not in metrics]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*first, *metrics], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _columns_of_values(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the training values that get a column: the main ones and those that differ between cells."""
    values = [outcome.cell.values for outcome in outcomes]
    keys = dict.fromkeys(key for of_cell in values for key in of_cell if key in OPTIONS.keys() - NO_VALUES)
    varied = [key for key in keys if any(of_cell.get(key) != values[0].get(key) for of_cell in values)]
    # If given, it replaces per_device_train_batch_size.
    given = ["global_batch_size"] if any(of_cell.get("global_batch_size") for of_cell in values) else []
    return [*dict.fromkeys([*MAIN_VALUES, *given, *varied])]


def _csv_row(
    experiment: Experiment, outcome: Outcome, keys: Sequence[str], of_choice: Collection[tuple[str, str, str]]
) -> dict[str, object]:
    cell, record, results = outcome.cell, outcome.record or {}, outcome.results or {}
    task = Task(name=cell.task, **definition(experiment.tasks[cell.task]))
    model = experiment.models[cell.model]
    row = {
        "model": cell.model,
        "model_source": model["source"],
        "model_revision": record.get("model_revision", model["revision"]),
        "task": cell.task,
        "variant": cell.variant,
        "seed": cell.seed,
        "metric": "/".join(task.metrics) if task.metric_keys() else None,
        "score": score(outcome, task.metric_keys()) if outcome.is_done else None,
        "status": cell_state(outcome),
        "reason": outcome.reason,
        **{key: cell.values.get(key) for key in keys},
        "precision": precision_of(record),
        "device": record.get("device"),
        "seconds": results.get("train_runtime"),
        "data": outcome.data,
        "chosen": "yes" if (cell.model, cell.task, cell.variant) in of_choice else "no",
        "log": str(outcome.log),
        "run_sha256": record.get("run_sha256"),
    }
    row |= {old: row[new] for old, new in OLD_NAMES.items()}
    return {key: _value(value) for key, value in row.items()} | results


def results_json(experiment: Experiment, outcomes: list[Outcome]) -> str:
    """Return results.json, with everything the tables are made from: the cells and their statistics over seeds."""
    cells = [
        _row(outcome) | {"run": outcome.cell.run, "results": outcome.results, "record": outcome.record}
        for outcome in outcomes
    ]
    grouped = groups(experiment, outcomes)
    choices = [
        {
            "model": each.by_holdout.model,
            "task": each.by_holdout.task.name,
            "by_holdout": {"variant": each.by_holdout.variant, "score": each.score_by_holdout},
            "by_validation": {"variant": each.by_validation.variant, "score": each.score_by_validation},
            "difference": each.difference,
        }
        for each in optimism(grouped)
    ]
    content = {"experiment": experiment.name, "cells": cells, "summaries": _summaries(grouped), "optimism": choices}
    return canonical_json(content)


def _row(outcome: Outcome) -> dict[str, object]:
    said = {"state": cell_state(outcome), "reason": outcome.reason, "data": outcome.data, "log": str(outcome.log)}
    return outcome.cell.wildcards | said


def _value(value: object) -> object:
    """Return a value as a field of the CSV file."""
    if isinstance(value, str):
        return escaping.spreadsheet(value)
    return json.dumps(value, sort_keys=True, ensure_ascii=False) if isinstance(value, dict) else value


def _summaries(grouped: Sequence[Group]) -> list[dict]:
    of_choice = {group.identity for group in chosen(grouped)}
    keys = {point.identity: swept_keys(points) for points in sweeps(grouped) for point in points}
    return [
        {
            "model": group.model,
            "task": group.task.name,
            "variant": group.variant,
            "values": values_of(group, keys[group.identity]),
            "of": len(group.outcomes),
            "n": len(group.done),
            "failed": len(group.failed),
            "degenerate": len(group.degenerate),
            "chosen": group.identity in of_choice,
            "all": _numbers(group),
            "without_degenerate": _numbers(others) if group.degenerate and others.done else None,
        }
        for group in grouped
        for others in [group.without_degenerate()]
    ]


def _numbers(group: Group) -> dict[str, dict]:
    numbers = {key: group.summary(key) for key in group.task.metric_keys()}
    if numbers:
        numbers["score"] = group.score_summary()
    if uses_holdout(group):
        numbers["score_holdout"] = holdout_summary(group)
    return {key: dataclasses.asdict(summary) for key, summary in numbers.items()}
