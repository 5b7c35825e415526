"""The section on references: published numbers, and whether the results are above, within or below them."""

from collections.abc import Iterable

from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.references import VALIDATION, reference_model, references_of
from gluegrid.report.blocks import Block, Details, Section, Text, table
from gluegrid.report.content import Material
from gluegrid.results import parity_report
from gluegrid.results.parity import parity_content, with_verdict
from gluegrid.results.parity_report import COLUMNS, COLUMNS_NOT_COMPARED, WHAT_IS_COMPARED, rows_not_compared
from gluegrid.results.summary import Group, mean

NUMBERS = ("Ours", "Reference", "Difference", "Tolerance")


def parity_section(material: Material) -> Section | None:
    """Return the section; None where no published number of these models is known."""
    content = parity_content(material.experiment, material.groups)
    if not content["verdicts"]:
        return None
    blocks: list[Block] = [Text("No reference was trained the way the results were.")]
    if compared := with_verdict(content):
        what = Text(WHAT_IS_COMPARED.format(level=content["level"]), "note")
        rows = map(parity_report.verdict_row, compared)
        blocks = [what, table("Verdicts on references that were trained the same way", COLUMNS, rows, NUMBERS)]
    if others := rows_not_compared(content):
        shown = table("References without a verdict, and why", COLUMNS_NOT_COMPARED, others, NUMBERS)
        blocks.append(Details(f"{len(others)} references that were not compared", [shown]))
    return Section("references", "References", blocks)


def published_scores(experiment: Experiment, groups: Iterable[Group]) -> dict[tuple[str, str], list[tuple[str, float]]]:
    """Return, by model and task, the label and the score of each reference on these groups' validation splits.

    A score is the mean of the task's metrics, from 0 to 1 like ours; a reference that lacks a metric has none.
    """
    numbers: dict[tuple[str, str], dict[tuple[str, str], dict[str, float]]] = {}
    for each in references_of(experiment.config):
        if each.split == VALIDATION:
            of_task = numbers.setdefault((each.model, each.task), {})
            of_task.setdefault((each.label, str(each.training)), {})[each.metric] = each.value
    published = {}
    for group in groups:
        task = group.task.name
        references = numbers.get((reference_model(experiment.models[group.model]), task), {})
        for (label, _), metrics in references.items():
            value = mean(metrics.get(key.removeprefix("eval_")) for key in group.task.metric_keys())
            if value is not None:
                published.setdefault((group.model, task), []).append((label, value / 100))
    return published
