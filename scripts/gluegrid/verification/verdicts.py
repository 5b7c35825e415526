"""Check the verdicts in results.md against the runs and the references."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.references import Reference, reference_model, references_of
from gluegrid.verification.expected_texts import percentage
from gluegrid.verification.findings import Findings
from gluegrid.verification.markdown import Section
from gluegrid.verification.over_seeds import over_seeds
from gluegrid.verification.runs import VerifiedRun, must_say_precisions, precision_of

OURS = re.compile(r"(-?[\d.]+)(?: ± ([\d.]+))? \((\d+) seeds?(?:; .*)?\)")
VERDICT = re.compile(r"(above|within|below) (-?[\d.]+) ± ([\d.]+) \((.*), [^,]*\)")
OTHER_PRECISION = re.compile(r"(?:; |^)([^;]*, theirs [^;)]*)\)?$")
OTHERS = re.compile(r"(\d+) of (\d+) references were not compared")
LAST_DIGIT = 0.01  # of the numbers shown; a verdict is not judged by less than that

Cell = tuple[str, str]  # a model and a task


def references_by_cell(experiment: Experiment) -> dict[Cell, list[Reference]]:
    """Return the references of each model and task that has any."""
    references = defaultdict(list)
    for model, entry in experiment.models.items():
        for reference in references_of(experiment.config):
            if reference.model == reference_model(entry) and reference.task in experiment.tasks:
                references[model, reference.task].append(reference)
    return dict(references)


def verify_verdicts(
    path: Path,
    section: Section,
    references: dict[Cell, list[Reference]],
    runs: Iterable[VerifiedRun],
    findings: Findings,
) -> None:
    """Compare the table of verdicts, and the line that counts the references without one."""
    rows = section.rows[1:]
    of_cells = defaultdict(list)
    for run in runs:
        of_cells[run.cell.model, run.cell.task].append(run)
    for row in rows:
        problem = _problem(row, references, of_cells)
        findings.table_numbers += 3
        if problem:
            findings.add(path, f"references, {', '.join(row[:3])}: {problem}")
    every = sum(map(len, references.values()))
    said = {match.groups() for line in section.lines for match in OTHERS.finditer(line)}
    expected = {(str(every - len(rows)), str(every))} if len(rows) < every else set()
    if said != expected:
        findings.add(path, f"references without a verdict: {_listed(said)}, it should be {_listed(expected)}")


def _problem(row: list[str], references: dict[Cell, list[Reference]], of_cells: dict[Cell, list[VerifiedRun]]) -> str:
    """Return the problem of a row of the table, or an empty text if it has none."""
    model, _, metric, shown, said = row
    ours, verdict = OURS.fullmatch(shown), VERDICT.fullmatch(said)
    if not (ours and verdict):
        return f"{shown!r} and {said!r} are not a result and a verdict"
    word, value, tolerance, label = verdict.groups()
    cells = [
        cell
        for cell, candidates in references.items()
        if cell[0] == model and any(_shown(each) == (label, metric, value) for each in candidates)
    ]
    if not cells:
        return f"{label!r} has no such reference as {value}"
    expected = [_results(of_cells[cell], f"eval_{metric}") for cell in cells]
    if None not in expected and ours.groups() not in set().union(*expected):
        return f"is {shown!r}, its runs give {_listed(set().union(*expected))}"
    precisions = _other_precisions(cells, references, of_cells, (label, metric, value))
    said_precision = "".join(OTHER_PRECISION.findall(shown))
    if None not in expected and said_precision not in precisions:
        return f"is {shown!r}, it should say {_listed({(text,) for text in precisions})}"
    return _problem_of_word(word, float(ours[1]) - float(value), float(tolerance))


def _other_precisions(
    cells: list[Cell],
    references: dict[Cell, list[Reference]],
    of_cells: dict[Cell, list[VerifiedRun]],
    shown: tuple[str, str, str],
) -> set[str]:
    """Return the possible texts on the precision of results: ours and theirs, or empty if they are the same."""
    texts = set()
    for cell in cells:
        variants = defaultdict(set)
        for run in of_cells[cell]:
            variants[run.cell.variant] |= {precision_of(run)} - {""} if run.state == "done" else set()
        theirs = {each.precision for each in references[cell] if _shown(each) == shown}
        for ours in (" and ".join(sorted(variant)) for variant in variants.values()):
            texts |= {f"{ours}, theirs {their}" if ours and their and ours != their else "" for their in theirs}
        texts |= set() if must_say_precisions(of_cells[cell]) else {""}
    return texts


def _shown(reference: Reference) -> tuple[str, str, str]:
    return reference.label, reference.metric, f"{reference.value:.2f}"


def _results(runs: list[VerifiedRun], key: str) -> set[tuple[str, str | None, str]] | None:
    """Return mean, standard deviation and count of each variant as tables may show them, or None if unknown."""
    done = [run for run in runs if run.state == "done"]
    if any(run.state == "broken" for run in runs) or any(key not in run.values for run in done):
        return None
    variants = defaultdict(list)
    for run in done:
        variants[run.cell.variant].append(run.values[key])
    return {
        (mean, sd, str(len(values)))
        for values in variants.values()
        if None not in values
        for numbers in [over_seeds(values)]
        for mean in percentage(numbers["mean"])[0]
        for sd in (percentage(numbers["sd"])[0] if len(values) > 1 else [None])
    }


def _problem_of_word(word: str, difference: float, tolerance: float) -> str:
    """Return why a verdict contradicts the numbers beside it, within their precision, or an empty text."""
    slack = 2 * LAST_DIGIT
    possible = {"within"} if abs(difference) <= tolerance + slack else set()
    if abs(difference) >= tolerance - slack:
        possible.add("above" if difference > 0 else "below")
    return "" if word in possible else f"says {word}, the numbers say {' or '.join(sorted(possible))}"


def _listed(numbers: set[tuple[str | None, ...]]) -> str:
    return ", ".join(sorted(" of ".join(filter(None, each)) for each in numbers)) or "none"
