"""The section that compares models with each other, from what `snakemake compare` has written."""

from collections.abc import Callable, Sequence

from gluegrid.analysis.comparison_report import COLUMNS, OF_ONE_SEED, comparison_row, wins_text
from gluegrid.common.formatting import NOTHING, probability
from gluegrid.report.blocks import Block, Details, Section, Table, Text, table
from gluegrid.report.content import Material

MOST_ROWS = 500  # of comparisons on tasks; there are as many as pairs of models, times tasks
OUTDATED = "These comparisons are of earlier results than the rest of this page. Run snakemake compare report."
HOW = (
    "Tasks that the model of the row wins, ties and loses against the model of the column. A model wins where the"
    " {level:.0%} interval of the difference, over resampled examples and seeds, lies on its side of 0. A tie does not"
    " mean that two models are equal."
)
ONE_SEED = f" {OF_ONE_SEED} rests on one seed: another seed may reverse it."
ADJUSTED = "Wins/ties/losses by p-values adjusted for the number of comparisons (Holm)"
CHANCE = "P(A > B) of the mean over tasks, where A is the model of the row"


def comparison_section(material: Material) -> Section | None:
    """Return the section; None where nothing was compared."""
    saved = material.comparisons
    if not saved or not saved.of_tasks:
        return None
    models = [row.model for row in material.table.rows]
    how = HOW.format(level=saved.level) + (ONE_SEED if any(each.is_of_one_seed for each in saved.of_tasks) else "")
    blocks: list[Block] = [Text(OUTDATED)] if saved.is_outdated else []
    blocks += [
        Text(how, "note"),
        _matrix("Wins/ties/losses", models, lambda row, column: wins_text(row, column, saved.of_tasks)),
        _matrix(ADJUSTED, models, lambda row, column: wins_text(row, column, saved.of_tasks, is_adjusted=True)),
    ]
    if saved.of_means:
        chances = {}
        for each in saved.of_means:
            chance = each.difference.probability
            chances[each.first, each.second] = probability(chance)
            chances[each.second, each.first] = probability(1 - chance)
        blocks.append(_matrix(CHANCE, models, lambda row, column: chances.get((row, column), NOTHING)))
    if len(saved.of_tasks) > MOST_ROWS:
        blocks.append(Text(f"comparisons.md has all {len(saved.of_tasks):,} comparisons.", "note"))
    else:
        rows = [[", ".join(each.tasks), *comparison_row(each)] for each in saved.of_tasks]
        numbers = [column for column in COLUMNS if column not in ("A", "B", "Better")]
        every = table("Every two models on every task", ["Task", *COLUMNS], rows, numbers)
        blocks.append(Details(f"All comparisons ({len(saved.of_tasks)})", [every]))
    return Section("comparisons", "Comparisons", blocks)


def _matrix(caption: str, models: Sequence[str], text: Callable[[str, str], str]) -> Table:
    rows = [[row, *(text(row, column) if row != column else "" for column in models)] for row in models]
    return table(caption, ["", *models], rows, models)
