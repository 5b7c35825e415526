"""results.csv and results.json against the files of the runs."""

import csv
import json
import math
from collections.abc import Iterable
from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.common.formatting import agree, is_number
from gluegrid.experiment.experiment import Experiment
from gluegrid.verification.expected_groups import Group, grouped, shown, varied
from gluegrid.verification.expected_tables import optimism_entry, summary
from gluegrid.verification.file_shapes import TABLES, read_shaped
from gluegrid.verification.findings import Findings
from gluegrid.verification.runs import VerifiedRun

TEXTS = ("reason", "data", "log")  # of results.csv; what is said of a run and no number of it
NO_RESULT = ("failed", "not run")


def verify_csv(
    path: Path, experiment: Experiment, runs: list[VerifiedRun], findings: Findings
) -> dict[str, str] | None:
    """Compare each row with its run; return the state of each cell, as the rows have it; None for unreadable ones."""
    with findings.noting():
        rows = _read_csv(path)
        _check_number_of_cells(path, len(rows), len(runs))
        states = {run.cell.name: row["state"] for row, run in zip(rows, runs, strict=True)}
        said = _said_of_sweeps(experiment, runs, states)
        for number, (row, run) in enumerate(zip(rows, runs, strict=True), start=2):
            if _is_of(run, row, path, f"row {number}", findings):
                _check_state(path, row, run, findings)
                if run.state != "broken":
                    _check_values(path, row, run, said[run.cell.name], findings)
        return states
    return None


def _said_of_sweeps(
    experiment: Experiment, runs: list[VerifiedRun], states: dict[str, str]
) -> dict[str, dict[str, object]]:
    """Return for each cell its values that any sweep varies, and whether its variant was chosen, if that is clear."""
    sweeps = grouped(experiment, runs, states)
    chosen = shown(sweeps)
    keys = list(dict.fromkeys(key for points in sweeps for key in varied(points)))
    said = {}
    for points, one in zip(sweeps, chosen, strict=True):
        for point in points:
            is_chosen = ("yes" if point.variant == one.variant else "no") if one.is_clear else None
            values = {key: point.settings.get(key) for key in keys} | {"chosen": is_chosen}
            said |= {run.cell.name: values for run in point.runs}
    return said


def verify_json(path: Path, experiment: Experiment, runs: list[VerifiedRun], findings: Findings) -> None:
    """Compare each entry with its run.json, all_results.json and run_record.json."""
    with findings.noting():
        content = read_shaped(path, TABLES)
        if content["experiment"] != experiment.name:
            findings.add(path, f"experiment is {content['experiment']!r}, it should be {experiment.name!r}")
        cells = content["cells"]
        _check_number_of_cells(path, len(cells), len(runs))
        for number, (entry, run) in enumerate(zip(cells, runs, strict=True)):
            if _is_of(run, entry, path, f"cells.{number}", findings):
                _check_state(path, entry, run, findings)
                _check_parts(path, entry, run, findings)


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
    missing = [name for name in ("model", "task", "variant", "seed", "state", "run_sha256") if name not in header]
    if missing:
        raise DataError(f"{path}: has no column {', '.join(missing)}")
    return [dict(zip(header, row, strict=True)) for row in rows]


def _check_number_of_cells(path: Path, found: int, expected: int) -> None:
    if found != expected:
        raise DataError(f"{path}: has {found} cells, the experiment has {expected}")


def _is_of(run: VerifiedRun, entry: dict, path: Path, where: str, findings: Findings) -> bool:
    """Tell whether an entry is that of a run; note where it is not, for then nothing else of it can be compared."""
    for key, expected in run.cell.wildcards.items():
        if entry.get(key) != expected:
            findings.add(path, f"{where}: {key} is {entry.get(key)!r}, it should be {expected!r}")
            return False
    return True


def _check_state(path: Path, entry: dict, run: VerifiedRun, findings: Findings) -> None:
    state = entry.get("state")
    allowed = {"done": ("done",), "missing": NO_RESULT, "broken": ("done", *NO_RESULT)}[run.state]
    if state not in allowed:
        findings.add(path, f"{run.cell.name}: state is {state!r}, it should be {' or '.join(allowed)}")


def _check_values(
    path: Path, row: dict[str, str], run: VerifiedRun, of_sweeps: dict[str, object], findings: Findings
) -> None:
    """Compare a row's numbers, which are in full precision, with all_results.json, and what it says of sweeps."""
    of_run = run.results | {"run_sha256": run.record["run_sha256"]} if run.state == "done" else {}
    expected = of_run | {key: value for key, value in of_sweeps.items() if key != "chosen" or value is not None}
    identity = ("state", *run.cell.wildcards, *TEXTS, *(of_sweeps.keys() - expected.keys()))
    for key in [*expected, *(key for key in row if key not in expected and key not in identity)]:
        findings.table_numbers += key in expected
        if not _says(row.get(key, ""), expected.get(key)):
            problem = f"{run.cell.name}: {key} is {row.get(key)!r}, its run has {expected.get(key)!r}"
            findings.add(path, problem)


def _says(text: str, value: object) -> bool:
    if isinstance(value, dict):
        return text == json.dumps(value, sort_keys=True, ensure_ascii=False)
    if value is None or isinstance(value, bool | str):
        return text == ("" if value is None else str(value))
    try:
        return float(text) == value
    except ValueError:
        return False


def _check_parts(path: Path, entry: dict, run: VerifiedRun, findings: Findings) -> None:
    is_done = run.state == "done"
    expected = {
        "run": run.cell.run,
        "results": run.results if is_done else None,
        "record": run.record if is_done else None,
    }
    for part, value in expected.items():
        if run.state == "broken" and part != "run":
            continue
        found = entry.get(part)
        findings.table_numbers += len(value) if part == "results" and value else 0
        if found != value:
            where = _first_difference(found, value)
            findings.add(path, f"{run.cell.name}: {part}{where} is not that of its run")


def _first_difference(found: object, expected: object) -> str:
    """Return the place of a difference of two JSON values, as .key.key."""
    if not (isinstance(found, dict) and isinstance(expected, dict)):
        return ""
    keys: Iterable[str] = sorted({*found, *expected})
    different = next(key for key in keys if found.get(key) != expected.get(key) or (key in found) != (key in expected))
    return f".{different}{_first_difference(found.get(different), expected.get(different))}"


NOT_SURE = {"chosen"}  # of a variant, where it is not clear which of its sweep is shown


def verify_summaries(
    path: Path, experiment: Experiment, runs: list[VerifiedRun], states: dict[str, str] | None, findings: Findings
) -> None:
    """Compare every number over seeds. `states` is what results.csv says of each cell, if readable."""
    with findings.noting():
        content = read_shaped(path, TABLES)
        sweeps = grouped(experiment, runs, states)
        points = [(point, one) for of, one in zip(sweeps, shown(sweeps), strict=True) for point in of]
        expected = [_known(point, one) for point, one in points]
        _check_list(path, "summaries", content["summaries"], expected, findings)
        if all(point.is_known for point, _ in points):
            found = [entry for of in sweeps if (entry := optimism_entry(of))]
            _check_list(path, "optimism", content["optimism"], found, findings)


def _known(point: Group, chosen: Group) -> dict | None:
    """Return what is expected of a variant, without what is not sure; None where nothing is."""
    if not point.is_known:
        return None
    expected = summary(point, chosen)
    unsure = set() if chosen.is_clear else {"chosen"}
    return {key: value for key, value in expected.items() if key not in unsure and (key != "failed" or point.states)}


def _check_list(path: Path, name: str, found: list, expected: list, findings: Findings) -> None:
    if len(found) != len(expected):
        findings.add(path, f"{name} has {len(found)} entries, it should have {len(expected)}")
        return
    for number, (entry, wanted) in enumerate(zip(found, expected, strict=True)):
        if wanted is not None:
            _check(path, f"{name}.{number}", entry, wanted, findings)


def _check(path: Path, where: str, found: object, expected: object, findings: Findings) -> None:
    """Note where two JSON values differ; NaN is expected where it is not known what to expect."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key, value in expected.items():
            _check(path, f"{where}.{key}", found.get(key), value, findings)
        for key in sorted(found.keys() - expected.keys() - NOT_SURE - {"failed"}):
            findings.add(path, f"{where}.{key} is nothing that the runs give")
        return
    findings.table_numbers += is_number(expected)
    if not (isinstance(expected, float) and math.isnan(expected)) and not agree(found, expected):
        findings.add(path, f"{where} is {found!r}, the runs give {expected!r}")
