"""Escape text from outside for Markdown, a terminal, a spreadsheet or a log, and quote it in messages."""

import difflib
import json
import os
import re
import unicodedata

# Control, invisible and bidirectional characters, and lone surrogates; but not those that join letters and emoji.
HARMFUL = {"Cc", "Cf", "Cs"}
JOINERS = "\u200c\u200d"
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

# What starts or ends code, emphasis, links, tags, entities, strikethrough, formulas, columns, headings and bare URLs.
# An underscore before a letter or digit ends no emphasis, and names are full of them.
MARKUP = re.compile(r"[\\`*\[\]<>|~$]|_(?![^\W_])|(?<!\S)#|&(?=#?\w+;)|:(?=//)|(?<=\bwww)\.", re.IGNORECASE)

LONGEST_VALUE = 60
LONGEST_LIST = 200  # characters of a list of names in a message
LONGEST_COMPARED = 300  # characters of a name whose nearest match is searched
MOST_COMPARED = 1000  # known names among which it is searched
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
    """Return a text on one line, without characters that control a terminal or hide or reorder other text."""
    return "".join(REPLACEMENT if _is_harmful(character) else character for character in " ".join(text.split()))


def markdown(text: str) -> str:
    """Return Markdown that renders as the text itself, on one line, also inside a table."""
    return MARKUP.sub(r"\\\g<0>", one_line(text))


def code(text: str) -> str:
    """Return a code span with the text on one line, also for use inside a table."""
    return "`" + one_line(text).replace("`", "'").replace("|", "\\|") + "`"


def spreadsheet(text: str) -> str:
    """Return a text for a cell of a CSV file, with Unix line ends.

    A leading apostrophe keeps a spreadsheet from running a text that looks like a formula.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{lines}" if lines.lstrip().startswith(("=", "+", "-", "@")) else lines


def encodable(text: str) -> str:
    """Return a text that UTF-8 can encode: lone surrogates, as in undecodable paths, are backslash-escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _is_harmful(character: str) -> bool:
    return unicodedata.category(character) in HARMFUL and character not in JOINERS


def quoted(value: object) -> str:
    """Return a value as one would write it, shortened if it is long."""
    return shortened(json.dumps(value) if value is None or isinstance(value, bool) else repr(value))


def shortened(text: str, longest: int = LONGEST_VALUE) -> str:
    """Return a text cut to `longest` characters, ending in `...` if it was longer."""
    return text if len(text) <= longest else text[: longest - 3] + "..."


def listed(names: list[str]) -> str:
    """Return names, separated by commas, on one line of bounded length."""
    return shortened(", ".join(name if name.isprintable() else repr(name) for name in names), LONGEST_LIST) or "none"


def nearest(name: object, known: list[str]) -> str | None:
    """Return the known name that was probably meant; None if none is similar."""
    # NFKC turns full-width and mathematical letters into plain ones.
    plain = unicodedata.normalize("NFKC", str(name)[:LONGEST_COMPARED])
    return next(iter(difflib.get_close_matches(plain, known[:MOST_COMPARED], n=1)), None)


def lookalike(text: object) -> str:
    """Describe the first character of a text that is not printable ASCII; '' if there is none."""
    if not isinstance(text, str):
        return ""
    places = (place for place, character in enumerate(text) if not (character.isascii() and character.isprintable()))
    place = next(places, None)
    return "" if place is None else character_at(text, place)


def character_at(text: str, place: int) -> str:
    """Describe the character at a place, counted from 0, as in "character 2 is 'a', LATIN SMALL LETTER A"."""
    return f"character {place + 1} is {named(text[place])}"


def named(character: str) -> str:
    """Return a character, or its code point if it is not visible, and its Unicode name."""
    kind = unicodedata.category(character)
    name = unicodedata.name(character, NAMELESS.get(kind, "a character without a name"))
    is_visible = character.isprintable() and not kind.startswith("M")
    return f"{repr(character) if is_visible else f'U+{ord(character):04X}'}, {name}"


def redacted(text: str) -> str:
    """Return the text without tokens of the hub and without user names and passwords in URLs."""
    for variable in TOKEN_VARIABLES:
        if token := os.environ.get(variable, "").strip():
            text = text.replace(token, HIDDEN)
    return _LOGIN_IN_ADDRESS.sub(HIDDEN, _TOKEN_OF_THE_HUB.sub(HIDDEN, text))
