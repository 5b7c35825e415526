"""Figures of sweeps: the score of every point that was tried, by the values that were listed."""

from collections.abc import Sequence

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from gluegrid.common.formatting import percent
from gluegrid.page.colours import INK, MUTED, Style
from gluegrid.page.drawing import (
    WIDTH,
    Margins,
    few_ticks,
    finished,
    label,
    mark,
    mark_seeds,
    name_axes,
    new_axes,
    widen,
)
from gluegrid.page.intervals import interval
from gluegrid.results.result_text import task_name, value_text
from gluegrid.results.selection import swept_keys, validation_scores, values_of
from gluegrid.results.summary import Group

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
