"""The section on references: what others have published, and whether results are above, within or below it."""

from gluegrid.page.blocks import Block, Cell, Details, Section, Table, Text, number
from gluegrid.page.material import Material
from gluegrid.results.parity import NOT_COMPARED, parity_content, with_verdict
from gluegrid.results.parity_report import COLUMNS, WHAT_IS_COMPARED, names_of, reference_text, verdict_row

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
