"""The section of sweeps: every point that was tried, and the one that was chosen."""

from collections.abc import Sequence

from markupsafe import Markup

from gluegrid.common.formatting import NOTHING, percent
from gluegrid.report.blocks import Block, Details, Entry, Figure, Figures, Heading, Section, Table, Text, table
from gluegrid.report.content import Material
from gluegrid.report.figures import INK, LEAST_SPAN, MUTED, OTHER, Plot, Style, label
from gluegrid.report.scores import interval, score_bounds
from gluegrid.results import selection
from gluegrid.results.result_text import MARK, best_of, score_text, seeds_text, task_name, value_text
from gluegrid.results.selection import swept_keys, uses_holdout, validation_scores, values_of, was_chosen
from gluegrid.results.summary import Group, Summary
from gluegrid.results.sweep_tables import OPTIMISM_COLUMNS, how_chosen, optimism_rows

CHOSEN = "Every point that was tried. The star marks the highest mean score over seeds, which the tables above show."
BY_VALIDATION = (
    "It was chosen on the reported validation split, so its score is optimistic, more so with more points;"
    " selection: holdout measures by how much."
)
BY_HOLDOUT = "It was chosen on a part of train that was not trained on (selection: holdout)."
OPTIMISM = (
    "Validation scores of the point chosen on the holdout and of the point that validation would have chosen. The"
    " difference is what reporting the best validation score would have added."
)
MOST_FIGURES = 18  # sweeps; there may be one for each model and task
TILE = 42
STAR = "★"


def sweep_section(material: Material) -> Section | None:
    """Return the section; None without a sweep or any result."""
    swept = [group for group in material.chosen if was_chosen(group)]
    if not swept:
        return None
    with_figure = [group for group in swept if len(_scored_points(group)) > 1 and group.score() is not None]
    drawn = with_figure[:MOST_FIGURES]
    blocks: list[Block] = [Text(" ".join([CHOSEN, *how_chosen(swept, BY_VALIDATION, BY_HOLDOUT)]), "note")]
    if len(with_figure) > len(drawn):
        text = f"The figures show the first {len(drawn)} of {len(with_figure)} sweeps; the tables have all."
        blocks.append(Text(text, "note"))
    figures = [
        Figure(svg, task_name(group), group.model)
        for place, group in enumerate(drawn)
        for svg in _figures(f"sweep-{place}", group, material.looks.get(group.model, OTHER))
    ]
    blocks += [Figures(figures)] if figures else []
    blocks += [Details(f"{_title(group, ', ')}: {best_of(group)}", [_table(material, group)]) for group in swept]
    if rows := optimism_rows(material.groups):
        blocks += [Heading("Optimism"), table(OPTIMISM, OPTIMISM_COLUMNS, rows, OPTIMISM_COLUMNS[2:])]
    return Section("sweeps", "Sweeps", blocks)


def _title(group: Group, between: str = " on ") -> str:
    return f"{group.model}{between}{task_name(group)}"


def _table(material: Material, chosen: Group) -> Table:
    keys = swept_keys(chosen.chosen_from)
    on_holdout = ["Score on the holdout"] if uses_holdout(chosen) else []
    rows = []
    for point in chosen.chosen_from:
        values = map(value_text, values_of(point, keys).values()) if keys else [point.variant]
        is_chosen = point.variant == chosen.variant
        href = f"#{material.name_of(point)}"
        score = Entry(_score(point, point.score_summary()), href=href, is_best=is_chosen, is_number=True)
        others = [_score(point, selection.holdout_summary(point)) for _ in on_holdout]
        rows.append([*values, score, *others, seeds_text(point), "chosen" if is_chosen else ""])
    headers = [*(keys or ["Variant"]), "Score", *on_holdout, "Seeds", "Chosen"]
    return table(_title(chosen), headers, rows, [*on_holdout, "Seeds"])


def _score(point: Group, summary: Summary) -> str:
    return score_text(summary) + (MARK if point.has_other_data else "") if point.done else NOTHING


def _scored_points(chosen: Group) -> list[Group]:
    return [point for point in chosen.chosen_from if point.score() is not None]


def _figures(name: str, chosen: Group, style: Style) -> list[Markup]:
    """Return the figures of the sweep that a group was chosen from.

    One swept key makes a line, two a field with a number in each tile; each of more has a figure with marks.
    """
    points = _scored_points(chosen)
    keys = swept_keys(chosen.chosen_from)
    if len(keys) == 2:
        plots = {" and ".join(keys): _field(chosen, points, keys)}
    else:
        plots = {key: _by_value(chosen, points, key, style, is_line=len(keys) == 1) for key in keys}
    values = ", ".join(f"{key} {_text(chosen, key)}" for key in keys)
    in_words = (
        f"Mean scores of {len(points)} points, from {percent(min(point.score() for point in points))} on; the chosen"
        f" point is {values} with {percent(chosen.score())}. The table of points has all."
    )
    return [
        plot.svg(f"{name}-{place}", f"Sweep of {swept}: {_title(chosen)}", in_words)
        for place, (swept, plot) in enumerate(plots.items())
    ]


def _field(chosen: Group, points: Sequence[Group], keys: Sequence[str]) -> Plot:
    columns, lines = (_texts(points, key) for key in keys)
    plot = Plot(height=TILE * len(lines) + 74, left=76, top=28, bottom=46)
    scores = [100 * point.score() for point in points]
    high, span = max(scores), max(max(scores) - min(scores), LEAST_SPAN)
    for point, score in zip(points, scores, strict=True):
        x, y = columns.index(_text(point, keys[0])), lines.index(_text(point, keys[1]))
        is_chosen = point.variant == chosen.variant
        text = percent(point.score()) + (f" {STAR}" if is_chosen else "")
        plot.tile(x, y, text, 1 - (high - score) / span, is_chosen)
    plot.axes.set_xticks(range(len(columns)), map(label, columns))
    plot.axes.set_yticks(range(len(lines)), map(label, lines))
    plot.axes.set(xlim=(-0.55, len(columns) - 0.45), ylim=(-0.55, len(lines) - 0.45))
    plot.axes.grid(visible=False)
    plot.name_axes(x=keys[0])
    # The axis is too short for its label.
    plot.axes.text(0, 1, f"↓ {keys[1]}", transform=plot.axes.transAxes, color=MUTED, size=11, va="bottom")
    return plot


def _by_value(chosen: Group, points: Sequence[Group], key: str, style: Style, is_line: bool) -> Plot:
    """Draw the scores of all points above their values of a key."""
    texts = _texts(points, key)
    plot = Plot(left=54, bottom=44)
    means = {texts.index(_text(point, key)): 100 * point.score() for point in points}
    if is_line:
        plot.axes.plot(sorted(means), [means[x] for x in sorted(means)], color=style.colour, linewidth=1.6)
    drawn = [value for point in points for value in _draw_point(plot, texts.index(_text(point, key)), point, style)]
    best = (texts.index(_text(chosen, key)), 100 * chosen.score())
    beside = {"xytext": (0, 9), "textcoords": "offset points", "ha": "center"}
    plot.axes.annotate(STAR, best, color=INK, size=14, **beside)
    plot.axes.set_xticks(range(len(texts)), map(label, texts))
    plot.axes.set_xlim(-0.5, len(texts) - 0.5)
    plot.axes.grid(visible=False, axis="x")
    plot.scores_over(key, drawn, score_bounds([chosen]))
    return plot


def _draw_point(plot: Plot, x: int, point: Group, style: Style) -> list[float]:
    """Draw a point's seeds, mean and interval; return what was drawn."""
    seeds = [100 * value for value in validation_scores(point)]
    bounds = [100 * bound for bound in interval([point.score_summary()], score_bounds([point])) or ()]
    if bounds:
        plot.bar([x, x], bounds, style)
        plot.mark_seeds([x] * len(seeds), seeds, style)
    plot.mark(x, 100 * point.score(), style)
    return [*seeds, *bounds]


def _texts(points: Sequence[Group], key: str) -> list[str]:
    """Return the points' values of a key as texts; numbers are in ascending order."""
    values = {_text(point, key): point.values.get(key) for point in points}
    if all(isinstance(value, int | float) for value in values.values()):
        return sorted(values, key=values.get)
    return list(values)


def _text(point: Group, key: str) -> str:
    return value_text(point.values.get(key))
