"""results.csv and results.json: each cell, and the numbers over seeds, in full precision."""

import csv
import dataclasses
import io
import json
from collections.abc import Sequence

from gluegrid.common import escaping
from gluegrid.common.files import canonical_json
from gluegrid.experiment.experiment import Experiment
from gluegrid.results.notes import precision_of
from gluegrid.results.outcomes import Outcome
from gluegrid.results.result_text import cell_state
from gluegrid.results.selection import chosen, holdout_summary, optimism, sweeps, swept_keys, uses_holdout, values_of
from gluegrid.results.summary import Group, groups

PRECISION = "precision_used"
IDENTITY = ("model", "task", "variant", "seed", "state", "reason", "data", "log")


def results_csv(experiment: Experiment, outcomes: list[Outcome]) -> str:
    """Return a row per cell: identity, state, reason, all metrics in full precision, and where they come from.

    Behind these stand the values that any sweep varies, and whether the cell's variant was chosen.
    """
    grouped = groups(experiment, outcomes)
    numbers = [_numbers_of(outcome) for outcome in outcomes]
    metrics = sorted({key for of_cell in numbers for key in of_cell})
    swept = list(dict.fromkeys(key for points in sweeps(grouped) for key in swept_keys(points)))
    of_choice = {group.identity for group in chosen(grouped)}
    text = io.StringIO()
    writer = csv.DictWriter(text, [*IDENTITY, "run_sha256", *metrics, *swept, "chosen"], lineterminator="\n")
    writer.writeheader()
    for outcome, of_cell in zip(outcomes, numbers, strict=True):
        provenance = {"run_sha256": outcome.record["run_sha256"]} if outcome.is_done else {}
        texts = {key: escaping.spreadsheet(value or "") for key, value in _row(outcome).items()}
        values = {key: _value(outcome.cell.values.get(key)) for key in swept}
        is_chosen = (outcome.cell.model, outcome.cell.task, outcome.cell.variant) in of_choice
        choice = {"chosen": "yes" if is_chosen else "no"}
        writer.writerow(texts | provenance | of_cell | values | choice)
    return text.getvalue()


def _numbers_of(outcome: Outcome) -> dict[str, object]:
    """Return a cell's metrics and the precision that they were computed in, which `precision: auto` does not name."""
    if not outcome.is_done:
        return {}
    return outcome.results | {PRECISION: escaping.spreadsheet(precision_of(outcome.record) or "")}


def results_json(experiment: Experiment, outcomes: list[Outcome]) -> str:
    """Return all that the tables are made from: cells, and what they give over seeds."""
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
