"""Texts that come from outside, made harmless for where they are shown: Markdown, a terminal, a spreadsheet."""

import re
import unicodedata

# Control characters, invisible and bidirectional ones, and halves of characters; not what joins letters and emoji.
HARMFUL = {"Cc", "Cf", "Cs"}
JOINERS = "\u200c\u200d"
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

# What starts or ends code, emphasis, links, tags, entities, strikethrough, formulas, columns, headings, bare addresses.
# An underscore before a letter or digit ends no emphasis, and names are full of them.
MARKUP = re.compile(r"[\\`*\[\]<>|~$]|_(?![^\W_])|(?<!\S)#|&(?=#?\w+;)|:(?=//)|(?<=\bwww)\.", re.IGNORECASE)


def one_line(text: str) -> str:
    """Return a text on one line, without characters that steer a terminal or hide or turn what stands around them."""
    return "".join(REPLACEMENT if _is_harmful(character) else character for character in " ".join(text.split()))


def markdown(text: str) -> str:
    """Return Markdown that renders as the text itself, on one line, and fits into a table's column."""
    return MARKUP.sub(r"\\\g<0>", one_line(text))


def code(text: str) -> str:
    """Return a code span with a text on one line; it fits into a table's column."""
    return "`" + one_line(text).replace("`", "'").replace("|", "\\|") + "`"


def spreadsheet(text: str) -> str:
    """Return a text for a cell of a CSV file, its lines ending in a newline.

    An apostrophe goes before one that begins as a formula does, which a spreadsheet would compute.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{lines}" if lines.lstrip().startswith(("=", "+", "-", "@")) else lines


def encodable(text: str) -> str:
    """Return a text that UTF-8 can hold: a half of a character, as an undecodable path has, is written out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _is_harmful(character: str) -> bool:
    return unicodedata.category(character) in HARMFUL and character not in JOINERS
