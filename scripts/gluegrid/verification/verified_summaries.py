"""What results.json says of variants over seeds against the runs."""

import math
from pathlib import Path

from gluegrid.experiment.experiment import Experiment
from gluegrid.results.summary import agree, is_number
from gluegrid.verification.expected_choice import shown
from gluegrid.verification.expected_groups import Group, grouped
from gluegrid.verification.expected_summaries import optimism_entry, summary
from gluegrid.verification.file_shapes import TABLES, read_shaped
from gluegrid.verification.findings import Findings
from gluegrid.verification.verified_runs import VerifiedRun

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
