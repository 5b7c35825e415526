"""Matplotlib's figures as SVG inside a page: its colours and font, ids of their own, a title and a description."""

import io
import re
import warnings
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from gluegrid.page.colours import with_variables

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
