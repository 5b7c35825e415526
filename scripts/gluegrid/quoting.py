"""How messages show what a user wrote: quoted, shortened, and odd characters by their names."""

import difflib
import json
import unicodedata

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
