"""Figures of scores: for each task a row of marks for each model, beside what others have published."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup
from matplotlib.axes import Axes

from gluegrid.common.formatting import percent
from gluegrid.page.colours import INK, MUTED, OTHER, PAPER, Style
from gluegrid.page.drawing import (
    LABELS,
    SMALL,
    WIDTH,
    Margins,
    few_ticks,
    finished,
    mark,
    mark_seeds,
    new_axes,
    rows,
    widen,
)
from gluegrid.page.intervals import interval
from gluegrid.page.published import Published
from gluegrid.page.scores import Score
from gluegrid.results.summary import score

ROW, LOW_ROW, BELOW_ROWS = 30, 22, 30
MOST_HIGH_ROWS = 16
ABOVE_MEAN, BELOW_MEAN = -0.29, 0.27  # where references and seeds lie, in rows
DEGENERATE = Style(INK, "x")
LEAST_SPAN = 1.0  # percent: differences smaller than that should not look large


def score_figure(
    name: str, scores: Sequence[Score], looks: Mapping[str, Style], published: Mapping[str, Sequence[Published]], marks
) -> Markup:
    """Return the figure of one task. `looks` are the models' styles, `published` their references, `marks` those of
    the references' labels.
    """
    row_height = ROW if len(scores) <= MOST_HIGH_ROWS else LOW_ROW
    axes = new_axes(WIDTH, row_height * len(scores) + BELOW_ROWS, Margins(left=LABELS, bottom=BELOW_ROWS - 8))
    drawn: list[float] = []
    for row, each in enumerate(scores):
        style = looks.get(each.group.model, OTHER)
        drawn += _draw_score(axes, row, each, style)
        for reference in published.get(each.group.model, ()):
            mark(
                axes,
                100 * reference.value,
                row + ABOVE_MEAN,
                marks[reference.label],
                7,
                markerfacecolor=PAPER,
                zorder=3.5,
            )
            drawn.append(100 * reference.value)
    rows(axes, [each.group.model for each in scores])
    widen(axes, "x", drawn, LEAST_SPAN)
    few_ticks(axes, "x")
    axes.grid(visible=False, axis="y")
    _say_what_is_missing(axes, scores)
    return finished(axes, name, f"Scores on {scores[0].group.display_name}", _in_words(scores))


def _draw_score(axes: Axes, row: int, each: Score, style: Style) -> list[float]:
    """Draw a model's seeds, mean and interval; return what was drawn."""
    keys = each.group.task.metric_keys()
    by_seed = [(outcome.is_degenerate, score(outcome, keys)) for outcome in each.group.done] if keys else []
    sound = [100 * value for is_degenerate, value in by_seed if value is not None and not is_degenerate]
    collapsed = [100 * value for is_degenerate, value in by_seed if value is not None and is_degenerate]
    for value in collapsed:
        mark(axes, value, row + BELOW_MEAN, DEGENERATE, SMALL + 1.5, markeredgewidth=1.4)
    if len(by_seed) > 1:
        mark_seeds(axes, sound, [row + BELOW_MEAN] * len(sound), style)
    if each.mean is None:
        return sound + collapsed
    bounds = [100 * bound for bound in interval(each.summary) or ()]
    if bounds:
        bar = {"color": style.colour, "linewidth": 2, "marker": "|", "markersize": 9, "markeredgewidth": 1.6}
        axes.plot(bounds, [row, row], solid_capstyle="butt", zorder=2, clip_on=False, **bar)
    mark(axes, 100 * each.mean, row, style)
    return [*sound, *collapsed, *bounds, 100 * each.mean]


def _say_what_is_missing(axes: Axes, scores: Sequence[Score]) -> None:
    for row, each in enumerate(scores):
        if not each.is_number:
            place = axes.get_yaxis_transform()
            axes.text(0.02, row, each.text, color=MUTED, size=10, va="center", transform=place)


def _in_words(scores: Sequence[Score]) -> str:
    known = [each for each in scores if each.is_number]
    if not known:
        return "No model has a score."
    best = max(known, key=lambda each: each.mean)
    worst = min(known, key=lambda each: each.mean)
    return (
        f"Mean scores of {len(known)} of {len(scores)} models, from {percent(worst.mean)} ({worst.group.model}) to"
        f" {percent(best.mean)} ({best.group.model}). The table of scores has them all."
    )
