"""The section on references: what others have published, and whether results are above, within or below it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.references import VALIDATION, reference_model, references_of
from gluegrid.report.blocks import Block, Cell, Details, Section, Table, Text, number
from gluegrid.report.content import Material
from gluegrid.results.parity import NOT_COMPARED, parity_content, with_verdict
from gluegrid.results.parity_report import COLUMNS, WHAT_IS_COMPARED, names_of, reference_text, verdict_row
from gluegrid.results.summary import Group, mean

NUMBERS = {"Ours", "Reference", "Difference", "Tolerance"}


def parity_section(material: Material) -> Section | None:
    """Return the section; None where nobody has published anything of these models."""
    content = parity_content(material.experiment, material.groups)
    if not content["verdicts"]:
        return None
    blocks: list[Block] = [Text("No reference is of the same training as the results.")]
    if compared := with_verdict(content):
        rows = [
            [Cell(text, is_number=column in NUMBERS) for column, text in zip(COLUMNS, verdict_row(record), strict=True)]
            for record in compared
        ]
        table = Table("Verdicts on references of the same training", COLUMNS, rows)
        blocks = [Text(WHAT_IS_COMPARED.format(level=content["level"]), "note"), table]
    others = [record for record in content["verdicts"] if record["verdict"] == NOT_COMPARED]
    if others:
        blocks.append(Details(f"{len(others)} references that were not compared", [_others(others)]))
    return Section("references", "References", blocks)


def _others(records: list[dict]) -> Table:
    rows = [
        [*map(Cell, names_of(record)), number(reference_text(record["reference"])), Cell(record["reason"])]
        for record in records
    ]
    return Table("References without a verdict, and why", [*COLUMNS[:3], "Reference", "Why"], rows)


@dataclass(frozen=True)
class Published:
    """A published score of one model on one task, as a part of 1: the mean of the task's metrics, as our scores are."""

    label: str
    model: str
    task: str
    value: float


def published_scores(experiment: Experiment, groups: Iterable[Group]) -> list[Published]:
    """Return what there is of these groups' validation splits; where a metric of the task lacks, there is no score."""
    numbers: dict[tuple[str, str], dict[tuple[str, str], dict[str, float]]] = {}
    for each in references_of(experiment.config):
        if each.split == VALIDATION:
            of_task = numbers.setdefault((each.model, each.task), {})
            of_task.setdefault((each.label, str(each.training)), {})[each.metric] = each.value
    found = []
    for group in groups:
        name = reference_model(experiment.models[group.model]), group.task.name
        for (label, _), metrics in numbers.get(name, {}).items():
            value = mean(metrics.get(key.removeprefix("eval_")) for key in group.task.metric_keys())
            if value is not None:
                found.append(Published(label, group.model, group.task.name, value / 100))
    return found


def by_model(published: Sequence[Published], task: str) -> dict[str, list[Published]]:
    """Return a task's published scores by model."""
    found: dict[str, list[Published]] = {}
    for each in published:
        if each.task == task:
            found.setdefault(each.model, []).append(each)
    return found
