"""Texts from outside, made harmless for Markdown, a terminal, a spreadsheet or a log; and as messages quote them."""

import difflib
import json
import os
import re
import unicodedata

# Control characters, invisible and bidirectional ones, and halves of characters; not what joins letters and emoji.
HARMFUL = {"Cc", "Cf", "Cs"}
JOINERS = "\u200c\u200d"
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

# What starts or ends code, emphasis, links, tags, entities, strikethrough, formulas, columns, headings, bare addresses.
# An underscore before a letter or digit ends no emphasis, and names are full of them.
MARKUP = re.compile(r"[\\`*\[\]<>|~$]|_(?![^\W_])|(?<!\S)#|&(?=#?\w+;)|:(?=//)|(?<=\bwww)\.", re.IGNORECASE)

LONGEST_VALUE = 60
LONGEST_LIST = 200  # characters of a list of names in a message
LONGEST_COMPARED = 300  # characters of a name that is looked for
MOST_COMPARED = 1000  # known names
NAMELESS = {
    "Cc": "a control character",
    "Cs": "half of a surrogate pair",
    "Co": "a character of private use",
    "Cn": "no character of Unicode",
}

TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
HIDDEN = "***"
_TOKEN_OF_THE_HUB = re.compile(r"\bhf_[A-Za-z0-9]{8,}")
_LOGIN_IN_ADDRESS = re.compile(r"(?<=://)[^/\s@]+(?=@)")


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


def quoted(value: object) -> str:
    """Return a value as it would be written, shortened if it is long."""
    return shortened(json.dumps(value) if value is None or isinstance(value, bool) else repr(value))


def shortened(text: str, longest: int = LONGEST_VALUE) -> str:
    """Return a text cut to `longest` characters, the last three of which then say so."""
    return text if len(text) <= longest else text[: longest - 3] + "..."


def listed(names: list[str]) -> str:
    """Return names on one line of bounded length."""
    return shortened(", ".join(name if name.isprintable() else repr(name) for name in names), LONGEST_LIST) or "none"


def nearest(name: object, known: list[str]) -> str | None:
    """Return which of some names was probably meant by another."""
    # NFKC makes wide and mathematical letters plain ones.
    plain = unicodedata.normalize("NFKC", str(name)[:LONGEST_COMPARED])
    return next(iter(difflib.get_close_matches(plain, known[:MOST_COMPARED], n=1)), None)


def lookalike(text: object) -> str:
    """Name the first character of a text that no English keyboard has; '' if there is none."""
    if not isinstance(text, str):
        return ""
    places = (place for place, character in enumerate(text) if not (character.isascii() and character.isprintable()))
    place = next(places, None)
    return "" if place is None else character_at(text, place)


def character_at(text: str, place: int) -> str:
    """Return, such as "character 2 is 'a', LATIN SMALL LETTER A", what stands at a place of a text, counted from 0."""
    return f"character {place + 1} is {named(text[place])}"


def named(character: str) -> str:
    """Return a character, or its number if it cannot be seen alone, and its Unicode name."""
    kind = unicodedata.category(character)
    name = unicodedata.name(character, NAMELESS.get(kind, "a character without a name"))
    is_visible = character.isprintable() and not kind.startswith("M")
    return f"{repr(character) if is_visible else f'U+{ord(character):04X}'}, {name}"


def redacted(text: str) -> str:
    """Return the text without tokens of the hub and without user names and passwords in addresses."""
    for variable in TOKEN_VARIABLES:
        if token := os.environ.get(variable, "").strip():
            text = text.replace(token, HIDDEN)
    return _LOGIN_IN_ADDRESS.sub(HIDDEN, _TOKEN_OF_THE_HUB.sub(HIDDEN, text))
