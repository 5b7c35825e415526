"""From the content of the page to its HTML."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gluegrid.common import escaping
from gluegrid.page.blocks import Section

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Tile:
    """A number at the top of the page."""

    term: str
    text: str
    small: str = ""


@dataclass(frozen=True)
class Page:
    """The content of the page."""

    title: str
    lead: str
    tiles: Sequence[Tile]
    sections: Sequence[Section]
    footer: str


def html(page: Page) -> str:
    """Return the page, in which every text is text."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=False,
        keep_trailing_newline=True,
    )
    environment.filters["one_line"] = escaping.one_line
    style = Markup((FOLDER / "style.css").read_text(encoding="utf-8"))  # ours
    return environment.get_template("report.html").render(style=style, **vars(page))
