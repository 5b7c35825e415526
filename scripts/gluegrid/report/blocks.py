"""The parts of the page. All texts are plain: report.html escapes them."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup


class Block:
    """A part of a section; report.html has a macro for each kind."""

    @property
    def macro(self) -> str:
        """The name of its macro."""
        return type(self).__name__.lower()


@dataclass(frozen=True)
class Text(Block):
    """A paragraph. `kind` is `note` for a remark on the content, else empty."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Heading(Block):
    """A heading within a section."""

    text: str


@dataclass(frozen=True)
class Items(Block):
    """A list of lines."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Entry:
    """The content of a table's field or of a term: its text, small lines below it, and its link."""

    text: str
    small: Sequence[str] = ()
    href: str = ""
    is_best: bool = False
    is_number: bool = False
    is_code: bool = False


@dataclass(frozen=True)
class Table(Block):
    """A table; the first entry of each row names the row."""

    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Entry]]


@dataclass(frozen=True)
class Figure:
    """A figure with its caption."""

    svg: Markup
    title: str = ""
    subtitle: str = ""


@dataclass(frozen=True)
class Figures(Block):
    """Figures beside each other, as many as fit. `is_wide`: two at most, which scroll where they would be illegible."""

    figures: Sequence[Figure]
    is_wide: bool = False


@dataclass(frozen=True)
class Legend(Block):
    """The meaning of the marks in the figures below it."""

    items: Sequence[tuple[Markup, str]]


@dataclass(frozen=True)
class Facts(Block):
    """Terms with their values."""

    facts: Sequence[tuple[str, Sequence[Entry]]]


@dataclass(frozen=True)
class Details(Block):
    """Blocks that open on a click. `name` is their address on the page."""

    summary: str
    blocks: Sequence[Block]
    name: str = ""
    is_open: bool = False


@dataclass(frozen=True)
class Section:
    """A section of the page; `name` is its address."""

    name: str
    title: str
    blocks: Sequence[Block]


def table(
    caption: str, headers: Sequence[str], rows: Iterable[Iterable[str | Entry]], numbers: Collection[str] = ()
) -> Table:
    """Return a table of texts and entries, with numbers in the columns with these headers."""

    def entry(header: str, value: str | Entry) -> Entry:
        return value if isinstance(value, Entry) else Entry(value, is_number=header in numbers)

    return Table(caption, headers, [[entry(*pair) for pair in zip(headers, row, strict=True)] for row in rows])


def code(text: str, href: str = "") -> Entry:
    """Return an entry for a hash, a path or anything else to copy."""
    return Entry(text, href=href, is_code=True)
