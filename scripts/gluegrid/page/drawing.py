"""What all figures of the report share: their size, axes and marks. Lengths are in pixels of the page."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gluegrid.common import escaping
from gluegrid.page.colours import GRID, INK, MUTED, PAPER, Style
from gluegrid.page.svg import SETTINGS, decoration, to_svg

WIDTH = 380  # three figures beside each other on a laptop, one on a telephone
LONGEST_LABEL, LABELS = 21, 140  # characters of a name beside an axis, and the room for them
PIXELS_PER_INCH = 72  # of matplotlib's SVG
SMALL, LARGE = 4.2, 8.0  # diameters of the marks of one seed, and of a mean


class Margins(NamedTuple):
    """The room around the axes."""

    left: float = 48
    right: float = 12
    top: float = 8
    bottom: float = 40


def new_axes(width: float, height: float, margins: Margins) -> Axes:
    """Return the axes of a new figure."""
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(width / PIXELS_PER_INCH, height / PIXELS_PER_INCH), dpi=PIXELS_PER_INCH)
        axes = figure.add_axes(
            (
                margins.left / width,
                margins.bottom / height,
                1 - (margins.left + margins.right) / width,
                1 - (margins.top + margins.bottom) / height,
            ),
            facecolor="none",
        )
    axes.tick_params(labelsize=11, labelcolor=MUTED, color=GRID, length=0, pad=5)
    axes.spines[:].set_visible(False)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def name_axes(axes: Axes, x: str = "", y: str = "") -> None:
    """Say what the axes show."""
    axes.set_xlabel(x, color=MUTED, size=11, labelpad=5)
    axes.set_ylabel(y, color=MUTED, size=11, labelpad=6)


def mark(
    axes: Axes, x: float | Sequence[float], y: float | Sequence[float], style: Style, size: float = LARGE, **options
) -> None:
    """Draw a mark, or several; its edge has the text's colour, so that it is seen on any ground."""
    edge = {"markeredgecolor": INK, "markeredgewidth": 0.8}
    plain = {"color": style.colour, "linestyle": "none", "zorder": 4, "clip_on": False} | edge
    axes.plot(x, y, marker=style.marker, markersize=size, **(plain | options))


def mark_seeds(axes: Axes, xs: Sequence[float], ys: Sequence[float], style: Style) -> None:
    """Draw the small marks of single runs."""
    mark(axes, xs, ys, Style(style.colour, "o"), SMALL, alpha=0.55, markeredgewidth=0, zorder=3)


def few_ticks(axes: Axes, which: str, most: int = 5, is_whole: bool = False) -> None:
    """Let an axis have a few round numbers; only whole ones where it counts something."""
    getattr(axes, f"{which}axis").set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10], integer=is_whole))


def widen(axes: Axes, which: str, values: Iterable[float], least: float) -> None:
    """Let an axis reach a little beyond its values, and span at least this much."""
    values = list(values)
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    extra = max(0.08 * (high - low), (least - (high - low)) / 2, 1e-9)
    getattr(axes, f"set_{which}lim")(low - extra, high + extra)


def rows(axes: Axes, names: list[str]) -> None:
    """Let the y axis have a row for each name, the first one on top."""
    axes.set_yticks(range(len(names)), [label(name) for name in names])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(len(names) - 0.4, -0.6)


def label(name: str) -> str:
    """Return a name on one line that is short enough to stand beside an axis."""
    return escaping.shortened(escaping.one_line(name), LONGEST_LABEL)


def finished(axes: Axes, name: str, title: str, description: str) -> Markup:
    """Return the SVG of the figure of these axes."""
    return to_svg(axes.figure, name, escaping.one_line(title), escaping.one_line(description))


def swatch(style: Style, name: str, size: float = 9, is_hollow: bool = False) -> Markup:
    """Return a small picture of a mark, for a legend whose texts are the page's."""
    axes = new_axes(16, 16, Margins(0, 0, 0, 0))
    axes.set_axis_off()
    axes.set(xlim=(-1, 1), ylim=(-1, 1))
    mark(axes, 0, 0, style, size, **({"markerfacecolor": PAPER} if is_hollow else {}))
    return decoration(axes.figure, name)
