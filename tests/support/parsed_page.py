"""The elements of an HTML page, as a parser sees them."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

EMPTY = {"meta", "link", "img", "br", "hr", "input"}


@dataclass
class Element:
    """An element with its content: texts and elements in their order."""

    tag: str
    attributes: dict[str, str]
    content: list = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text in it."""
        return "".join(part if isinstance(part, str) else part.text for part in self.content)

    def all(self, tag: str = "", **attributes: str) -> list["Element"]:
        """Return the elements in it with this tag and these attributes."""
        found = []
        for part in self.content:
            if isinstance(part, Element):
                is_wanted = tag in ("", part.tag) and attributes.items() <= part.attributes.items()
                found += [part] * is_wanted + part.all(tag, **attributes)
        return found

    def one(self, tag: str = "", **attributes: str) -> "Element":
        """Return the only such element."""
        (found,) = self.all(tag, **attributes)
        return found

    @property
    def rows(self) -> list[list[str]]:
        """The texts of a table, without its small lines."""
        cells = [[cell for cell in row.content if isinstance(cell, Element)] for row in self.all("tr")]
        return [[_first_line(cell) for cell in row] for row in cells]


def _first_line(cell: Element) -> str:
    hidden = {"small", "span"}
    parts = [part for part in cell.content if isinstance(part, str) or part.tag not in hidden]
    return "".join(part if isinstance(part, str) else _first_line(part) for part in parts)


class _Parser(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open = [Element("", {})]

    def handle_starttag(self, tag: str, attrs: list) -> None:
        element = Element(tag, {key: value or "" for key, value in attrs})
        self.open[-1].content.append(element)
        if tag not in EMPTY:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.open[-1].content.append(Element(tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> ends <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].content.append(data)


def parsed(html: str) -> Element:
    """Return the page; fail if an element is not closed properly."""
    parser = _Parser()
    parser.feed(html)
    parser.close()
    (root,) = parser.open
    return root
