"""What all figures of the report share: size, axes, marks and the conversion to SVG. Lengths are pixels of the page."""

import io
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from gluegrid.common import escaping

# Placeholders for the page's colours, which change with the reader's scheme.
INK, MUTED, GRID, PAPER = "#000001", "#000002", "#000003", "#000004"
SERIES = tuple(f"#0001{number:02x}" for number in range(8))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper"} | {
    colour: f"--series-{number + 1}" for number, colour in enumerate(SERIES)
}
PLACEHOLDER = re.compile("|".join(VARIABLES))

WIDTH, HEIGHT = 380, 230  # three figures beside each other on a laptop, one on a phone
WIDE = 420  # two figures beside each other on a laptop, one on a phone
LEGIBLE = 0.85  # of its size: a figure that would be smaller on a phone scrolls instead
LONGEST_LABEL, LABELS = 21, 140  # characters of a name beside an axis, and the room for them
PIXELS_PER_INCH = 72  # of matplotlib's SVG
SMALL, LARGE = 4.2, 8.0  # diameters of the marks of one seed and of a mean
LABEL_SIZE, WIDTH_OF_LETTER = 10.5, 0.58  # of names beside marks; the second is a part of the first
# An axis or a colour scale of scores spans at least so many points, so that noise does not look like a difference: with
# 66% of RTE's 277 examples right, the 95% interval is 11 points wide, and seeds come on top of that.
LEAST_SPAN = 10.0
LEAST_FACTOR = 4.0  # between the ends of a logarithmic axis, for the same reason
NEAR = 1 / 3  # of an axis's span: a bound of the metric that is not farther away is where the axis ends
COLOURS = "cividis"  # even in lightness, and distinguishable with any kind of colour vision
DARK_SHARE = 0.5  # of the colours: below it white is legible, above it black

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
REFERENCE = re.compile(r"url\(#([^)]+)\)")
DECIMALS = re.compile(r"-?\d+\.\d{2,}")
FONT = re.compile(r"font-family: [^;]+(; |$)")
# A dollar sign in a name starts no formula, text stays text, and equal figures are equal bytes.
SETTINGS = {"text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "gluegrid", "font.size": 11}

ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", XLINK)


@dataclass(frozen=True)
class Style:
    """How a model is drawn everywhere in the report."""

    colour: str
    marker: str


OTHER = Style(MUTED, "o")


def styles(names: Sequence[str]) -> dict[str, Style]:
    """Return a different style for each of at most eight names."""
    return dict(zip(names, map(Style, SERIES, MARKERS), strict=False))


def label(name: str) -> str:
    """Return a name on one line that is short enough for the side of an axis."""
    return escaping.shortened(escaping.one_line(name), LONGEST_LABEL)


def room_for(names: Iterable[str]) -> float:
    """Return the room that names need beside an axis."""
    return min(LABELS, 18 + 6.4 * max(map(len, names), default=0))


def limits(values: Iterable[float], bounds: tuple[float, float] = (0, 100)) -> tuple[float, float]:
    """Return the ends of an axis of scores x 100: LEAST_SPAN or more apart, and never beyond the metric's bounds.

    An end that comes near a bound is that bound.
    """
    values = list(values) or [bounds[1]]
    low, high = min(values), max(values)
    extra = max(0.08 * (high - low), (LEAST_SPAN - (high - low)) / 2)
    low, high = max(low - extra, bounds[0]), min(high + extra, bounds[1])
    low, high = min(low, high - LEAST_SPAN), max(high, low + LEAST_SPAN)
    near = NEAR * (high - low)
    return bounds[0] if low - bounds[0] < near else low, bounds[1] if bounds[1] - high < near else high


class Plot:
    """A figure in the making, with room around its axes: `axes` are matplotlib's."""

    def __init__(
        self,
        width: float = WIDTH,
        height: float = HEIGHT,
        left: float = 48,
        right: float = 12,
        top: float = 8,
        bottom: float = 40,
    ):
        self._width, self._height = width - left - right, height - top - bottom  # of the axes
        inside = (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height)
        with matplotlib.rc_context(SETTINGS):
            figure = Figure(figsize=(width / PIXELS_PER_INCH, height / PIXELS_PER_INCH), dpi=PIXELS_PER_INCH)
            self.axes = figure.add_axes(inside, facecolor="none")
        self.axes.tick_params(labelsize=11, labelcolor=MUTED, color=GRID, length=0, pad=5)
        self.axes.spines[:].set_visible(False)
        self.axes.grid(color=GRID, linewidth=0.8)
        self.axes.set_axisbelow(True)

    def mark(
        self, x: float | Sequence[float], y: float | Sequence[float], style: Style, size: float = LARGE, **options
    ) -> None:
        """Draw a mark or several. Their edge has the text's colour, so that they stand out on any background."""
        edge = {"markeredgecolor": INK, "markeredgewidth": 0.8}
        plain = {"color": style.colour, "linestyle": "none", "zorder": 4, "clip_on": False} | edge
        self.axes.plot(x, y, marker=style.marker, markersize=size, **(plain | options))

    def mark_seeds(self, xs: Sequence[float], ys: Sequence[float], style: Style) -> None:
        """Draw the small marks of single runs."""
        self.mark(xs, ys, Style(style.colour, "o"), SMALL, alpha=0.55, markeredgewidth=0, zorder=3)

    def bar(self, xs: Sequence[float], ys: Sequence[float], style: Style) -> None:
        """Draw an interval between two points, with a small stroke across each end."""
        is_upright = xs[0] == xs[1]
        ends = {"marker": "_" if is_upright else "|", "markersize": 6, "markeredgewidth": 1.2}
        self.axes.plot(
            xs, ys, color=style.colour, linewidth=1.4, solid_capstyle="butt", zorder=2, clip_on=False, **ends
        )

    def tile(self, x: int, y: int, text: str, share: float, is_framed: bool = False) -> None:
        """Draw a tile of a field; `share` from 0 to 1 is its place on the scale of colours."""
        self.axes.add_patch(
            Rectangle((x - 0.47, y - 0.45), 0.94, 0.9, facecolor=matplotlib.colormaps[COLOURS](share), edgecolor="none")
        )
        colour = "white" if share < DARK_SHARE else "black"
        if is_framed:
            frame = {"fill": False, "edgecolor": colour, "linewidth": 1.6}
            self.axes.add_patch(Rectangle((x - 0.44, y - 0.39), 0.88, 0.78, **frame))
        self.axes.text(x, y, text, color=colour, ha="center", va="center", size=11)

    def scale_of_colours(self, first: str, last: str) -> None:
        """Draw the scale of a field's colours below it, between what its bright and its dark end mean."""
        low, height, steps = -32 / self._height, 10 / self._height, 24
        start, width = 14 / self._width, 130 / self._width / steps
        beside = {"transform": self.axes.transAxes, "color": MUTED, "size": 11, "va": "center"}
        for step in range(steps):
            colour = matplotlib.colormaps[COLOURS](1 - step / (steps - 1))
            place = (start + step * width, low)
            patch = Rectangle(place, width * 1.05, height, facecolor=colour, transform=self.axes.transAxes)
            self.axes.add_patch(patch).set_clip_on(False)
        self.axes.text(0, low + height / 2, first, ha="left", **beside)
        self.axes.text(start + (steps + 1) * width, low + height / 2, last, ha="left", **beside)

    def few_ticks(self, which: str, most: int = 5, is_whole: bool = False) -> None:
        """Give an axis a few round numbers; only whole ones where it counts something."""
        locator = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10], integer=is_whole)
        getattr(self.axes, f"{which}axis").set_major_locator(locator)

    def widen(self, which: str, values: Iterable[float], least: float) -> None:
        """Let an axis reach a little beyond its values, and span at least this much."""
        values = list(values)
        low, high = (min(values), max(values)) if values else (0.0, 0.0)
        extra = max(0.08 * (high - low), (least - (high - low)) / 2, 1e-9)
        getattr(self.axes, f"set_{which}lim")(low - extra, high + extra)

    def scores_along(self, which: str, scores: Iterable[float], bounds: tuple[float, float]) -> None:
        """Make an axis one of these scores x 100; `bounds` are those of the metric, from 0 to 1."""
        getattr(self.axes, f"set_{which}lim")(*limits(scores, (100 * bounds[0], 100 * bounds[1])))
        self.few_ticks(which)

    def logarithmic(self, values: Iterable[float]) -> None:
        """Make the x axis a logarithmic one of these values, with round numbers."""
        values = list(values)
        low, high = min(values), max(values)
        reach = max((high / low) ** 0.1, (LEAST_FACTOR * low / high) ** 0.5)
        factor = high / low * reach**2
        self.axes.set_xscale("log")
        self.axes.set_xlim(low / reach, high * reach)
        ticks = (1,) if factor > 500 else (1, 3) if factor > 50 else (1, 2, 5) if factor > 15 else (1, 2, 3, 5, 7)
        self.axes.xaxis.set_major_locator(LogLocator(subs=ticks))
        self.axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        self.axes.xaxis.set_minor_formatter(NullFormatter())
        self.axes.tick_params(which="minor", length=0)

    def names_beside(
        self, points: Sequence[tuple[float, float]], names: Sequence[str], bars: Sequence[Sequence[float]]
    ) -> None:
        """Write a name beside each mark where it covers nothing else; a name without such a place is left out.

        `bars` are the lower and upper end of each mark's upright bar, where it has one.
        """
        half, size = LARGE / 2, LABEL_SIZE
        pixels = self.axes.transData.transform
        places = [tuple(map(float, pixels(point))) for point in points]
        taken = [(x - half, y - half, x + half, y + half) for x, y in places]
        for (x, _), bar in zip(points, bars, strict=True):
            if bar:
                (left, low), (_, high) = pixels((x, min(bar))), pixels((x, max(bar)))
                taken.append((left - 3, low, left + 3, high))
        inside = self.axes.get_window_extent()
        for place, name in zip(places, map(label, names), strict=True):
            width = WIDTH_OF_LETTER * size * len(name)
            for (x, y), side in _sides(place, width):
                box = (x, y, x + width, y + size)
                is_inside = inside.x0 <= box[0] and box[2] <= inside.x1 and inside.y0 <= box[1] and box[3] <= inside.y1
                if is_inside and not any(_overlap(box, other) for other in taken):
                    taken.append(box)
                    anchor = self.axes.transData.inverted().transform((x if side == "left" else box[2], y))
                    self.axes.text(*anchor, name, size=size, color=INK, ha=side, va="bottom", zorder=5)
                    break

    def rows(self, names: Sequence[str]) -> None:
        """Give the y axis a row for each name, the first one at the top."""
        self.axes.set_yticks(range(len(names)), [label(name) for name in names])
        self.axes.tick_params(axis="y", labelcolor=INK)
        self.axes.set_ylim(len(names) - 0.4, -0.6)
        self.axes.grid(visible=False, axis="y")

    def scores_over(self, what: str, scores: Iterable[float], bounds: tuple[float, float]) -> None:
        """Make the y axis one of these scores x 100, and name both axes."""
        self.scores_along("y", scores, bounds)
        self.name_axes(x=what, y="Score on validation")

    def name_axes(self, x: str = "", y: str = "") -> None:
        """Label the axes."""
        self.axes.set_xlabel(x, color=MUTED, size=11, labelpad=5)
        self.axes.set_ylabel(y, color=MUTED, size=11, labelpad=6)

    def svg(self, name: str, title: str, description: str) -> Markup:
        """Return the figure as an SVG element for a page on which no other has this name.

        Screen readers announce the title and the description.
        """
        root = _cleaned(self.axes.figure, name)
        root.set("role", "img")
        root.set("style", f"min-width: {LEGIBLE * self.axes.figure.get_figwidth() * PIXELS_PER_INCH:.0f}px")
        root.set("aria-labelledby", f"{name}-title {name}-description")
        for place, (tag, part, text) in enumerate((("title", "title", title), ("desc", "description", description))):
            element = ElementTree.Element(f"{{{SVG}}}{tag}", {"id": f"{name}-{part}"})
            element.text = escaping.one_line(text)
            root.insert(place, element)
        return _markup(root)


def _sides(place: tuple[float, float], width: float) -> list[tuple[tuple[float, float], str]]:
    """Return where a name of this width may begin beside a mark, best first, and how it is aligned."""
    x, y = place
    gap, half = LARGE / 2 + 3, LABEL_SIZE / 2
    return [
        ((x + gap, y - half), "left"),
        ((x - gap - width, y - half), "right"),
        ((x + gap / 2, y + gap), "left"),
        ((x + gap / 2, y - gap - LABEL_SIZE), "left"),
        ((x - gap / 2 - width, y + gap), "right"),
        ((x - gap / 2 - width, y - gap - LABEL_SIZE), "right"),
    ]


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def swatch(style: Style, name: str, size: float = 9, is_hollow: bool = False) -> Markup:
    """Return a small picture of a mark for a legend; screen readers skip it for the text beside it."""
    plot = Plot(16, 16, 0, 0, 0, 0)
    plot.axes.set_axis_off()
    plot.axes.set(xlim=(-1, 1), ylim=(-1, 1))
    plot.mark(0, 0, style, size, **({"markerfacecolor": PAPER} if is_hollow else {}))
    root = _cleaned(plot.axes.figure, name)
    root.set("aria-hidden", "true")
    return _markup(root)


def with_variables(style: str) -> str:
    """Return the style of an element with the page's colours in place of their placeholders."""
    return PLACEHOLDER.sub(lambda match: f"var({VARIABLES[match[0]]})", style)


def _markup(root: ElementTree.Element) -> Markup:
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # the tree's texts are escaped


def _cleaned(figure: Figure, name: str) -> ElementTree.Element:
    """Return the SVG of a figure without what the page has already; its ids begin with the name."""
    root = ElementTree.fromstring(_drawn(figure))
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style")]:
            parent.remove(child)
    used = _used_ids(root)
    for element in root.iter():
        _clean(element, name, used)
    _unwrap(root)
    # The page's style sets its size; the view box keeps its shape.
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    return root


def _drawn(figure: Figure) -> str:
    text = io.StringIO()
    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        # The reader's browser has fonts for the glyphs that matplotlib's lack.
        warnings.filterwarnings("ignore", message="Glyph ", category=UserWarning)
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return text.getvalue()


def _used_ids(root: ElementTree.Element) -> set[str]:
    used = set()
    for element in root.iter():
        for key, value in element.attrib.items():
            used |= {value[1:]} if key == f"{{{XLINK}}}href" else set(REFERENCE.findall(value))
    return used


def _clean(element: ElementTree.Element, name: str, used: set[str]) -> None:
    """Give an element the page's colours and font, short numbers, and an id only if something refers to it."""
    for key, value in list(element.attrib.items()):
        if key == "id" and value not in used:
            del element.attrib[key]
        elif key == "id":
            element.set(key, f"{name}-{value}")
        elif key == f"{{{XLINK}}}href":
            element.set(key, f"#{name}-{value[1:]}")
        else:
            value = REFERENCE.sub(rf"url(#{name}-\1)", _short(value))
            element.set(key, with_variables(FONT.sub("", value)) if key == "style" else value)
    element.tail = None
    if not element.tag.endswith("}text") and element.text is not None:
        element.text = element.text.strip() or None


def _short(value: str) -> str:
    return " ".join(DECIMALS.sub(lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), value).split())


def _unwrap(element: ElementTree.Element) -> None:
    """Replace groups that have no attributes by their content."""
    for child in list(element):
        _unwrap(child)
        if child.tag == f"{{{SVG}}}g" and not child.attrib:
            place = list(element).index(child)
            element[place : place + 1] = list(child)
