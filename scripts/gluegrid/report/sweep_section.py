"""The section of sweeps: all points that were tried, and which was chosen."""

from collections.abc import Sequence

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from gluegrid.common.formatting import NOTHING, percent
from gluegrid.report.blocks import Block, Cell, Details, Figure, Figures, Heading, Section, Table, Text, number
from gluegrid.report.content import Material
from gluegrid.report.figures import (
    INK,
    MUTED,
    OTHER,
    WIDTH,
    Margins,
    Style,
    few_ticks,
    finished,
    label,
    mark,
    mark_seeds,
    name_axes,
    new_axes,
    widen,
)
from gluegrid.report.scores import interval
from gluegrid.results.result_text import MARK, best_of, score_text, seeds_text, task_name, value_text
from gluegrid.results.selection import (
    holdout_summary,
    optimism,
    swept_keys,
    uses_holdout,
    validation_scores,
    values_of,
    was_chosen,
)
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


HEIGHT, TILE = 230, 42
LEAST_SPAN = 1.0  # percent
COLOURS = "cividis"  # even in lightness, and for people with any kind of colour vision
DARK_SHARE = 0.5  # of the colours: on those below, white is read better than black
STAR = " ★"


def has_figure(chosen: Group) -> bool:
    """Tell whether there is anything to compare: several points have a score, the chosen one too."""
    scored = [point for point in chosen.chosen_from if point.score() is not None]
    return len(scored) > 1 and chosen.score() is not None


def sweep_figures(name: str, chosen: Group, style: Style) -> list[Markup]:
    """Return the figures of the sweep that a group was chosen from.

    One value makes a line, two a field with a number in each tile, and of more each has marks for all points.
    """
    points = [point for point in chosen.chosen_from if point.score() is not None]
    keys = swept_keys(chosen.chosen_from)
    if len(keys) == 2:
        drawn = {" and ".join(keys): _field(chosen, points, keys)}
    else:
        drawn = {key: _by_value(chosen, points, key, style, is_line=len(keys) == 1) for key in keys}
    return [
        finished(
            axes,
            f"{name}-{number}",
            f"Sweep of {of_keys}: {chosen.model} on {task_name(chosen)}",
            _in_words(chosen, points, keys),
        )
        for number, (of_keys, axes) in enumerate(drawn.items())
    ]


def _field(chosen: Group, points: Sequence[Group], keys: Sequence[str]) -> Axes:
    columns, lines = (_texts(points, key) for key in keys)
    axes = new_axes(WIDTH, TILE * len(lines) + 74, Margins(left=76, top=28, bottom=46))
    scores = [point.score() for point in points]
    low, span = min(scores), (max(scores) - min(scores)) or 1
    for point in points:
        x, y = columns.index(_text(point, keys[0])), lines.index(_text(point, keys[1]))
        _draw_tile(axes, x, y, point.score(), (point.score() - low) / span, point.variant == chosen.variant)
    axes.set_xticks(range(len(columns)), [label(text) for text in columns])
    axes.set_yticks(range(len(lines)), [label(text) for text in lines])
    axes.set(xlim=(-0.55, len(columns) - 0.45), ylim=(-0.55, len(lines) - 0.45))
    axes.grid(visible=False)
    name_axes(axes, x=keys[0])
    # Along so short an axis there is no room for it.
    axes.text(0, 1, f"↓ {keys[1]}", transform=axes.transAxes, color=MUTED, size=11, va="bottom")
    return axes


def _draw_tile(axes: Axes, x: int, y: int, value: float, share: float, is_chosen: bool) -> None:
    ground = matplotlib.colormaps[COLOURS](share)
    axes.add_patch(Rectangle((x - 0.47, y - 0.45), 0.94, 0.9, facecolor=ground, edgecolor="none"))
    colour = "white" if share < DARK_SHARE else "black"
    if is_chosen:
        axes.add_patch(Rectangle((x - 0.44, y - 0.39), 0.88, 0.78, fill=False, edgecolor=colour, linewidth=1.6))
    text = percent(value) + (STAR if is_chosen else "")
    axes.text(x, y, text, color=colour, ha="center", va="center", size=11)


def _by_value(chosen: Group, points: Sequence[Group], key: str, style: Style, is_line: bool) -> Axes:
    """Draw the scores of all points above the value that they have for a key."""
    texts = _texts(points, key)
    axes = new_axes(WIDTH, HEIGHT, Margins(left=54, bottom=44))
    means = {texts.index(_text(point, key)): 100 * point.score() for point in points}
    if is_line:
        axes.plot(sorted(means), [means[x] for x in sorted(means)], color=style.colour, linewidth=1.6)
    drawn = [value for point in points for value in _draw_point(axes, texts.index(_text(point, key)), point, style)]
    best = texts.index(_text(chosen, key))
    axes.annotate(
        STAR.strip(),
        (best, 100 * chosen.score()),
        xytext=(0, 9),
        textcoords="offset points",
        color=INK,
        size=14,
        ha="center",
    )
    axes.set_xticks(range(len(texts)), [label(text) for text in texts])
    axes.set_xlim(-0.5, len(texts) - 0.5)
    widen(axes, "y", drawn, LEAST_SPAN)
    few_ticks(axes, "y")
    axes.grid(visible=False, axis="x")
    name_axes(axes, x=key, y="Score on validation")
    return axes


def _draw_point(axes: Axes, x: int, point: Group, style: Style) -> list[float]:
    """Draw a point's seeds, mean and interval; return what was drawn."""
    seeds = [100 * value for value in validation_scores(point)]
    bounds = [100 * bound for bound in interval(point.score_summary()) or ()]
    if bounds:
        axes.plot([x, x], bounds, color=style.colour, linewidth=1.6, zorder=2)
        mark_seeds(axes, [x] * len(seeds), seeds, style)
    mark(axes, x, 100 * point.score(), style)
    return [*seeds, *bounds]


def _texts(points: Sequence[Group], key: str) -> list[str]:
    """Return the values that points have for a key as texts, numbers in their order."""
    values = {_text(point, key): values_of(point, [key])[key] for point in points}
    if all(isinstance(value, int | float) for value in values.values()):
        return sorted(values, key=values.get)
    return list(values)


def _text(point: Group, key: str) -> str:
    return value_text(values_of(point, [key])[key])


def _in_words(chosen: Group, points: Sequence[Group], keys: Sequence[str]) -> str:
    values = ", ".join(f"{key} {_text(chosen, key)}" for key in keys)
    lowest = min(point.score() for point in points)
    return (
        f"Mean scores of {len(points)} points, from {percent(lowest)}; chosen is {values} with"
        f" {percent(chosen.score())}. The table of points has them all."
    )
