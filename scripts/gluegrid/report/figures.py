"""What all figures of the report share: their size, axes and marks. Lengths are in pixels of the page."""

import io
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gluegrid.common import escaping

INK, MUTED, GRID, PAPER = "#000001", "#000002", "#000003", "#000004"
SERIES = tuple(f"#0001{number:02x}" for number in range(8))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper"} | {
    colour: f"--series-{number + 1}" for number, colour in enumerate(SERIES)
}
STAND_IN = re.compile("|".join(VARIABLES))


@dataclass(frozen=True)
class Style:
    """How a model is drawn everywhere in the report."""

    colour: str
    marker: str


OTHER = Style(MUTED, "o")


def styles(names: Sequence[str]) -> dict[str, Style]:
    """Return a style of its own for each of at most eight names."""
    return {name: Style(*look) for name, look in zip(names, zip(SERIES, MARKERS, strict=True), strict=False)}


def with_variables(style: str) -> str:
    """Return the style of an element with variables in place of the stand-ins."""
    return STAND_IN.sub(lambda found: f"var({VARIABLES[found[0]]})", style)


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


SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
REFERENCE = re.compile(r"url\(#([^)]+)\)")
DECIMALS = re.compile(r"-?\d+\.\d{2,}")
FONT = re.compile(r"font-family: [^;]+(; |$)")
# Names in a figure are texts, not formulas between dollar signs; text stays text, and equal figures are equal bytes.
SETTINGS = {"text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "gluegrid", "font.size": 11}

ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", XLINK)


def to_svg(figure: Figure, name: str, title: str, description: str) -> Markup:
    """Return a figure as an SVG element for a page on which no other has this name.

    Readers of the screen are told the title and the description.
    """
    root = _cleaned(figure, name)
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-description")
    for place, (kind, of_kind, text) in enumerate((("title", "title", title), ("desc", "description", description))):
        element = ElementTree.Element(f"{{{SVG}}}{kind}", {"id": f"{name}-{of_kind}"})
        element.text = text
        root.insert(place, element)
    return _markup(root)


def decoration(figure: Figure, name: str) -> Markup:
    """Return a figure as an SVG element that readers of the screen pass over: a text beside it says the same."""
    root = _cleaned(figure, name)
    root.set("aria-hidden", "true")
    return _markup(root)


def _markup(root: ElementTree.Element) -> Markup:
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # the tree's texts are escaped


def _cleaned(figure: Figure, name: str) -> ElementTree.Element:
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


def _unwrap(element: ElementTree.Element) -> None:
    """Put the content of groups that say nothing in their place."""
    for child in list(element):
        _unwrap(child)
        if child.tag == f"{{{SVG}}}g" and not child.attrib:
            place = list(element).index(child)
            element[place : place + 1] = list(child)


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
        if key == "id":
            if value not in used:
                del element.attrib[key]
                continue
            value = f"{name}-{value}"
        elif key == f"{{{XLINK}}}href":
            value = f"#{name}-{value[1:]}"
        else:
            value = REFERENCE.sub(rf"url(#{name}-\1)", _short(value))
        element.set(key, with_variables(FONT.sub("", value)) if key == "style" else value)
    element.tail = None
    if not element.tag.endswith("}text") and element.text is not None:
        element.text = element.text.strip() or None


def _short(value: str) -> str:
    return " ".join(DECIMALS.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), value).split())
