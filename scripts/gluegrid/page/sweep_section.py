"""The section of sweeps: all points that were tried, and which was chosen."""

from collections.abc import Sequence

from gluegrid.common.formatting import NOTHING, percent
from gluegrid.page.blocks import Block, Cell, Details, Figure, Figures, Heading, Section, Table, Text, number
from gluegrid.page.colours import OTHER
from gluegrid.page.material import Material
from gluegrid.page.sweep_figures import has_figure, sweep_figures
from gluegrid.results.result_text import MARK, best_of, score_text, seeds_text, task_name, value_text
from gluegrid.results.selection import holdout_summary, optimism, swept_keys, uses_holdout, values_of, was_chosen
from gluegrid.results.summary import Group, Summary

MOST_FIGURES = 18  # sweeps; there may be one for each model and task
CHOSEN = (
    "All points that were tried, with a star at the one with the best mean score over seeds, which stands in the"
    " tables above."
)
BY_VALIDATION = (
    "It was chosen on the validation split that is reported, so its score is optimistic, the more so the more points"
    " there are; selection: holdout measures by how much."
)
BY_HOLDOUT = "It was chosen on the part of train that was kept from training (selection: holdout)."
OPTIMISM = (
    "Scores on validation of the point chosen on the holdout, and of the one that would have been chosen on"
    " validation: the difference is what reporting the best validation score would have added."
)


def sweep_section(material: Material) -> Section | None:
    """Return the section; None without a sweep."""
    swept = [group for group in material.chosen if was_chosen(group)]
    if not swept:
        return None
    with_figure = [group for group in swept if has_figure(group)]
    drawn = with_figure[:MOST_FIGURES]
    blocks: list[Block] = [Text(f"{CHOSEN} {_how_chosen(swept)}", "note")]
    if len(with_figure) > len(drawn):
        blocks.append(
            Text(f"The first {len(drawn)} of {len(with_figure)} sweeps are drawn; the tables have all.", "note")
        )
    figures = [
        Figure(svg, task_name(group), group.model)
        for place, group in enumerate(drawn)
        for svg in sweep_figures(f"sweep-{place}", group, material.looks.get(group.model, OTHER))
    ]
    tables = [
        Details(f"{group.model}, {task_name(group)}: {best_of(group)}", [_table(material, group)]) for group in swept
    ]
    return Section("sweeps", "Sweeps", [*blocks, Figures(figures), *tables, *_optimism(material)])


def _how_chosen(swept: Sequence[Group]) -> str:
    ways = {uses_holdout(group) for group in swept}
    if len(ways) == 1:
        return BY_HOLDOUT if ways == {True} else BY_VALIDATION
    of_holdout = ", ".join(f"{group.model} on {task_name(group)}" for group in swept if uses_holdout(group))
    return f"{BY_VALIDATION} {of_holdout}: chosen on the holdout instead."


def _optimism(material: Material) -> list[Block]:
    rows = [
        [
            Cell(each.by_holdout.model),
            Cell(task_name(each.by_holdout)),
            *map(number, map(percent, (each.score_by_holdout, each.score_by_validation, each.difference))),
        ]
        for each in optimism(material.groups)
    ]
    headers = ["Model", "Task", "Chosen on the holdout", "Chosen on validation", "Optimism"]
    return [Heading("Optimism"), Table(OPTIMISM, headers, rows)] if rows else []


def _table(material: Material, chosen: Group) -> Table:
    keys = swept_keys(chosen.chosen_from)
    on_holdout = ["Score on the holdout"] if uses_holdout(chosen) else []
    rows = []
    for point in chosen.chosen_from:
        values = [Cell(value_text(value)) for value in values_of(point, keys).values()] or [Cell(point.variant)]
        is_chosen = point.variant == chosen.variant
        href = f"#{material.origins.name_of(point)}"
        scores = [Cell(_score(point, point.score_summary()), href=href, is_best=is_chosen, is_number=True)]
        scores += [number(_score(point, holdout_summary(point)))] if on_holdout else []
        rows.append([*values, *scores, number(seeds_text(point)), Cell("chosen" if is_chosen else "")])
    return Table(
        f"{chosen.model} on {task_name(chosen)}",
        [*(keys or ["Variant"]), "Score", *on_holdout, "Seeds", "Chosen"],
        rows,
    )


def _score(point: Group, summary: Summary) -> str:
    return score_text(summary) + (MARK if point.data else "") if point.done else NOTHING
