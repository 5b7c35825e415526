"""What all figures of the report share: size, axes, marks, and the way to SVG. Lengths are in pixels of the page."""

import io
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gluegrid.common import escaping

# Colours that stand in for the page's own, which change with the reader's scheme.
INK, MUTED, GRID, PAPER = "#000001", "#000002", "#000003", "#000004"
SERIES = tuple(f"#0001{number:02x}" for number in range(8))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper"} | {
    colour: f"--series-{number + 1}" for number, colour in enumerate(SERIES)
}
STAND_IN = re.compile("|".join(VARIABLES))

WIDTH, HEIGHT = 380, 230  # three figures beside each other on a laptop, one on a telephone
LONGEST_LABEL, LABELS = 21, 140  # characters of a name beside an axis, and the room for them
PIXELS_PER_INCH = 72  # of matplotlib's SVG
SMALL, LARGE = 4.2, 8.0  # diameters of the marks of one seed, and of a mean
LEAST_SPAN = 1.0  # of an axis of scores, in percent: differences smaller than that should not look large

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
REFERENCE = re.compile(r"url\(#([^)]+)\)")
DECIMALS = re.compile(r"-?\d+\.\d{2,}")
FONT = re.compile(r"font-family: [^;]+(; |$)")
# Names in a figure are texts, not formulas between dollar signs; text stays text, and equal figures are equal bytes.
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
    """Return a style of its own for each of at most eight names."""
    return dict(zip(names, map(Style, SERIES, MARKERS), strict=False))


def label(name: str) -> str:
    """Return a name on one line that is short enough to stand beside an axis."""
    return escaping.shortened(escaping.one_line(name), LONGEST_LABEL)


class Plot:
    """A figure that is being drawn, with the room around its axes: `axes` are matplotlib's."""

    def __init__(
        self,
        width: float = WIDTH,
        height: float = HEIGHT,
        left: float = 48,
        right: float = 12,
        top: float = 8,
        bottom: float = 40,
    ):
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
        """Draw a mark, or several; its edge has the text's colour, so that it is seen on any ground."""
        edge = {"markeredgecolor": INK, "markeredgewidth": 0.8}
        plain = {"color": style.colour, "linestyle": "none", "zorder": 4, "clip_on": False} | edge
        self.axes.plot(x, y, marker=style.marker, markersize=size, **(plain | options))

    def mark_seeds(self, xs: Sequence[float], ys: Sequence[float], style: Style) -> None:
        """Draw the small marks of single runs."""
        self.mark(xs, ys, Style(style.colour, "o"), SMALL, alpha=0.55, markeredgewidth=0, zorder=3)

    def few_ticks(self, which: str, most: int = 5, is_whole: bool = False) -> None:
        """Let an axis have a few round numbers; only whole ones where it counts something."""
        locator = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10], integer=is_whole)
        getattr(self.axes, f"{which}axis").set_major_locator(locator)

    def widen(self, which: str, values: Iterable[float], least: float = LEAST_SPAN) -> None:
        """Let an axis reach a little beyond its values, and span at least this much."""
        values = list(values)
        low, high = (min(values), max(values)) if values else (0.0, 0.0)
        extra = max(0.08 * (high - low), (least - (high - low)) / 2, 1e-9)
        getattr(self.axes, f"set_{which}lim")(low - extra, high + extra)

    def rows(self, names: Sequence[str]) -> None:
        """Let the y axis have a row for each name, the first one on top."""
        self.axes.set_yticks(range(len(names)), [label(name) for name in names])
        self.axes.tick_params(axis="y", labelcolor=INK)
        self.axes.set_ylim(len(names) - 0.4, -0.6)
        self.axes.grid(visible=False, axis="y")

    def scores_over(self, what: str, scores: Iterable[float]) -> None:
        """Let the y axis be that of these scores, in percent, and name both axes."""
        self.widen("y", scores)
        self.few_ticks("y")
        self.name_axes(x=what, y="Score on validation")

    def name_axes(self, x: str = "", y: str = "") -> None:
        """Say what the axes show."""
        self.axes.set_xlabel(x, color=MUTED, size=11, labelpad=5)
        self.axes.set_ylabel(y, color=MUTED, size=11, labelpad=6)

    def svg(self, name: str, title: str, description: str) -> Markup:
        """Return the figure as an SVG element for a page on which no other has this name.

        Readers of the screen are told the title and the description.
        """
        root = _cleaned(self.axes.figure, name)
        root.set("role", "img")
        root.set("aria-labelledby", f"{name}-title {name}-description")
        for place, (tag, part, text) in enumerate((("title", "title", title), ("desc", "description", description))):
            element = ElementTree.Element(f"{{{SVG}}}{tag}", {"id": f"{name}-{part}"})
            element.text = escaping.one_line(text)
            root.insert(place, element)
        return _markup(root)


def swatch(style: Style, name: str, size: float = 9, is_hollow: bool = False) -> Markup:
    """Return a small picture of a mark for a legend; readers of the screen pass it over, for the text beside it."""
    plot = Plot(16, 16, 0, 0, 0, 0)
    plot.axes.set_axis_off()
    plot.axes.set(xlim=(-1, 1), ylim=(-1, 1))
    plot.mark(0, 0, style, size, **({"markerfacecolor": PAPER} if is_hollow else {}))
    root = _cleaned(plot.axes.figure, name)
    root.set("aria-hidden", "true")
    return _markup(root)


def with_variables(style: str) -> str:
    """Return the style of an element with the page's colours in place of the stand-ins."""
    return STAND_IN.sub(lambda match: f"var({VARIABLES[match[0]]})", style)


def _markup(root: ElementTree.Element) -> Markup:
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # the tree's texts are escaped


def _cleaned(figure: Figure, name: str) -> ElementTree.Element:
    """Return the SVG of a figure without what the page has already, its ids beginning with the name."""
    root = ElementTree.fromstring(_drawn(figure))
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style")]:
            parent.remove(child)
    used = _used_ids(root)
    for element in root.iter():
        _clean(element, name, used)
    _unwrap(root)
    # Its size is that of the page's style; the view box keeps its shape.
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    return root


def _drawn(figure: Figure) -> str:
    text = io.StringIO()
    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        # The reader's browser has fonts for what matplotlib's own lacks.
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
    """Let an element have the page's colours and font, short numbers, and an id only if something refers to it."""
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
    """Put the content of groups that say nothing in their place."""
    for child in list(element):
        _unwrap(child)
        if child.tag == f"{{{SVG}}}g" and not child.attrib:
            place = list(element).index(child)
            element[place : place + 1] = list(child)
