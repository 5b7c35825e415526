"""Hostile texts, and how a CommonMark renderer shows them."""

from hypothesis import strategies as st
from markdown_it import MarkdownIt

RENDERER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
PIECES = [
    *("\\", "`", "*", "_", "[", "]", "(", ")", "<", ">", "|", "~~", "!", "#", "&", ";", "$", ":", "//", "-", "+", "="),
    *("<b>", "</td>", "<!--", "![x](y)", "[x]: y", "&lt;", "&#60;", "http://a.b", "www.a.b", "<a@b.c>", "1.", "```"),
    *("\n", "\r\n", "\t", "\x00", "\x1b[31m", "\x9b", "\u2028", "\u202e", "\u2066", "\ufeff", "\ud800", " ", "a", "é"),
]
HOSTILE = st.lists(st.sampled_from(PIECES) | st.characters(), max_size=12).map("".join)


def texts_of(markdown: str) -> list[str]:
    """Return the texts of headings, paragraphs and cells that Markdown renders to, code spans in backticks.

    Fails where one of them is more than text: a tag, a link, an image, emphasis.
    """
    return [_text_of(token) for token in RENDERER.parse(markdown) if token.type == "inline"]


def rows_of(markdown: str) -> list[list[str]]:
    """Return the rows of texts of Markdown that is one table and nothing else."""
    tokens = RENDERER.parse(markdown)
    assert [token.type for token in tokens if token.level == 0] == ["table_open", "table_close"], markdown
    rows: list[list[str]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(_text_of(token))
    return rows


def _text_of(token) -> str:
    kinds = {child.type for child in token.children}
    assert kinds <= {"text", "code_inline"}, (token.content, kinds)
    return "".join(f"`{child.content}`" if child.type == "code_inline" else child.content for child in token.children)
