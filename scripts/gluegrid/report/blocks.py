"""What the page consists of. All texts are plain: report.html escapes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup


@dataclass(frozen=True)
class Text:
    """A paragraph. `kind` is `note` for what is said of the content, else empty."""

    block: ClassVar[str] = "text"
    text: str
    kind: str = ""


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    block: ClassVar[str] = "heading"
    text: str
    name: str = ""


@dataclass(frozen=True)
class Items:
    """A list of lines."""

    block: ClassVar[str] = "items"
    lines: Sequence[str]


@dataclass(frozen=True)
class Cell:
    """A cell of a table, or a fact: its text, small lines below it, and where it leads."""

    text: str
    small: Sequence[str] = ()
    href: str = ""
    is_best: bool = False
    is_number: bool = False
    is_code: bool = False


@dataclass(frozen=True)
class Table:
    """A table; the first cell of each row names the row."""

    block: ClassVar[str] = "table"
    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Figure:
    """A figure with its caption."""

    svg: Markup
    title: str = ""
    subtitle: str = ""


@dataclass(frozen=True)
class Figures:
    """Figures beside each other, as many as there is room for. `is_wide`: at most two."""

    block: ClassVar[str] = "figures"
    figures: Sequence[Figure]
    is_wide: bool = False


@dataclass(frozen=True)
class Legend:
    """What the marks of the figures below it mean."""

    block: ClassVar[str] = "legend"
    items: Sequence[tuple[Markup, str]]


@dataclass(frozen=True)
class Facts:
    """Terms, and what each is."""

    block: ClassVar[str] = "facts"
    facts: Sequence[tuple[str, Sequence[Cell]]]


@dataclass(frozen=True)
class Details:
    """What is shown when it is asked for. `name` is its address on the page."""

    block: ClassVar[str] = "details"
    summary: str
    blocks: Sequence["Block"]
    name: str = ""
    is_open: bool = False


Block = Text | Heading | Items | Table | Figures | Legend | Facts | Details


@dataclass(frozen=True)
class Section:
    """A section of the page; `name` is its address."""

    name: str
    title: str
    blocks: Sequence[Block]


def number(text: str) -> Cell:
    """Return a cell with a number."""
    return Cell(text, is_number=True)


def code(text: str, href: str = "") -> Cell:
    """Return a cell with a hash, a path or what else is to be copied."""
    return Cell(text, href=href, is_code=True)
