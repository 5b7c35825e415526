"""Check results.csv and results.json against the files of the runs."""

import csv
import json
import math
import operator
from collections.abc import Callable, Sequence
from pathlib import Path

from gluegrid.common import escaping
from gluegrid.common.errors import DataError
from gluegrid.common.formatting import agree, is_number
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.options import OPTIONS
from gluegrid.verification.expected_groups import Group, data_of, optimism, shown_groups, varied
from gluegrid.verification.file_shapes import TABLES, read_shaped
from gluegrid.verification.findings import Findings
from gluegrid.verification.over_seeds import UNKNOWN, mean, over_seeds
from gluegrid.verification.runs import VerifiedRun, precision_of

TEXTS = ("reason", "log")  # columns of results.csv that do not follow from a run's result
NO_RESULT = ("failed", "stopped", "not run")
STATES = {"done": ("done",), "missing": NO_RESULT, "broken": ("done", *NO_RESULT)}
MISSING = "not there"
MAIN_VALUES = ("learning_rate", "per_device_train_batch_size", "num_train_epochs", "max_seq_length")
OF_THE_RECORD = ("seed", "precision", "device")  # their columns do not hold training values
IDENTITY = ("model", "task", "variant", "seed", "state")


def verify_csv(
    path: Path, experiment: Experiment, runs: list[VerifiedRun], findings: Findings
) -> dict[str, str] | None:
    """Compare each row with its run; return the state of each cell in the rows, or None if they cannot be read."""
    with findings.noting():
        rows = _read_csv(path)
        _check_number_of_cells(path, len(rows), len(runs))
        states = {run.cell.name: row["state"] for row, run in zip(rows, runs, strict=True)}
        choices = _choices(shown_groups(experiment, runs, states))
        keys = _columns_of_values(runs)
        for number, (row, run) in enumerate(zip(rows, runs, strict=True), start=2):
            if _is_of(run, row, path, f"row {number}", findings) and run.state != "broken":
                values = {key: run.cell.values.get(key) for key in keys}
                expected = _expected_row(experiment, run, row["state"]) | values
                _check_row(path, row, run, expected | {"chosen": choices[run.cell.name]}, findings)
        return states
    return None


def verify_json(
    path: Path, experiment: Experiment, runs: list[VerifiedRun], states: dict[str, str] | None, findings: Findings
) -> None:
    """Compare each entry with the files of its run, and every number over seeds with what the runs give.

    `states` is the state of each cell in results.csv, or None if that cannot be read.
    """
    with findings.noting():
        content = read_shaped(path, TABLES)
        if content["experiment"] != experiment.name:
            findings.add(path, f"experiment is {content['experiment']!r}, it should be {experiment.name!r}")
        with findings.noting():
            _check_number_of_cells(path, len(content["cells"]), len(runs))
            for number, (entry, run) in enumerate(zip(content["cells"], runs, strict=True)):
                if _is_of(run, entry, path, f"cells.{number}", findings):
                    _check_parts(path, entry, run, findings)
        groups = shown_groups(experiment, runs, states)
        points = [(point, shown) for shown in groups for point in shown.points]
        _check_entries(path, "summaries", content["summaries"], [_summary(*pair) for pair in points], findings)
        if all(point.is_known for point, _ in points):
            measured = [entry for shown in groups if (entry := _optimism_entry(shown.points))]
            _check_entries(path, "optimism", content["optimism"], measured, findings)


def _read_csv(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            header, *rows = csv.reader(stream, strict=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV: {error}") from error
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise DataError(f"{path}: row {number} has {len(row)} columns, the header {len(header)}")
    if missing := [name for name in (*IDENTITY, "run_sha256") if name not in header]:
        raise DataError(f"{path}: has no column {', '.join(missing)}")
    return [dict(zip(header, row, strict=True)) for row in rows]


def _check_number_of_cells(path: Path, count: int, expected: int) -> None:
    if count != expected:
        raise DataError(f"{path}: has {count} cells, the experiment has {expected}")


def _is_of(run: VerifiedRun, entry: dict, path: Path, where: str, findings: Findings) -> bool:
    """Tell whether an entry belongs to a run; if not, report it, since nothing else of it can be compared.

    Also report a state that the run cannot have.
    """
    for key, expected in run.cell.wildcards.items():
        if entry.get(key) != expected:
            findings.add(path, f"{where}: {key} is {entry.get(key)!r}, it should be {expected!r}")
            return False
    state, allowed = entry.get("state"), STATES[run.state]
    if state not in allowed:
        findings.add(path, f"{run.cell.name}: state is {state!r}, it should be {' or '.join(allowed)}")
    return True


def _choices(groups: list[Group]) -> dict[str, object]:
    """Return for each cell whether its variant was chosen."""
    choices: dict[str, object] = {}
    for shown in groups:
        for point in shown.points:
            is_chosen = ("yes" if point.variant == shown.variant else "no") if shown.is_clear else UNKNOWN
            choices |= {run.cell.name: is_chosen for run in point.runs}
    return choices


def _columns_of_values(runs: list[VerifiedRun]) -> list[str]:
    """Return the training values that get a column: the main ones and those that differ between cells."""
    settings = [run.cell.values for run in runs]
    names = [name for name in OPTIONS if name not in OF_THE_RECORD]
    differing = [name for name in names if len({json.dumps(each.get(name), sort_keys=True) for each in settings}) > 1]
    given = ["global_batch_size"] if any(each.get("global_batch_size") for each in settings) else []
    return [*dict.fromkeys([*MAIN_VALUES, *given, *differing])]


def _expected_row(experiment: Experiment, run: VerifiedRun, state: str) -> dict[str, object]:
    """Return what a row must say besides its cell, training values and texts."""
    model, keys, results, record = experiment.models[run.cell.model], run.task.metric_keys(), run.results, run.record
    of_run: dict[str, object] = dict.fromkeys(
        ("score", "precision", "precision_used", "device", "seconds", "run_sha256")
    )
    if run.state == "done":
        used = precision_of(run)
        of_run |= {"precision": used, "precision_used": used, "device": record.get("device")}
        of_run |= {"score": mean(results[key] for key in keys), "seconds": results.get("train_runtime")}
        of_run |= {"run_sha256": record["run_sha256"]} | results
    differs = data_of(run, experiment.tasks[run.cell.task]) if run.state == "done" else ""
    return of_run | {
        "model_source": model["source"],
        "model_revision": record.get("model_revision", model["revision"]),
        "metric": "/".join(run.task.metrics) if keys else None,
        "status": state,
        "data": UNKNOWN if differs is None else differs,
    }


def _check_row(
    path: Path, row: dict[str, str], run: VerifiedRun, expected: dict[str, object], findings: Findings
) -> None:
    """Compare a row's numbers, which have full precision, and its other fields that follow from the run."""
    for key in [*expected, *(key for key in row if key not in (*expected, *IDENTITY, *TEXTS))]:
        findings.table_numbers += key in expected
        if not _says(row.get(key, ""), expected.get(key)):
            problem = f"{run.cell.name}: {key} is {row.get(key)!r}, its run has {expected.get(key)!r}"
            findings.add(path, problem)


def _says(text: str, value: object) -> bool:
    if isinstance(value, dict):
        return text == json.dumps(value, sort_keys=True, ensure_ascii=False)
    if value is None or isinstance(value, bool | str):
        return text == ("" if value is None else escaping.spreadsheet(str(value)))
    try:
        return _is_unknown(value) or float(text) == value
    except ValueError:
        return False


def _check_parts(path: Path, entry: dict, run: VerifiedRun, findings: Findings) -> None:
    """Compare the copies of a run's files, which must be identical to the last digit."""
    expected = {"run": run.cell.run}
    if run.state != "broken":
        expected |= {"results": run.results or None, "record": run.record or None}
    for part, value in expected.items():
        _compare(path, f"{run.cell.name}: {part}", entry.get(part), value, findings, operator.eq)


def _check_entries(path: Path, name: str, entries: list, expected: list, findings: Findings) -> None:
    if len(entries) != len(expected):
        findings.add(path, f"{name} has {len(entries)} entries, it should have {len(expected)}")
        return
    for number, (entry, wanted) in enumerate(zip(entries, expected, strict=True)):
        _compare(path, f"{name}.{number}", entry, wanted, findings)


def _compare(
    path: Path,
    where: str,
    actual: object,
    expected: object,
    findings: Findings,
    same: Callable[[object, object], bool] = agree,
) -> None:
    """Report where two JSON values differ; an expected value of UNKNOWN accepts anything."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key in sorted({*actual, *expected}):
            if key not in expected:
                findings.add(path, f"{where}.{key} does not follow from the runs")
            else:
                _compare(path, f"{where}.{key}", actual.get(key, MISSING), expected[key], findings, same)
        return
    findings.table_numbers += is_number(expected)
    if not _is_unknown(expected) and not same(actual, expected):
        findings.add(path, f"{where} is {actual!r}, the runs give {expected!r}")


def _is_unknown(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _summary(group: Group, shown: Group) -> dict | float:
    """Return the expected entry of a variant, with UNKNOWN for unknown values. `shown` is the one in the tables."""
    if not group.is_known:
        return UNKNOWN
    others = group.without_degenerate()
    return {
        "model": group.model,
        "task": group.task.name,
        "variant": group.variant,
        "values": {key: group.settings.get(key) for key in varied(shown.points)},
        "of": len(group.runs),
        "n": len(group.done),
        "failed": group.failed if group.states else UNKNOWN,
        "degenerate": len(group.degenerate),
        "chosen": group.variant == shown.variant if shown.is_clear else UNKNOWN,
        "all": _numbers(group),
        "without_degenerate": _numbers(others) if group.degenerate and others.done else None,
    }


def _numbers(group: Group) -> dict[str, dict]:
    values = {key: group.values(key) for key in group.task.metric_keys()}
    if values:
        values["score"] = group.scores()
    if group.has_holdout:
        values["score_holdout"] = group.holdout_scores()
    return {key: {"count": len(of_key), **over_seeds(of_key)} for key, of_key in values.items()}


def _optimism_entry(points: Sequence[Group]) -> dict | None:
    """Return the expected entry of a sweep, or None if its optimism is not measured."""
    chosen = optimism(points)
    if chosen is None:
        return None
    by_holdout, by_validation = ({"variant": group.variant, "score": mean(group.scores())} for group in chosen)
    return {
        "model": points[0].model,
        "task": points[0].task.name,
        "by_holdout": by_holdout,
        "by_validation": by_validation,
        "difference": by_validation["score"] - by_holdout["score"],
    }
