"""The section on models compared with each other, from the comparisons.json that `snakemake compare` has written."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from gluegrid.analysis.bootstrap import Difference
from gluegrid.analysis.comparison_report import COLUMNS, OF_ONE_SEED, comparison_row, wins_text
from gluegrid.analysis.comparisons import Comparison
from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json
from gluegrid.common.formatting import NOTHING, probability
from gluegrid.report.blocks import Block, Details, Section, Table, Text, table
from gluegrid.report.content import Material

MOST_ROWS = 500  # of comparisons on tasks; there are as many as pairs of models, times tasks
NONE = "Not made. The target compare (snakemake compare) compares every two models from their saved predictions."
OUTDATED = "These are of earlier results than the rest of this page: snakemake compare makes them anew."
HOW = (
    "Wins/ties/losses of the model of the row against that of the column, in tasks. A model wins where the"
    " {level:.0%} interval of the difference, over resampled examples and seeds, lies on its side of 0; a tie does not"
    " say that two models are equal. {one_seed}: of one seed, so other seeds may turn it."
)
ADJUSTED = "Wins/ties/losses with p-values adjusted for their number (Holm)"
CHANCE = "P(A > B) on the mean over tasks: A is the model of the row"


def comparison_section(material: Material) -> Section | None:
    """Return the section; None for one model, which there is nothing to compare with."""
    if len(material.experiment.models) < 2:
        return None
    try:
        blocks = _blocks(material, read_json(Path(material.experiment.paths.comparisons_json)))
    except DataError:
        blocks = [Text(NONE)]
    return Section("comparisons", "Comparisons", blocks)


def _blocks(material: Material, content: dict) -> list[Block]:
    of_tasks, of_means = (list(map(_comparison, content[key])) for key in ("tasks", "means"))
    if not of_tasks:
        return [Text("No two models have results that can be compared.")]
    models = [row.model for row in material.table.rows]
    how = HOW.format(level=content["method"]["level"], one_seed=OF_ONE_SEED)
    blocks: list[Block] = [Text(OUTDATED)] if _is_outdated(material, content) else []
    blocks += [
        Text(how, "note"),
        _matrix("Wins/ties/losses", models, lambda row, column: wins_text(row, column, of_tasks)),
        _matrix(ADJUSTED, models, lambda row, column: wins_text(row, column, of_tasks, is_adjusted=True)),
    ]
    if of_means:
        chances = {}
        for each in of_means:
            chance = each.difference.probability
            chances[each.first, each.second] = probability(chance)
            chances[each.second, each.first] = probability(1 - chance)
        blocks.append(_matrix(CHANCE, models, lambda row, column: chances.get((row, column), NOTHING)))
    if len(of_tasks) > MOST_ROWS:
        return [*blocks, Text(f"comparisons.md has all {len(of_tasks):,} comparisons.", "note")]
    rows = [[", ".join(each.tasks), *comparison_row(each)] for each in of_tasks]
    numbers = [column for column in COLUMNS if column not in ("A", "B", "Better")]
    every = table("Every two models on every task", ["Task", *COLUMNS], rows, numbers)
    return [*blocks, Details(f"All {len(of_tasks)} comparisons", [every])]


def _comparison(entry: dict) -> Comparison:
    values = {field.name: entry[field.name] for field in dataclasses.fields(Comparison)}
    return Comparison(**values | {"difference": Difference(**entry["difference"])})


def _is_outdated(material: Material, content: dict) -> bool:
    """Tell whether any result is there that was not compared, or is another than the one that was."""
    scored = [outcome for group in material.chosen if group.task.validation for outcome in group.outcomes]
    now = {_identity(outcome.cell.wildcards): _hashes(outcome.record or {}) for outcome in scored}
    return now != {_identity(each): _hashes(each) for each in content["inputs"]}


def _identity(wildcards: dict) -> tuple[str, ...]:
    return tuple(wildcards[key] for key in ("model", "task", "variant", "seed"))


def _hashes(record: dict) -> tuple:
    return record.get("run_sha256"), record.get("predictions_sha256")


def _matrix(caption: str, models: Sequence[str], text) -> Table:
    rows = [[row, *(text(row, column) if row != column else "" for column in models)] for row in models]
    return table(caption, ["", *models], rows, models)
